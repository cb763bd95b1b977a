"""Arithmetic on images of any shape [b ...], row by row."""

import math

import jax
import jax.numpy as jnp

from poisonjax.types import Array


def axes(x: Array) -> tuple[int, ...]:
    """The axes of a row of x [b ...]: all but the first."""
    return tuple(range(1, x.ndim))


def per_row(values: Array, like: Array) -> Array:
    """Values [b] as [b 1 ...], to broadcast over the rows of `like` [b ...]."""
    return values.reshape((-1,) + (1,) * (like.ndim - 1))


def full(value: Array | float | bool, like: Array) -> Array:
    """The same value for every row of `like` [b ...], as [b 1 ...]."""
    return jnp.full((len(like),) + (1,) * (like.ndim - 1), value)


def pixels(shape: tuple[int, ...]) -> tuple[int, int]:
    """The pixels of an image (h, w, c), and the channels of each; features of a row (d,) are pixels of one channel."""
    return (math.prod(shape[:-1]), shape[-1]) if len(shape) > 1 else (shape[0], 1)


def total(x: Array) -> Array:
    """Sum of each row of x [b ...], as [b 1 ...]."""
    return jnp.sum(x, axes(x), keepdims=True)


def l2(delta: Array) -> Array:
    """Euclidean length of each row of delta [b ...], [b]."""
    return jnp.sqrt(jnp.sum(jnp.square(delta), axes(delta)))


def linf(delta: Array) -> Array:
    """Largest absolute value in each row of delta [b ...], [b]."""
    return jnp.max(jnp.abs(delta), axes(delta))


def fold_in(keys: Array, number: Array | int) -> Array:
    """A new key for each of keys [b], by the number of a step, run or stage."""
    return jax.vmap(jax.random.fold_in, (0, None))(keys, number)
