"""The vocabulary that every other module shares, with shapes."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array
LogitsFn = Callable[[Array], Array]  # images [b ...] in [0, 1] -> logits [b k]


class Examples(NamedTuple):
    """A data set (n rows) or a batch of it (b rows).

    image: [n h w c] uint8, the bytes of the image file; `to_unit` scales them to [0, 1].
    label: [n] int32.
    index: [n] int32, the row in the tfds split: where an example came from, and its own randomness.
    """

    image: Array
    label: Array
    index: Array


class Cost(NamedTuple):
    """The most that an attack spends on one image. gradients: of the logits. queries: forward passes beside those."""

    gradients: int = 0
    queries: int = 0


def take(examples: Examples, rows) -> Examples:
    """The rows named by a slice, an index array or a mask, of all three fields."""
    return Examples(*(field[rows] for field in examples))


def to_unit(image: Array) -> Array:
    """Bytes [... h w c] uint8 -> float32 in [0, 1], where floats are taken to be already."""
    unit = image.astype(jnp.float32)
    return unit if jnp.issubdtype(image.dtype, jnp.floating) else unit / 255


def to_bytes(image: Array) -> Array:
    """Images [... h w c] in [0, 1] -> uint8, rounded to the nearest level."""
    return jnp.round(image * 255).astype(jnp.uint8)
