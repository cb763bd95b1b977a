"""Types shared by all modules, with shapes."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array
LogitsFn = Callable[[Array], Array]  # images, or rows of features, [b ...] in [0, 1] -> logits [b k]


class Examples(NamedTuple):
    """A data set (n rows) or a batch of it (b rows).

    image: [n h w c] uint8, the bytes of the image file, or [n d] uint8, rows of features, each scaled on its own to 0
    to 255; `to_unit` scales both to [0, 1].
    label: [n] int32.
    index: [n] int32, the row in the tfds split, from which an example's randomness is derived.
    """

    image: Array
    label: Array
    index: Array


class Cost(NamedTuple):
    """The most that an attack spends on one image. gradients: of the logits. queries: forward passes beside those."""

    gradients: int = 0
    queries: int = 0


def take(examples: Examples, rows) -> Examples:
    """Select rows of all three fields by a slice, an index array or a mask."""
    return Examples(*(field[rows] for field in examples))


def to_unit(image: Array) -> Array:
    """Scale bytes [...] uint8 to float32 in [0, 1]; floats are taken to be in [0, 1] already."""
    unit = image.astype(jnp.float32)
    return unit if jnp.issubdtype(image.dtype, jnp.floating) else unit / 255


def to_bytes(image: Array) -> Array:
    """Round images or features [...] in [0, 1] to the nearest of the 256 levels of uint8."""
    return jnp.round(image * 255).astype(jnp.uint8)
