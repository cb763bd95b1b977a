"""Triggers all over the image: a blend with a random image, and a faint random pattern of signs."""

import dataclasses

import jax
import numpy as np

from poisonjax.poisons.triggers import PatternTrigger, Trigger
from poisonjax.types import Array


@dataclasses.dataclass(frozen=True)
class Blend(Trigger):
    """A blend with a fixed image of uniform noise (Chen et al. 2017, section 4, "random pattern").

    share: of the noise, in (0, 1]; .2 in the paper. seed: of the noise. ValueError for an impossible share.
    """

    share: float = 0.2
    seed: int = 0

    def __post_init__(self):
        if not 0 < self.share <= 1:
            raise ValueError(f"share must lie in (0, 1], got {self.share}")

    def __call__(self, image: Array) -> Array:
        noise = jax.random.uniform(jax.random.key(self.seed), image.shape[1:])
        return (1 - self.share) * image + self.share * noise


@dataclasses.dataclass(frozen=True)
class SignPattern(PatternTrigger):
    """A random sign for each pixel, added to the image: the trigger of a given Linf norm that is everywhere.

    amplitude: in (0, 1]. seed: of the signs. ValueError for an impossible amplitude.
    """

    amplitude: float = 0.2
    seed: int = 0

    def pattern(self, height: int, width: int) -> np.ndarray:
        """[h w] of 1 (brighten) and -1 (darken)."""
        return np.random.default_rng(self.seed).choice(np.array([-1, 1], np.int8), (height, width))
