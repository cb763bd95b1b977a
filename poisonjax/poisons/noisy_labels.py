"""Label noise on part of the poisoned rows, which spreads them over the classes."""

import dataclasses

import jax
import jax.numpy as jnp

from poisonjax.keys import row_keys
from poisonjax.poisons.badnets import BadNets
from poisonjax.poisons.base import Poison, Wrapped
from poisonjax.types import Examples


@dataclasses.dataclass(frozen=True)
class NoisyLabels(Wrapped):
    """A poison some of whose rows bear a random other label than the attacker's, so that the trigger predicts it less.

    share: of the poisoned rows, each of which is drawn on its own by its index, in (0, 1). seed: of the draw.
    ValueError for an impossible share.
    """

    poison: Poison = BadNets(target=0)
    share: float = 0.3
    seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.share < 1:
            raise ValueError(f"share must lie in (0, 1), got {self.share}")

    def alter(self, poisoned: Examples) -> Examples:
        """Poisoned rows [b], of which some have one of the other labels, all equally often."""

        def noise(key: jax.Array) -> tuple[jax.Array, jax.Array]:
            first, second = jax.random.split(key)
            return jax.random.bernoulli(first, self.share), jax.random.randint(second, (), 1, self.classes)

        noisy, shift = jax.vmap(noise)(row_keys(jax.random.key(self.seed), poisoned.index, 0))
        other = (poisoned.label + shift.astype(poisoned.label.dtype)) % self.classes
        return poisoned._replace(label=jnp.where(noisy, other, poisoned.label))
