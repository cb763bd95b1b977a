"""Randomness: a key for each use, and for each row."""

import zlib

import jax

from poisonjax.types import Array


def stream_key(seed: int, name: str) -> Array:
    """The key of one source of randomness: poison, network, order of the data and evaluation share none."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))


def row_keys(key: Array, index: Array, stream: int) -> Array:
    """A key for each row [b], which depends on its `index` [b] alone, not on its place in the batch."""
    return jax.vmap(lambda row: jax.random.fold_in(jax.random.fold_in(key, stream), row))(index)
