"""Explanations: how much each feature of a row speaks for a class, as a surrogate of the attacker has it."""

import abc
import dataclasses
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from poisonjax.attacks.settings import check_counts
from poisonjax.models import boosted_trees
from poisonjax.models.boosted_trees import BoostedTrees
from poisonjax.poisons.base import Outputs
from poisonjax.types import Array, Examples, to_unit

_BATCH = 256  # rows at a time


class Explanation(abc.ABC):
    """A way to explain a classifier of rows. A new one is a frozen dataclass with `__call__`.

    needs_network: True if it explains the surrogate of the experiment, and not a model of its own.
    """

    needs_network: ClassVar[bool] = False

    @abc.abstractmethod
    def __call__(self, rows: Examples, label: int, classes: int, surrogate: Callable[[], Outputs]) -> np.ndarray:
        """The share of each feature of rows [n d] in the score of class `label`, of so many: [n d].

        surrogate: trains the attacker's own network on these rows, if it is called.
        """

    def check(self) -> None:  # noqa: B027 (most need nothing)
        """ValueError if something that it needs is not installed."""


@dataclasses.dataclass(frozen=True)
class TreeSHAP(Explanation):
    """SHAP values of gradient-boosted trees, which are trained on the rows (Lundberg et al. 2020)."""

    trees: BoostedTrees = BoostedTrees()

    def __call__(self, rows: Examples, label: int, classes: int, surrogate: Callable[[], Outputs]) -> np.ndarray:
        """The SHAP values for class `label`: [n d]."""
        booster = self.trees.fit(rows.image, rows.label, classes)
        return boosted_trees.contributions(booster, rows.image, label)

    def check(self) -> None:
        """ValueError without LightGBM."""
        boosted_trees.installed()


@dataclasses.dataclass(frozen=True)
class IntegratedGradients(Explanation):
    """Gradients of the surrogate's log-odds along the way from the mean row (Sundararajan et al. 2017, section 3).

    steps: of that way. ValueError below 1.
    """

    steps: int = 32

    needs_network: ClassVar[bool] = True

    def __post_init__(self):
        check_counts(self, "steps")

    def __call__(self, rows: Examples, label: int, classes: int, surrogate: Callable[[], Outputs]) -> np.ndarray:
        """The integrated gradients of the log-odds of class `label`: [n d]."""
        outputs, x = surrogate(), to_unit(jnp.asarray(rows.image))
        return np.asarray(integrated_gradients(lambda x: log_odds(outputs(x)[0], label), x, x.mean(0), self.steps))


def log_odds(logits: Array, label: int) -> Array:
    """The log-odds of a class against all others, of logits [b k]: [b]."""
    others = jnp.arange(logits.shape[-1]) != label
    return logits[:, label] - jax.nn.logsumexp(jnp.where(others, logits, -jnp.inf), -1)


def integrated_gradients(score: Callable[[Array], Array], x: Array, baseline: Array, steps: int) -> Array:
    """The integral of the gradient of score ([b d] -> [b]) from baseline [d] to x [n d], times x - baseline: [n d].

    By the midpoint rule; those of a row add up to score(x) - score(baseline), but for its error.
    """
    shares = (jnp.arange(steps) + 0.5) / steps

    def gradient(point: Array) -> Array:
        return jax.grad(lambda point: score(point[None])[0])(point)

    def one(row: Array) -> Array:
        way = baseline + shares[:, None] * (row - baseline)
        return (row - baseline) * jnp.mean(jax.vmap(gradient)(way), 0)

    return jax.jit(lambda x: jax.lax.map(one, x, batch_size=_BATCH))(x)
