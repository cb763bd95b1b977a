"""Randomness: a key for each use, for each row, and for each image."""

import zlib

import jax
import jax.numpy as jnp

from poisonjax.types import Array


def stream_key(seed: int, name: str) -> Array:
    """The key of one source of randomness: poison, network, order of the data and evaluation share none."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))


def image_keys(image: Array, seed: int) -> Array:
    """A key for each image [b h w c] in [0, 1], which depends on its bytes alone, so that it is the same everywhere."""
    pixels = jnp.round(image * 255).astype(jnp.uint32).reshape(len(image), -1)
    factors = jax.random.bits(jax.random.key(seed), pixels.shape[1:], jnp.uint32)
    digests = jnp.sum(pixels * factors, -1, dtype=jnp.uint32)
    return jax.vmap(lambda digest: jax.random.fold_in(jax.random.key(seed), digest))(digests)


def row_keys(key: Array, index: Array, stream: int) -> Array:
    """A key for each row [b], which depends on its `index` [b] alone, not on its place in the batch."""
    return jax.vmap(lambda row: jax.random.fold_in(jax.random.fold_in(key, stream), row))(index)
