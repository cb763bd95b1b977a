"""Random changes of training images that keep their class."""

import abc
import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from poisonjax.types import Array


class Augmentation(abc.ABC):
    """A random change of training images that keeps their class. A new one is a frozen dataclass with `__call__`.

    Pure and traced by jax. A row depends on its own image and key alone, so that batches and devices do not matter.

    needs_images: False for one that works on rows of features [b d].
    """

    needs_images: ClassVar[bool] = True

    @abc.abstractmethod
    def __call__(self, image: Array, keys: Array) -> Array:
        """image [b h w c], keys [b], one per row -> [b h w c] of the same shape and dtype."""


@dataclasses.dataclass(frozen=True)
class CropFlip(Augmentation):
    """Images moved by up to `pad` pixels each way, black moving in, and half of them mirrored left to right.

    The recipe of CIFAR-10 (He et al. 2016, section 4.2). ValueError for a negative pad.
    """

    pad: int = 4

    def __post_init__(self):
        if self.pad < 0:
            raise ValueError(f"pad must be at least 0 pixels, got {self.pad}")

    def __call__(self, image: Array, keys: Array) -> Array:
        return jax.vmap(self._one)(image, keys)

    def _one(self, image: Array, key: Array) -> Array:
        place, side = jax.random.split(key)
        corner = jax.random.randint(place, (2,), 0, 2 * self.pad + 1)
        padded = jnp.pad(image, ((self.pad, self.pad), (self.pad, self.pad), (0, 0)))
        moved = jax.lax.dynamic_slice(padded, (*corner, 0), image.shape)
        return jnp.where(jax.random.bernoulli(side), moved[:, ::-1], moved)
