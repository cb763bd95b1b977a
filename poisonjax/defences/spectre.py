"""SPECTRE: poisoned rows stand out once the features of a class are whitened as those of its clean rows.

Falls to a poison that makes up half of a class, which no robust estimate leaves out, and to clean-label poisons, whose
rows look like their class. Adaptive poisons are made against it (Qi et al. 2023), but it still tells `AdaptiveBlend` in
the features of a small network on MNIST.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from poisonjax.attacks.settings import check_counts, check_nonnegative
from poisonjax.defences.base import Context, Defence, Selection
from poisonjax.defences.by_class import LEAST, highest, judged_features
from poisonjax.training.objectives import Objective, Standard
from poisonjax.types import take

SIZES = 10  # numbers of components that are tried
ROUNDS = 5  # in which the tails are cut off
STEPS = 8  # of the power iteration
FLOOR = 1e-3  # least variance to whiten by, as a share of the greatest: noise in smaller ones would outweigh a trigger


class Look(NamedTuple):
    """A class in some number of components. scores: of its rows, [m]. strength: how far the highest stand out."""

    scores: np.ndarray
    strength: float


@dataclasses.dataclass(frozen=True)
class SPECTRE(Defence):
    """Drop the rows of each class with the highest quantum entropy scores (Hayase et al. 2021).

    The features of a class are reduced to k principal components, whitened by a robust estimate of the clean rows' mean
    and covariance, and scored by `entropy_scores`. Ten numbers k are tried. With the rows of the highest scores left
    out, all components are whitened by the others; the k taken is that of the highest mean score then, its strength,
    as in the authors' code.

    Unlike the paper: the robust estimate leaves out rows by the quadratic form that varies most over the whitened rows,
    as there, but until the allowance is used up, where theirs stops by a bound that holds for normal distributions
    (`robust_moments`). Components are at most a fifth of the rows, and those of hardly any variance are left out. The
    authors' code is told the target class; here every class loses rows, or with `single_target` the class of the
    greatest strength.

    expected: share of a class that is poisoned at most, in (0, 1/3]; 1.5 times as many rows are dropped, and twice as
    many left out of the estimate. components: k is at most this. alpha: sharpness of the scores. single_target: drop
    rows of one class alone; clean classes with rows unlike the rest are often taken for it. judge: how the network is
    trained whose features are looked at. ValueError for impossible values.
    """

    expected: float = 0.1
    components: int = 100
    alpha: float = 4.0
    single_target: bool = False
    judge: Objective = Standard()

    def __post_init__(self):
        if not 0 < self.expected <= 1 / 3:
            raise ValueError(
                f"expected must lie in (0, 1/3], as twice as many are left out of an estimate, got {self.expected}"
            )
        check_counts(self, "components")
        check_nonnegative(self, "alpha")

    def select(self, context: Context) -> Selection:
        """The rows that are not dropped; suspicion is the score, 0 in classes with few rows.

        ValueError for features that are not finite.
        """
        found, labels = judged_features(context, self.judge), np.asarray(context.train.label)
        members = {int(label): np.flatnonzero(labels == label) for label in np.unique(labels)}
        looks = {label: self.look(found[at]) for label, at in members.items() if len(at) >= LEAST}
        target = max(looks, key=lambda label: looks[label].strength, default=None)
        suspicion, dropped = np.zeros(len(labels)), np.zeros(len(labels), bool)
        for label, look in looks.items():
            suspicion[members[label]] = look.scores
            if label == target or not self.single_target:
                dropped[members[label]] = self._top(look.scores)
        return Selection(take(context.train, ~dropped), suspicion)

    def look(self, rows: np.ndarray) -> Look:
        """The scores of features [m d] of a class in the number of components of the greatest strength."""
        reduced = principal(rows, min(self.components, len(rows) // 5))
        sizes = np.round(np.linspace(1, np.sqrt(reduced.shape[1]), SIZES) ** 2).astype(int)
        return max((self._in(reduced, size) for size in np.unique(sizes)), key=lambda look: look.strength)

    def _in(self, reduced: np.ndarray, size: int) -> Look:
        """The scores in the first `size` of the components [m d], and their strength in all of them."""
        first = reduced[:, :size]
        scores = entropy_scores(first, *robust_moments(first, round(2 * self.expected * len(first))), self.alpha)
        others = moments(reduced[~self._top(scores)])
        return Look(scores, float(entropy_scores(reduced, *others, self.alpha).mean()))

    def _top(self, scores: np.ndarray) -> np.ndarray:
        return highest(scores, round(1.5 * self.expected * len(scores)))


def principal(rows: np.ndarray, most: int) -> np.ndarray:
    """The principal components of rows [m d], at least 1 and at most `most`, without those that do not vary: [m k]."""
    rows = np.asarray(rows, np.float64)
    left, scales, _ = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    varying = int(np.sum(scales**2 > FLOOR * scales[0] ** 2))
    size = max(1, min(most, varying))
    return left[:, :size] * scales[:size]


def moments(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean [k] and covariance [k k] of rows [m k]."""
    mean = rows.mean(0)
    return mean, (rows - mean).T @ (rows - mean) / len(rows)


def whitened(rows: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """The rows [m k] in coordinates in which that covariance is the identity, [m k]."""
    values, vectors = np.linalg.eigh(covariance)
    floor = max(FLOOR * values[-1], np.finfo(np.float64).tiny)  # a direction that only poisoned rows use has none
    return (rows - mean) @ vectors / np.sqrt(np.maximum(values, floor))


def robust_moments(rows: np.ndarray, left_out: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean [k] and covariance [k k] of rows [m k] without so many that make them far from normal.

    Round by round the rows are whitened by those that are left, and those whose `deviations` are greatest go.
    """
    steps = np.diff(np.round(np.linspace(0, left_out, ROUNDS + 1)).astype(int))
    for step in steps[steps > 0]:
        rows = rows[~highest(deviations(whitened(rows, *moments(rows))), step)]
    return moments(rows)


def deviations(rows: np.ndarray) -> np.ndarray:
    """The distance of each row's y' V y from the median, by the V for which it varies most over rows y [m k]: [m].

    V comes from a few steps of the power iteration. For normal rows none is better than another; a group apart is seen
    along the direction that leads to it.
    """
    form = np.random.default_rng(0).normal(size=(rows.shape[1],) * 2)
    form += form.T
    for _ in range(STEPS):
        values = np.sum((rows @ form) * rows, 1)
        form = (rows * (values - values.mean())[:, None]).T @ rows
        form /= max(np.linalg.norm(form), np.finfo(np.float64).tiny)
    values = np.sum((rows @ form) * rows, 1)
    return np.abs(values - np.median(values))


def entropy_scores(rows: np.ndarray, mean: np.ndarray, covariance: np.ndarray, alpha: float) -> np.ndarray:
    """The quantum entropy score of rows [m k] about the clean mean and covariance: [m].

    With the whitened rows h and S the mean of h h', it is h' Q h / tr Q for Q = exp(alpha (S - I) / (|S| - 1)). For
    alpha 0 that is the squared Mahalanobis distance over k, for infinity the squared projection on the top direction.
    """
    white = whitened(rows, mean, covariance)
    values, vectors = np.linalg.eigh(white.T @ white / len(white))
    excess = values[-1] - 1
    weights = np.exp(alpha * (values - values[-1]) / excess) if excess > 0 else np.ones_like(values)
    return (white @ vectors) ** 2 @ weights / weights.sum()
