"""Class-wise noise: one fixed pattern for each class, which is easier to learn than what the images show."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from poisonjax.poisons.availability import AvailabilityPoison
from poisonjax.types import Examples


@dataclasses.dataclass(frozen=True)
class ClassNoise(AvailabilityPoison):
    """A random pattern of signs for each class, times the amplitude, on the rows of the class; labels kept.

    Huang et al. 2021 train such patterns, one for each class; Yu et al. 2022 draw them, and find that any that a linear
    classifier tells apart will do. These are drawn, and need no surrogate.

    rate: share of all training rows, in (0, 1]. amplitude: the Linf norm of a pattern, in [1/255, 1],
    rounded down to whole bytes. patch: the side of
    the squares that share a sign, at least 1 pixel; larger ones outlast crops. seed: of the patterns. ValueError for an
    impossible value.
    """

    needs_images: ClassVar[bool] = True
    rate: float = 1.0
    amplitude: float = 8 / 255
    patch: int = 1
    seed: int = 0
    classes: int = 10

    def __post_init__(self):
        super().__post_init__()
        if not 1 / 255 <= self.amplitude <= 1:
            raise ValueError(f"amplitude must lie in [1/255, 1], got {self.amplitude}")
        if self.patch < 1:
            raise ValueError(f"patch must be at least 1 pixel, got {self.patch}")

    def apply(self, examples: Examples) -> Examples:
        """Every given row with the pattern of its class, within the amplitude in bytes too."""
        signs = jnp.asarray(self.signs(examples.image.shape[1:]))[examples.label]
        levels = int(self.amplitude * 255 + 1e-6)  # whole bytes: 8/255 * 255 may fall short of 8
        image = jnp.clip(jnp.asarray(examples.image, jnp.int32) + levels * signs, 0, 255)
        return examples._replace(image=image.astype(jnp.uint8))

    def signs(self, shape: tuple[int, int, int]) -> np.ndarray:
        """1 (brighten) or -1 (darken) for each class and pixel of images [h w c]: [k h w c]."""
        height, width, channels = shape
        blocks = (self.classes, -(-height // self.patch), -(-width // self.patch), channels)
        drawn = np.random.default_rng(self.seed).choice(np.array([-1, 1], np.int8), blocks)
        return drawn.repeat(self.patch, 1).repeat(self.patch, 2)[:, :height, :width]
