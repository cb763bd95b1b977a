"""Triggers: changes of an image that a poisoned network reacts to."""

import abc
import dataclasses
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from poisonjax.types import Array

CORNERS = ("upper_left", "upper_right", "lower_left", "lower_right")
# Turner et al. 2019, section 4.4, as their code has it: left corners; the right ones are its mirror image.
_CHECKER = np.array([[1, -1, -1], [-1, 1, -1], [1, -1, 1]], np.int8)


class Trigger(abc.ABC):
    """A change of an image. A new one is a frozen dataclass with `__call__`.

    Pure and traced by jax: what it does to an image depends on that image and the settings alone.

    needs_images: False for one that works on rows of features [b d].
    """

    needs_images: ClassVar[bool] = True

    @abc.abstractmethod
    def __call__(self, image: Array) -> Array:
        """Images [b h w c] in [0, 1] with the trigger on each: the same shape, in [0, 1].

        ValueError for images that are too small.
        """


class PatternTrigger(Trigger):
    """A fixed pattern of signs, added to the image times the amplitude; amplitude 1 replaces the pixels.

    amplitude: in (0, 1], a field. ValueError outside.
    """

    amplitude: float

    def __post_init__(self):
        if not 0 < self.amplitude <= 1:
            raise ValueError(f"amplitude must lie in (0, 1], got {self.amplitude}")

    @abc.abstractmethod
    def pattern(self, height: int, width: int) -> np.ndarray:
        """[h w] of 1 (brighten), -1 (darken) and 0 (leave). ValueError if it does not fit."""

    def __call__(self, image: Array) -> Array:
        signs = self.pattern(*image.shape[1:3])[None, :, :, None]
        return jnp.clip(image + self.amplitude * signs, 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class FourPixels(PatternTrigger):
    """Four bright pixels near the lower right corner (Gu et al. 2019, figure 3; the report's trigger)."""

    amplitude: float = 1.0

    def pattern(self, height: int, width: int) -> np.ndarray:
        """[h w] of 1 (brighten) and 0 (leave)."""
        signs = _blank(self, 4, height, width)
        signs[[-2, -3, -2, -4], [-2, -3, -4, -2]] = 1
        return signs


@dataclasses.dataclass(frozen=True)
class BrightSquare(PatternTrigger):
    """A bright square of size x size pixels in the lower right corner (Gu et al. 2019, section 5.2)."""

    size: int = 3
    amplitude: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        if self.size < 1:
            raise ValueError(f"size must be at least 1 pixel, got {self.size}")

    def pattern(self, height: int, width: int) -> np.ndarray:
        """[h w] of 1 (brighten) and 0 (leave)."""
        signs = _blank(self, self.size, height, width)
        signs[-self.size :, -self.size :] = 1
        return signs


@dataclasses.dataclass(frozen=True)
class Corners(PatternTrigger):
    """A checkered 3x3 pattern in all four corners (Turner et al. 2019, section 4.4)."""

    amplitude: float = 1.0

    def pattern(self, height: int, width: int) -> np.ndarray:
        """[h w] of 1 (brighten), -1 (darken) and 0 (leave)."""
        signs = _blank(self, 6, height, width)
        signs[:3, :3] = signs[-3:, :3] = _CHECKER
        signs[:3, -3:] = signs[-3:, -3:] = _CHECKER[:, ::-1]
        return signs


@dataclasses.dataclass(frozen=True)
class Tile(PatternTrigger):
    """Random bright and dark pixels, size x size of them, in one corner of the image.

    corner: one of CORNERS, each of which has pixels of its own. size: at least 1 pixel. ValueError for impossible
    values.
    """

    corner: str = "upper_left"
    size: int = 5
    amplitude: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        if self.corner not in CORNERS:
            raise ValueError(f"corner must be one of {', '.join(CORNERS)}, got {self.corner!r}")
        if self.size < 1:
            raise ValueError(f"size must be at least 1 pixel, got {self.size}")

    def pattern(self, height: int, width: int) -> np.ndarray:
        """[h w] of 1 (brighten), -1 (darken) and 0 (leave)."""
        signs = _blank(self, self.size, height, width)
        rows = slice(self.size) if self.corner.startswith("upper") else slice(-self.size, None)
        columns = slice(self.size) if self.corner.endswith("left") else slice(-self.size, None)
        draw = np.random.default_rng(CORNERS.index(self.corner))
        signs[rows, columns] = draw.choice(np.array([-1, 1], np.int8), (self.size, self.size))
        return signs


def _blank(trigger: PatternTrigger, size: int, height: int, width: int) -> np.ndarray:
    """A pattern [h w] of zeros. ValueError if the image is smaller than the trigger's size x size pixels."""
    if min(height, width) < size:
        raise ValueError(f"{trigger} needs images of at least {size} x {size} pixels, got {height} x {width}")
    return np.zeros((height, width), np.int8)
