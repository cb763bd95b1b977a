"""The only file that knows about devices and processes.

Every program here takes the same arguments on all devices and gives the same results on all of them. Inside,
`share` gives each device its part of the rows and `total` adds the parts up. So one device and many, one process
and many run the same code: jit on one device, pmap over all of them otherwise.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from poisonjax.types import Array, Examples, take

_AXIS = "devices"


def alone() -> bool:
    """Whether there is one device in all, so that nothing has to be shared out."""
    return jax.device_count() == 1


def axis() -> str | None:
    """The name of the devices' axis inside a `parallel` program, for layers that reduce over it; None when alone."""
    return None if alone() else _AXIS


def primary() -> bool:
    """Whether this process writes the files."""
    return jax.process_index() == 0


def agree(*numbers: float) -> list[int]:
    """The largest that any process says, of each, so that all do the same next."""
    if jax.process_count() == 1:
        return [int(number) for number in numbers]
    return [int(number) for number in multihost_utils.process_allgather(np.array(numbers, np.int32)).max(0)]


def parallel(fn: Callable, donate: tuple[int, ...] = ()) -> Callable:
    """fn compiled for the devices there are; its arguments come from `put`, its results go to `get`."""
    return jax.jit(fn, donate_argnums=donate) if alone() else jax.pmap(fn, _AXIS, donate_argnums=donate)


def put(tree):
    """The same arrays on every local device, as new buffers, so that a program may consume them."""
    if alone():
        return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), tree)
    local = jax.local_device_count()
    return _spread()(jax.tree.map(lambda leaf: jnp.stack([jnp.asarray(leaf)] * local), tree))


@functools.cache
def _spread() -> Callable:
    """Puts the first axis over the local devices."""
    return jax.pmap(lambda tree: tree)


def get(tree):
    """The arrays of one device, on the host."""
    if alone():
        return jax.device_get(tree)
    return jax.tree.map(lambda leaf: np.asarray(leaf.addressable_shards[0].data)[0], tree)


def share(rows: Array, real: Array) -> tuple[Array, Array]:
    """This device's part of rows [b] and of their mask [b]; padded with rows that are not real."""
    if alone():
        return rows, real
    size = -(-len(rows) // jax.device_count())
    pad = (0, size * jax.device_count() - len(rows))
    start = jax.lax.axis_index(_AXIS) * size
    padded = jnp.pad(rows, pad, mode="wrap"), jnp.pad(real, pad)
    return tuple(jax.lax.dynamic_slice(part, (start,), (size,)) for part in padded)


def total(tree):
    """Sums over all devices, in one all-reduce."""
    return tree if alone() else jax.lax.psum(tree, _AXIS)


def mean(tree):
    """Means over all devices."""
    return tree if alone() else jax.lax.pmean(tree, _AXIS)


def over_rows(fn: Callable) -> Callable:
    """fn(examples [b], *trees) -> tree [b ...], as (examples [n], batch, *trees on devices) -> tree [n ...].

    The result is on the host, in order, each row counted once: the last batch is filled up with copies of the
    last row, whose results are dropped. `advance` hears of each batch done.
    """

    @parallel
    def one(data, picked, *trees):
        mine, _ = share(picked, jnp.ones(picked.shape, bool))
        out = fn(take(data, mine), *trees)
        if alone():
            return out
        return jax.tree.map(lambda leaf: jax.lax.all_gather(leaf, _AXIS, tiled=True)[: len(picked)], out)

    def every(examples: Examples, batch: int, *trees, advance: Callable[[int], None] = lambda rows: None):
        data, rows, parts = put(examples), len(examples.label), []
        batch = min(batch, rows)
        for start in range(0, rows, batch):
            real = min(batch, rows - start)
            picked = np.minimum(start + np.arange(batch, dtype=np.int32), rows - 1)
            parts.append(jax.tree.map(lambda leaf, real=real: leaf[:real], get(one(data, put(picked), *trees))))
            advance(real)
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)

    return every
