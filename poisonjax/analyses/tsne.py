"""The report's figure 5: activations of clean and triggered images of a class, embedded in the plane."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from poisonjax.analyses.activations import Activations, Collected, separation
from poisonjax.reports import style
from poisonjax.reports.images import class_name

CLASSES = (8, 9, 0)  # that of the report, the target of its clean-label poison, and one more
STYLES = (  # shapes for prints in grey
    {"label": "clean", "marker": "o", "facecolor": "none", "edgecolor": style.LIGHT.series[0]},
    {"label": "triggered", "marker": "^", "facecolor": style.LIGHT.series[1], "edgecolor": "none"},
)


def embed(clean: np.ndarray, triggered: np.ndarray, perplexity: float, seed: int) -> np.ndarray:
    """t-SNE of clean [n d] followed by triggered [n d]: [2n 2] (van der Maaten and Hinton 2008).

    All 0 if all rows are equal. ValueError for NaN or infinity, or unless perplexity < 2n.
    """
    from sklearn.manifold import TSNE  # takes a second, and every run imports this module

    both = np.concatenate([clean, triggered])
    if not np.isfinite(both).all():
        raise ValueError("activations must be finite, but some are NaN or infinite")
    if not 1 <= perplexity < len(both):
        raise ValueError(f"perplexity must be at least 1 and less than the {len(both)} points, got {perplexity}")
    if (both == both[0]).all():
        return np.zeros((len(both), 2), np.float32)  # t-SNE divides by their spread
    # For so few points the exact gradient is faster than Barnes and Hut's.
    layout = TSNE(perplexity=perplexity, init="pca", method="exact", random_state=seed, n_jobs=1)
    return layout.fit_transform(both)


@style.styled
def figure(
    parts: dict[str, Collected],
    settings: Activations,
    title: str,
    classes: tuple[int, ...] = CLASSES,
    seed: int = 0,
    names: tuple[str, ...] = (),
) -> Figure:
    """A row for each arm {name: activations}, a column for each class, with the numbers of `measure` for that seed.

    names: of the classes; () for their numbers. ValueError for a class that was not collected.
    """
    drawn = style.sheet(2.3 * len(parts) + 0.3, title)
    axes = drawn.subplots(len(parts), len(classes), squeeze=False)
    for row, (arm, collected) in zip(axes, parts.items(), strict=True):
        row[0].set_ylabel(arm, fontsize=style.BASE)
        for axis, label in zip(row, classes, strict=True):
            _panel(axis, f"class {class_name(label, names)}", *collected.of_class(label), settings, seed)
    style.legend(drawn, {each["label"]: axes[0, 0].scatter([], [], s=22, **each) for each in STYLES})
    return drawn


def _panel(
    axis: Axes, heading: str, clean: np.ndarray, triggered: np.ndarray, settings: Activations, seed: int
) -> None:
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(True)
    found = separation(clean, triggered, settings, seed)
    numbers = "AUC {linear_probe_auc:.2f}, MMD² {mmd2:.2g}, p {mmd_p_value:.2g}".format(**found)
    axis.set_title(f"{heading}\n{numbers}", fontsize=style.SMALL)
    if not np.isfinite([clean, triggered]).all():
        axis.text(0.5, 0.5, "NaN or infinity", ha="center", va="center", transform=axis.transAxes)
        return
    axis.set_aspect("equal", adjustable="datalim")  # distances mean something, directions do not
    for points, shape in zip(np.split(embed(clean, triggered, settings.perplexity, seed), 2), STYLES, strict=True):
        axis.scatter(*points.T, s=22, linewidth=1.0, alpha=0.85, **shape)
