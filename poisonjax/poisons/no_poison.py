"""No poisoning: clean baselines."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from poisonjax.poisons.base import Poison
from poisonjax.types import Array, Examples


@dataclasses.dataclass(frozen=True)
class NoPoison(Poison):
    """No poisoned row and no trigger; every metric of an attack is undefined."""

    classes: int = 10
    poisons: ClassVar[bool] = False
    has_trigger: ClassVar[bool] = False

    def select(self, labels: Array, key: Array) -> Array:
        """labels [n] -> mask [n] with no row."""
        return jnp.zeros(labels.shape, bool)

    def apply(self, examples: Examples) -> Examples:
        """The rows as they are."""
        return examples

    def apply_trigger(self, image: Array) -> Array:
        """Images [b h w c] as they are."""
        return image

    def target_labels(self, labels: Array) -> Array:
        """The labels [b] themselves."""
        return labels
