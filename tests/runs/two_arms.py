"""A short experiment for interruptions: two training conditions, and a trigger of its own. (none)"""

import dataclasses

import jax.numpy as jnp

from experiments import mnist_badnets
from poisonjax.experiment import Experiment
from poisonjax.poisons import FourPixels
from poisonjax.types import Array


@dataclasses.dataclass(frozen=True)
class Row(FourPixels):
    """A bright first row: a type that only this file has."""

    def __call__(self, image: Array) -> Array:
        return jnp.clip(jnp.asarray(image).at[:, 0].add(self.amplitude), 0.0, 1.0)


def experiment(scale: str) -> Experiment:
    base = mnist_badnets.experiment(scale)
    poison = dataclasses.replace(base.poison, trigger=Row())
    arms = tuple(arm for arm in base.arms if arm.name in ("standard", "pgd_at"))
    return dataclasses.replace(base, name="two_arms", poison=poison, arms=arms, reported=())
