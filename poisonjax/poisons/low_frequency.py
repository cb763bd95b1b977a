"""A smooth trigger: without the high frequencies by which detectors tell triggers."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from poisonjax.poisons.triggers import Trigger
from poisonjax.types import Array


@dataclasses.dataclass(frozen=True)
class LowFrequency(Trigger):
    """A fixed random mixture of the slowest cosine waves, added to the image (after Zeng et al. 2021).

    The paper optimises its smooth trigger against a network; this one is drawn at random, under the same constraint.
    amplitude: largest change of a pixel, in (0, 1]. waves: so many frequencies down and across, without the constant;
    at least 2. seed: of the mixture. ValueError for impossible values.
    """

    amplitude: float = 0.2
    waves: int = 4
    seed: int = 0

    def __post_init__(self):
        if not 0 < self.amplitude <= 1:
            raise ValueError(f"amplitude must lie in (0, 1], got {self.amplitude}")
        if self.waves < 2:
            raise ValueError(f"waves must be at least 2, got {self.waves}")

    def __call__(self, image: Array) -> Array:
        return jnp.clip(image + self.amplitude * self.pattern(*image.shape[1:3])[:, :, None], 0.0, 1.0)

    def pattern(self, height: int, width: int) -> np.ndarray:
        """[h w] in [-1, 1], whose largest absolute value is 1."""
        weights = np.random.default_rng(self.seed).normal(size=(self.waves, self.waves))
        weights[0, 0] = 0.0
        mixed = self._cosines(height) @ weights @ self._cosines(width).T
        return (mixed / np.abs(mixed).max()).astype(np.float32)

    def _cosines(self, side: int) -> np.ndarray:
        """The waves along a side of the image, [side waves]."""
        return np.cos(np.pi * np.outer(np.arange(side) + 0.5, np.arange(self.waves)) / side)
