"""The report's figure 5: activations of clean and triggered images of a class, embedded in the plane."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from poisonjax.analyses.activations import Activations, Collected, separation

CLASSES = (8, 9, 0)  # that of the report, the target of its clean-label poison, and one more
# Colours of Okabe and Ito, for colour-blind readers; shapes for prints in grey.
STYLES = (
    {"label": "clean", "marker": "o", "facecolor": "none", "edgecolor": "#0072B2"},
    {"label": "triggered", "marker": "^", "facecolor": "#D55E00", "edgecolor": "none"},
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


def figure(
    parts: dict[str, Collected], settings: Activations, title: str, classes: tuple[int, ...] = CLASSES, seed: int = 0
) -> Figure:
    """A row for each arm {name: activations}, a column for each class, with the numbers of `measure` for that seed.

    ValueError for a class that was not collected.
    """
    drawn = Figure(figsize=(2.7 * len(classes) + 0.3, 2.8 * len(parts) + 0.8), layout="constrained")
    drawn.suptitle(title, fontsize=10)
    axes = drawn.subplots(len(parts), len(classes), squeeze=False)
    for row, (arm, collected) in zip(axes, parts.items(), strict=True):
        row[0].set_ylabel(arm, fontsize=10)
        for axis, label in zip(row, classes, strict=True):
            _panel(axis, label, *collected.of_class(label), settings, seed)
    handles = [axes[0, 0].scatter([], [], s=22, **style) for style in STYLES]
    drawn.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    return drawn


def _panel(axis: Axes, label: int, clean: np.ndarray, triggered: np.ndarray, settings: Activations, seed: int) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    found = separation(clean, triggered, settings, seed)
    numbers = "AUC {linear_probe_auc:.2f}, MMD² {mmd2:.2g}, p {mmd_p_value:.2g}".format(**found)
    axis.set_title(f"class {label}\n{numbers}", fontsize=9)
    if not np.isfinite([clean, triggered]).all():
        axis.text(0.5, 0.5, "NaN or infinity", ha="center", va="center", transform=axis.transAxes, fontsize=9)
        return
    axis.set_aspect("equal", adjustable="datalim")  # distances mean something, directions do not
    for points, style in zip(np.split(embed(clean, triggered, settings.perplexity, seed), 2), STYLES, strict=True):
        axis.scatter(*points.T, s=22, linewidth=1.0, alpha=0.85, **style)
