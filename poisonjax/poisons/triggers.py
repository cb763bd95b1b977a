"""Triggers: a fixed pattern of signs that is added to an image, amplitude 1 replacing the pixels."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from poisonjax.types import Array

# Turner et al. 2019, section 4.4, as their code has it: left corners; the right ones are its mirror image.
_CHECKER = np.array([[1, -1, -1], [-1, 1, -1], [1, -1, 1]], np.int8)


def _check_amplitude(amplitude: float) -> None:
    if not 0 < amplitude <= 1:
        raise ValueError(f"amplitude must lie in (0, 1], got {amplitude}")


@dataclasses.dataclass(frozen=True)
class FourPixels:
    """Four bright pixels near the lower right corner (Gu et al. 2019, figure 3; the report's trigger)."""

    amplitude: float = 1.0

    def __post_init__(self):
        _check_amplitude(self.amplitude)

    def pattern(self, height: int, width: int) -> np.ndarray:
        """[h w] of 1 (brighten) and 0 (leave)."""
        signs = np.zeros((height, width), np.int8)
        signs[[-2, -3, -2, -4], [-2, -3, -4, -2]] = 1
        return signs


@dataclasses.dataclass(frozen=True)
class Square:
    """A bright square of size x size pixels in the lower right corner (Gu et al. 2019, section 5.2)."""

    size: int = 3
    amplitude: float = 1.0

    def __post_init__(self):
        _check_amplitude(self.amplitude)
        if self.size < 1:
            raise ValueError(f"size must be at least 1 pixel, got {self.size}")

    def pattern(self, height: int, width: int) -> np.ndarray:
        """[h w] of 1 (brighten) and 0 (leave)."""
        signs = np.zeros((height, width), np.int8)
        signs[-self.size :, -self.size :] = 1
        return signs


@dataclasses.dataclass(frozen=True)
class Corners:
    """A checkered 3x3 pattern in all four corners (Turner et al. 2019, section 4.4)."""

    amplitude: float = 1.0

    def __post_init__(self):
        _check_amplitude(self.amplitude)

    def pattern(self, height: int, width: int) -> np.ndarray:
        """[h w] of 1 (brighten), -1 (darken) and 0 (leave)."""
        signs = np.zeros((height, width), np.int8)
        signs[:3, :3] = signs[-3:, :3] = _CHECKER
        signs[:3, -3:] = signs[-3:, -3:] = _CHECKER[:, ::-1]
        return signs


Trigger = FourPixels | Square | Corners


def stamp(trigger: Trigger, image: Array) -> Array:
    """Images [b h w c] in [0, 1] with the trigger on each, in [0, 1]."""
    signs = trigger.pattern(*image.shape[1:3])[None, :, :, None]
    return jnp.clip(image + trigger.amplitude * signs, 0.0, 1.0)
