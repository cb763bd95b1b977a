"""Separation of triggered from clean images by the activations of a network (the report's figure 5).

SciPy and scikit-learn are imported where they are used, since that takes seconds and settings do not need them.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np

from poisonjax.evaluation.analysis import Analysis, Figure, Subject, Table
from poisonjax.evaluation.victim import Victim, map_rows
from poisonjax.poisons.base import Poison
from poisonjax.reports import statistics
from poisonjax.reports.table import plain
from poisonjax.types import Examples, take, to_unit

LABELS = {
    "linear_probe_auc": "AUC of a linear probe",
    "silhouette": "silhouette",
    "mmd2": "MMD²",
    "mmd_p_value": "p-value of the MMD, mean over classes",
}


class Collected(NamedTuple):
    """Activations before the last layer, on the host; row i of both is of the same image.

    clean, triggered: [n d] float32. labels: [n] the true classes, ascending; an all-to-one poison's target is
    among them.
    """

    clean: np.ndarray
    triggered: np.ndarray
    labels: np.ndarray

    def of_class(self, label: int) -> tuple[np.ndarray, np.ndarray]:
        """Clean and triggered activations [m d] of the images of one class. ValueError if there are none."""
        if label not in self.labels:
            raise ValueError(f"class must be one of those collected, {np.unique(self.labels).tolist()}, got {label}")
        return self.clean[self.labels == label], self.triggered[self.labels == label]


@dataclasses.dataclass(frozen=True)
class Activations(Analysis):
    """A comparison of the activations of clean and triggered images of each class.

    per_class: images of each class, each clean and triggered. permutations: of the test of the MMD. perplexity: of
    the t-SNE. folds: of the cross-validation. ValueError for an impossible value.
    """

    per_class: int = 50
    permutations: int = 500
    perplexity: float = 30.0
    folds: int = 5

    name: ClassVar[str] = "activations"
    arrays: ClassVar[type] = Collected
    heading: ClassVar[str] = "Activations before the last layer, triggered against clean images of each class"

    def __post_init__(self):
        for field, least in (("permutations", 1), ("folds", 2)):
            if getattr(self, field) < least:
                raise ValueError(f"{field} must be at least {least}, got {getattr(self, field)}")
        if self.per_class < self.folds:
            raise ValueError(f"per_class must be at least folds, which is {self.folds}, got {self.per_class}")
        if not 1 <= self.perplexity < 2 * self.per_class:
            raise ValueError(
                f"perplexity must be at least 1 and less than the {2 * self.per_class} points that per_class gives, "
                f"got {self.perplexity}"
            )

    def check(self, examples: Examples, poison: Poison) -> None:
        """ValueError if there is no trigger, or there are not per_class test images of every class."""
        if not poison.has_trigger:
            name = type(poison).__name__
            raise ValueError(f"activations compare clean with triggered images, and {name} has no trigger")
        self.check_labels(np.asarray(examples.label))

    def check_labels(self, labels: np.ndarray) -> None:
        """ValueError if there are not per_class images of every class among labels [n]."""
        counts = np.bincount(labels)
        if counts.min() < self.per_class:
            raise ValueError(
                f"per_class must be at most the {counts.min()} test images of class {counts.argmin()}, "
                f"got {self.per_class}"
            )

    def collect(self, subject: Subject) -> Collected:
        """The activations of the first per_class test images of each class."""
        return collect(subject.victim, subject.examples, subject.poison, self, subject.batch)

    def measure(self, arrays: Collected, subject: Subject) -> dict:
        """`separation` of each class."""
        return measure(arrays, self, subject.seed)

    def curve(self, subject: Subject) -> dict[str, float]:
        """The means over classes."""
        return {name: of["mean"] for name, of in self.measure(self.collect(subject), subject).items()}

    def summary(self, measured: list[dict]) -> dict:
        """{number: over seeds} of the means over classes."""
        return {name: statistics.spread([of[name]["mean"] for of in measured]) for name in measured[0]}

    def tables(self, summaries: dict[str, dict]) -> list[Table]:
        """A row for each arm."""
        rows = [[arm, *(plain(of[name]) for name in LABELS)] for arm, of in summaries.items()]
        return [Table("", ["arm", *LABELS.values()], rows)]

    def figures(self, arrays: dict[str, NamedTuple], title: str, names: tuple[str, ...]) -> dict[str, Figure]:
        """The t-SNE."""
        from poisonjax.analyses import tsne

        return {"tsne": tsne.figure(arrays, self, f"{title}: activations before the last layer", names=names)}


def _features(victim: Victim, examples: Examples, poison: Poison) -> tuple:
    """Activations of examples [b], clean and triggered, [b d] each."""
    x = to_unit(examples.image)
    return tuple(victim.features(images).astype(jnp.float32) for images in (x, poison.apply_trigger(x)))


def collect(
    victim: Victim,
    examples: Examples,
    poison: Poison,
    settings: Activations,
    batch: int,
    advance: Callable[[int], None] = lambda rows: None,
) -> Collected:
    """Activations of the first per_class examples of each class, clean and triggered, in evaluation mode.

    victim comes from `distributed.replicate`. ValueError if a class has too few.
    """
    labels = np.asarray(examples.label)
    settings.check_labels(labels)
    rows = np.concatenate([np.flatnonzero(labels == one)[: settings.per_class] for one in np.unique(labels)])
    clean, triggered = map_rows(_features, victim, take(examples, rows), batch, poison, advance=advance)
    return Collected(clean, triggered, labels[rows])


def separation(clean: np.ndarray, triggered: np.ndarray, settings: Activations, seed: int) -> dict[str, float]:
    """Separation of triggered [n d] from clean [n d]; row i of both is of the same image.

    linear_probe_auc: area under the ROC curve of a logistic regression on standardised features, the mean over
    stratified folds; both versions of an image lie in the same fold, or it would be recognised from the training
    set. silhouette: of the two groups, in [-1, 1] (Rousseeuw 1987). mmd2, mmd_p_value: see `mmd`.
    Activations that are all equal give 0.5, 0, 0 and 1; NaN or infinity in them gives nan for all.
    ValueError if the shapes differ or there are fewer images than folds.
    """
    if clean.shape != triggered.shape or len(clean) < settings.folds:
        raise ValueError(
            f"clean and triggered must have one shape [n d] with n at least folds, which is {settings.folds}, "
            f"got {clean.shape} and {triggered.shape}"
        )
    both = np.concatenate([clean, triggered]).astype(np.float64)
    if not np.isfinite(both).all():
        return dict.fromkeys(("linear_probe_auc", "silhouette", "mmd2", "mmd_p_value"), math.nan)
    distances = _distances(both)
    mmd2, p_value = _mmd(distances, settings.permutations, seed)
    return {
        "linear_probe_auc": _linear_probe_auc(both, settings.folds, seed),
        "silhouette": _silhouette(distances),
        "mmd2": mmd2,
        "mmd_p_value": p_value,
    }


def _is_triggered(rows: int) -> np.ndarray:
    """Labels of n clean rows followed by n triggered ones, [2n] bool."""
    return np.arange(rows) >= rows // 2


def _linear_probe_auc(both: np.ndarray, folds: int, seed: int) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    split = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    image = np.arange(len(both)) % (len(both) // 2)
    scores = cross_val_score(probe, both, _is_triggered(len(both)), groups=image, cv=split, scoring="roc_auc")
    return float(scores.mean())


def _distances(both: np.ndarray) -> np.ndarray:
    """Euclidean, [2n 2n]; from differences, so that equal rows are at exactly 0."""
    from scipy.spatial.distance import pdist, squareform

    return squareform(pdist(both))


def _silhouette(distances: np.ndarray) -> float:
    from sklearn.metrics import silhouette_score

    return float(silhouette_score(distances, _is_triggered(len(distances)), metric="precomputed"))


def mmd(clean: np.ndarray, triggered: np.ndarray, permutations: int, seed: int) -> tuple[float, float]:
    """Unbiased squared maximum mean discrepancy of clean [n d] and triggered [n d], n >= 2, and its p-value.

    The statistic is that of equally many of both (Gretton et al. 2012, lemma 6, equation 4), which leaves out the
    kernel of a row with its own partner and so stays unbiased for pairs. Gaussian kernel exp(-d^2 / 2 s^2), s the
    median distance in the pooled sample (section 8), of those that are not 0. The p-value is that of a permutation
    test, (1 + those at least as large) / (1 + permutations) (Phipson and Smyth 2010): a small one says that the
    trigger moves the rows in some systematic way, however little; the statistic says how far.
    """
    return _mmd(_distances(np.concatenate([clean, triggered]).astype(np.float64)), permutations, seed)


def _mmd(distances: np.ndarray, permutations: int, seed: int) -> tuple[float, float]:
    pairs, h = len(distances) // 2, _pair_kernel(_gaussian(distances))
    # Two versions of an image are alike, so under the null hypothesis only the two of a pair are exchangeable, not
    # all rows. To swap them in pairs i and j multiplies h[i, j] by -1 once for each: sign[i] * sign[j] * h[i, j].
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), (permutations, pairs))
    null, observed = np.sum(signs @ h * signs, 1), h.sum()
    rounding = 1e-12 * np.abs(h).sum()  # a permutation that changes nothing must count as equal
    p_value = (1 + np.sum(null >= observed - rounding)) / (1 + permutations)
    return float(observed / (pairs * (pairs - 1))), float(p_value)


def _gaussian(distances: np.ndarray) -> np.ndarray:
    apart = distances[distances > 0]
    bandwidth = np.median(apart) if apart.size else 1.0  # any would do where all rows are equal
    return np.exp(-((distances / bandwidth) ** 2) / 2)


def _pair_kernel(kernel: np.ndarray) -> np.ndarray:
    """k(x_i, x_j) + k(y_i, y_j) - k(x_i, y_j) - k(y_i, x_j), [n n], 0 for i = j, of a kernel [2n 2n]."""
    n = len(kernel) // 2
    cross = kernel[:n, n:]
    h = kernel[:n, :n] + kernel[n:, n:] - cross - cross.T
    np.fill_diagonal(h, 0.0)
    return h


def measure(collected: Collected, settings: Activations, seed: int) -> dict[str, dict]:
    """`separation` of each class, as a record has it: {metric: {"mean": over classes, "per_class": [k]}}.

    None where it is nan; the mean is of the others. The mean of p-values is no p-value.
    """
    found = [separation(*collected.of_class(label), settings, seed) for label in range(collected.labels.max() + 1)]
    return {name: _over_classes([one[name] for one in found]) for name in found[0]}


def _over_classes(values: list[float]) -> dict:
    known = [value for value in values if math.isfinite(value)]
    return {
        "mean": float(np.mean(known)) if known else None,
        "per_class": [value if math.isfinite(value) else None for value in values],
    }
