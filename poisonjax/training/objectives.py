"""What a training step shows the network: (logits_fn, x, y, keys, progress) -> images to learn from."""

import dataclasses

import jax.numpy as jnp

from poisonjax.attacks import LossAttack
from poisonjax.types import Array, LogitsFn


@dataclasses.dataclass(frozen=True)
class Standard:
    """The images themselves."""

    def __call__(self, logits_fn: LogitsFn, x: Array, y: Array, keys: Array, progress: Array) -> Array:
        return x


@dataclasses.dataclass(frozen=True)
class Madry:
    """The attack's images instead of the images (Madry et al. 2018, section 2.1).

    warmup: share of the training over which eps grows from 0 in proportion to progress in [0, 1].
    """

    attack: LossAttack
    warmup: float = 0.0

    def __call__(self, logits_fn: LogitsFn, x: Array, y: Array, keys: Array, progress: Array) -> Array:
        scale = jnp.minimum(1.0, progress / self.warmup) if self.warmup else 1.0
        return self.attack(logits_fn, x, y, keys, scale)


Objective = Standard | Madry
