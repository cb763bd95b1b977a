"""Losses for attacks to raise: (logits [b k], labels [b]) -> [b], one number per row."""

import abc
import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax

from poisonjax.types import Array


class Loss(abc.ABC):
    """A loss for attacks to raise. A new one is a frozen dataclass with `__call__`.

    takes_probabilities: True if it takes probabilities [b k] in place of labels [b]. fewest_classes: for which it is
    defined.
    """

    takes_probabilities: ClassVar[bool] = False
    fewest_classes: ClassVar[int] = 2

    @abc.abstractmethod
    def __call__(self, logits: Array, labels: Array) -> Array:
        """Logits [b k], labels [b] int -> [b]; differentiable in the logits."""


@dataclasses.dataclass(frozen=True)
class CrossEntropy(Loss):
    """Cross-entropy (Goodfellow et al. 2015, section 4; Madry et al. 2018, section 2)."""

    def __call__(self, logits: Array, labels: Array) -> Array:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


@dataclasses.dataclass(frozen=True)
class Margin(Loss):
    """Best wrong logit minus the right one; above 0: misclassified (Carlini & Wagner 2017, V.A, f6)."""

    def __call__(self, logits: Array, labels: Array) -> Array:
        right = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
        wrong = jnp.max(jnp.where(right, -jnp.inf, logits), axis=-1)
        return wrong - _logit(logits, labels)


@dataclasses.dataclass(frozen=True)
class DLR(Loss):
    """Difference of logits ratio: the margin over the gap between the first and the third logit.

    No shift or scale of the logits changes it (Croce & Hein 2020, AutoAttack, section 4.1, equation 6). ValueError
    below 3 classes.
    """

    fewest_classes: ClassVar[int] = 3

    def __call__(self, logits: Array, labels: Array) -> Array:
        top = _largest(logits, DLR.fewest_classes, "the DLR loss")
        return Margin()(logits, labels) / (top[:, 0] - top[:, 2] + 1e-12)


@dataclasses.dataclass(frozen=True)
class KLDivergence(Loss):
    """KL(p || softmax(logits)), with probabilities p [b k] in place of labels (Zhang et al. 2019, section 4.2)."""

    takes_probabilities: ClassVar[bool] = True

    def __call__(self, logits: Array, labels: Array) -> Array:
        return jnp.sum(jax.scipy.special.xlogy(labels, labels) - labels * jax.nn.log_softmax(logits), -1)


def targeted_dlr(logits: Array, labels: Array, targets: Array) -> Array:
    """The target's logit minus the right one, over a gap of which the target is no part, [b].

    Above 0: misclassified (Croce & Hein 2020, AutoAttack, section 4.2, equation 7). ValueError below 4 classes.
    """
    top = _largest(logits, 4, "the targeted DLR loss")
    return (_logit(logits, targets) - _logit(logits, labels)) / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + 1e-12)


def _logit(logits: Array, labels: Array) -> Array:
    """The logit of the class named in each row, [b]."""
    return jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]


def _largest(logits: Array, count: int, name: str) -> Array:
    """The largest logits in descending order, [b count]."""
    if logits.shape[-1] < count:
        raise ValueError(f"{name} needs at least {count} classes, got {logits.shape[-1]}")
    return jax.lax.top_k(logits, count)[0]
