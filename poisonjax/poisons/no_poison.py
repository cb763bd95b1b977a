"""Nobody attacks: the baselines."""

import dataclasses

import jax.numpy as jnp

from poisonjax.types import Array, Examples


@dataclasses.dataclass(frozen=True)
class NoPoison:
    """No row changes and no image carries a trigger; every metric of an attack is about no image."""

    classes: int = 10

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
