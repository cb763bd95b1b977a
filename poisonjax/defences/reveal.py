"""Reveal: rows that a network under attack sets apart from their class by their loss are taken for poisoned.

It falls to poisons whose rows are spread through the losses of their class, as BadNets from every class to the next,
and to triggers that no judge sets apart; one that lies within the budgets is not revealed but removed, if the training
that follows is adversarial as well.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from poisonjax.attacks.settings import check_positive
from poisonjax.defences.base import Context, Defence, Selection
from poisonjax.defences.by_class import LEAST
from poisonjax.evaluation.victim import Victim
from poisonjax.training.objectives import Objective, Standard
from poisonjax.types import Array, Examples, take, to_unit

BOUND = 50.0  # of the logarithm of odds
TOLD_APART = 2.4  # Ashman's D; losses that end at the loss of a guess, which are one group, have up to 2.2


@dataclasses.dataclass(frozen=True)
class Reveal(Defence):
    """Drop the group of a class that adversarially trained networks set apart by its loss; learn from the others.

    An attack of more than half the trigger's amplitude leaves it as the only feature that survives, so that poisoned
    rows become by far the easiest of their class; where the budget hides the trigger they stay the hardest, as what
    they show is of another class. Which of the two groups is poisoned is told by a network that was trained without
    the class: it is as sure of poisoned rows as of its own classes, and not of a class that it has never seen. No clean
    data, and nothing about the poison is known.

    judges: objectives of the networks whose losses are looked at; several budgets see triggers of several amplitudes.
    epochs: of the judges' training, of which fewer than the arm's will do; None for as many. separation: least distance
    between two groups of a class, in the unit of `distance_of`. alone: the same for an easy group that is not of
    another class, as the rows of clean-label poisons, at least `separation`. ValueError without a judge, or for
    impossible values.
    """

    judges: tuple[Objective, ...]
    epochs: int | None = None
    separation: float = 3.0
    alone: float = 5.0

    def __post_init__(self):
        if not self.judges:
            raise ValueError("judges must hold at least one objective, such as AdversarialTraining(...)")
        if self.epochs is not None and self.epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {self.epochs}")
        check_positive(self, "separation")
        if not self.alone >= self.separation:
            raise ValueError(f"alone must be at least separation, {self.separation}, got {self.alone}")

    def select(self, context: Context) -> Selection:
        """The rows that no judge sets apart as poisoned; suspicion is the log of the odds that a row is.

        ValueError for losses that are not finite.
        """
        looks = [self._look(context, f"judge{number}", judge) for number, judge in enumerate(self.judges)]
        labels, suspicion = np.asarray(context.train.label), np.full(len(context.train.label), -BOUND)
        for label in np.unique(labels):
            members = np.flatnonzero(labels == label)
            splits = [split for look in looks if (split := split_of(look[members], self.separation)) is not None]
            if splits:
                foreign = self._foreign(context, int(label), members)
                suspicion[members] = np.max([self.odds(split, foreign) for split in splits], 0)
        return Selection(take(context.train, suspicion <= 0), suspicion)

    def odds(self, split: "Split", foreign: np.ndarray) -> np.ndarray:
        """The log of the odds that rows [m] of a class are of its poisoned group, -BOUND if it has none.

        foreign: the rows that a network without the class is sure of, [m] bool.
        """
        easy = split.easy > 0
        shares = [np.mean(foreign[group]) if group.any() else 0.0 for group in (easy, ~easy)]
        if max(shares) >= 0.5:
            return split.easy if shares[0] >= shares[1] else -split.easy
        return split.easy if split.distance >= self.alone else np.full(len(foreign), -BOUND)

    def _look(self, context: Context, name: str, judge: Objective) -> np.ndarray:
        """The log loss of every row [n] under a judge."""
        network = context.fit(name, judge, context.train, training=self._training(context))
        return np.asarray(context.map(log_losses, network, context.train))

    def _foreign(self, context: Context, label: int, members: np.ndarray) -> np.ndarray:
        """The members [m] of a class of which a network without it is as sure as of most of its own rows, [m] bool."""
        rest = take(context.train, context.train.label != label)
        network = context.fit(f"without{label}", Standard(), rest, training=self._training(context))
        sure = np.asarray(context.map(confidence, network, context.train))
        return sure[members] >= np.quantile(np.delete(sure, members), 0.25)

    def _training(self, context: Context):
        return dataclasses.replace(context.training, epochs=self.epochs or context.training.epochs)


def log_losses(victim: Victim, examples: Examples) -> Array:
    """The logarithm of the cross-entropy of each row, [b], exact also where the loss is below any float."""
    logits, labels = victim.logits(to_unit(examples.image)), examples.label
    own = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    margin = jnp.sum(logits, -1, where=own) - jax.nn.logsumexp(jnp.where(own, -jnp.inf, logits), -1)
    return jnp.where(margin > 15, -margin, jnp.log(jax.nn.softplus(-jnp.minimum(margin, 15.0))))


def confidence(victim: Victim, examples: Examples) -> Array:
    """The probability of the likeliest class of each row, [b]."""
    return jnp.max(jax.nn.softmax(victim.logits(to_unit(examples.image))), -1)


class Split(NamedTuple):
    """A class in two groups. easy: [m], log odds of the group of low scores. distance: see `distance_of`."""

    easy: np.ndarray
    distance: float


def split_of(scores: np.ndarray, separation: float) -> Split | None:
    """The scores [m] of one class in two groups at least so far apart; None if it has none, or too few rows.

    ValueError for scores that are not finite.
    """
    from sklearn.mixture import GaussianMixture  # slow to import

    scores = np.asarray(scores, np.float64)[:, None]
    if not np.isfinite(scores).all():
        raise ValueError("the judge's losses are not all finite; train it with a smaller learning rate or a warm-up")
    if len(scores) < LEAST:
        return None
    mixture = GaussianMixture(2, n_init=3, random_state=0).fit(scores)
    distance = distance_of(mixture.means_[:, 0], mixture.covariances_.ravel())
    if distance < separation:
        return None
    easy, hard = np.argsort(mixture.means_[:, 0])
    odds = np.log(np.maximum(mixture.predict_proba(scores), 1e-300))
    return Split(np.clip(odds[:, easy] - odds[:, hard], -BOUND, BOUND), distance)


def distance_of(means: np.ndarray, variances: np.ndarray) -> float:
    """The distance of two normal distributions [2], in standard deviations.

    It is Ashman's D, the distance of the means in root mean square standard deviations (Ashman et al. 1994). From
    TOLD_APART on it is at least half the distance in standard deviations of the one with the higher mean: a trigger
    that some rows show better than others spreads the losses of poisoned rows far, which makes D small.
    """
    gap = float(np.ptp(means))
    ashman, above = gap / np.sqrt(np.mean(variances)), gap / np.sqrt(variances[np.argmax(means)]) / 2
    return max(ashman, above) if ashman >= TOLD_APART else ashman
