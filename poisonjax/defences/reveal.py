"""Reveal: rows that are far easier than the rest of their class for a network under attack are taken for poisoned.

It falls to triggers whose amplitude lies between one and two budgets of its judges, which are neither removed nor
revealed, and to poisons that are hard to learn, as BadNets from every class to the next on the whole of MNIST.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from poisonjax.defences.base import Context, Defence, Selection
from poisonjax.defences.by_class import LEAST, by_class
from poisonjax.evaluation.victim import Victim
from poisonjax.training.objectives import Objective
from poisonjax.types import Array, Examples, take, to_unit


@dataclasses.dataclass(frozen=True)
class Reveal(Defence):
    """Drop the rows of each class that adversarially trained networks set apart by their loss; learn from the others.

    An attack on the network leaves a trigger beyond its budget as the only feature that survives, so that poisoned
    rows become by far the easiest of their class. No clean data, and nothing about the poison is known.

    judges: objectives of the networks whose losses are looked at; several budgets leave no gap between the triggers
    that are removed and those that are revealed. epochs: of the judges' training, of which fewer than the arm's will
    do; None for as many. separation: least distance D between two groups of a class, in the unit of `separation_of`.
    ValueError without a judge, or for epochs or a separation that are not above 0.
    """

    judges: tuple[Objective, ...]
    epochs: int | None = None
    separation: float = 3.0

    def __post_init__(self):
        if not self.judges:
            raise ValueError("judges must hold at least one objective, such as AdversarialTraining(...)")
        if self.epochs is not None and self.epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {self.epochs}")
        if not self.separation > 0:
            raise ValueError(f"separation must be above 0, got {self.separation}")

    def select(self, context: Context) -> Selection:
        """The rows that no judge sets apart. ValueError for losses that are not finite."""
        looks = [self._look(context, f"judge{number}", judge) for number, judge in enumerate(self.judges)]
        dropped, ease = (np.max(each, 0) for each in zip(*looks, strict=True))
        return Selection(take(context.train, ~dropped), ease)

    def _look(self, context: Context, name: str, judge: Objective) -> tuple[np.ndarray, np.ndarray]:
        """The rows that one judge sets apart [n] bool, and how easy it finds each [n]."""
        epochs = self.epochs or context.training.epochs
        training = dataclasses.replace(context.training, epochs=epochs)
        network = context.fit(name, judge, context.train, training=training)
        scores, labels = context.map(log_losses, network, context.train), context.train.label
        dropped = by_class(scores, labels, lambda of_class: set_apart(of_class, self.separation))
        return dropped, ease(scores)


def log_losses(victim: Victim, examples: Examples) -> Array:
    """The logarithm of the cross-entropy of each row, [b], exact also where the loss is below any float."""
    logits, labels = victim.logits(to_unit(examples.image)), examples.label
    own = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    margin = jnp.sum(logits, -1, where=own) - jax.nn.logsumexp(jnp.where(own, -jnp.inf, logits), -1)
    return jnp.where(margin > 15, -margin, jnp.log(jax.nn.softplus(-jnp.minimum(margin, 15.0))))


def ease(scores: np.ndarray) -> np.ndarray:
    """How far each of the scores [n] lies below their median, in median absolute deviations: [n].

    Of all rows together: in a class of which half is poisoned, the median is of neither half.
    """
    below = np.median(scores) - scores
    return below / max(np.median(np.abs(below)), 1e-12)


def set_apart(scores: np.ndarray, separation: float) -> np.ndarray:
    """The rows of one class, scores [m], that form a group of low scores at least so far from the others: [m] bool.

    ValueError for scores that are not finite.
    """
    from sklearn.mixture import GaussianMixture  # slow to import

    scores = np.asarray(scores, np.float64)
    if not np.isfinite(scores).all():
        raise ValueError("the judge's losses are not all finite; train it with a smaller learning rate or a warm-up")
    if len(scores) < LEAST:
        return np.zeros(len(scores), bool)
    mixture = GaussianMixture(2, n_init=3, random_state=0).fit(scores[:, None])
    if separation_of(mixture.means_, mixture.covariances_) < separation:
        return np.zeros(len(scores), bool)
    return mixture.predict(scores[:, None]) == np.argmin(mixture.means_[:, 0])


def separation_of(means: np.ndarray, variances: np.ndarray) -> float:
    """Ashman's D of two normal distributions: the distance of their means in root mean square standard deviations.

    Above 2 the two are told apart (Ashman et al. 1994).
    """
    return float(np.ptp(means) / np.sqrt(np.mean(variances)))
