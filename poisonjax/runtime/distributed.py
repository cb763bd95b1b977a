"""The only file that knows about devices and processes.

Every program here takes the same arguments on all devices and gives the same results on all of them. Inside,
`shard` gives each device its part of the rows and `psum` adds the parts up. So one device and many, one process
and many run the same code: jit on one device, pmap over all of them otherwise. Where several networks are wanted,
`map_over_devices` gives every device one of its own instead.
"""

import contextlib
import contextvars
import functools
import os
import pickle
import queue
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from poisonjax.runtime import compilation
from poisonjax.types import Array, Examples, take

T, R = TypeVar("T"), TypeVar("R")
PROGRAMS = 64  # kept of each maker: a run has about ten arms, and a few programs for each
_AXIS = "devices"
_caches: list = []
_apart = contextvars.ContextVar("apart", default=False)


def initialize() -> None:
    """Makes the processes of a job one: those of Cloud TPU, SLURM or Open MPI, which jax finds by itself, or any.

    Others say who they are by JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES and
    JAX_PROCESS_ID. ValueError if neither tells. Before anything else of jax.
    """
    count, number = (os.environ.get(name) for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"))
    try:
        jax.distributed.initialize(num_processes=count and int(count), process_id=number and int(number))
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"--distributed: no job of several processes was found ({error}): allowed are Cloud TPU, SLURM, Open MPI, "
            "or JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID in the environment"
        ) from None


def split_cpu(devices: int) -> None:
    """Makes the CPU of this machine so many devices. Before anything else of jax.

    With no more of them than cores each has a thread. Otherwise all need two, or they may wait for each other for ever,
    unless PJRT_NPROC says how many there are.
    """
    jax.config.update("jax_num_cpu_devices", devices)
    if devices > cores():
        os.environ.setdefault("PJRT_NPROC", str(2 * devices))


def cores() -> int:
    """Of the CPU, that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def single_device() -> bool:
    """Whether one device does it all, so that nothing has to be shared out."""
    return _apart.get() or jax.device_count() == 1


def cached(make: Callable) -> Callable:
    """Cache the newest PROGRAMS programs of a maker of `parallel` ones, separately for one device and for all devices.

    Arguments must be hashable. A program keeps its arguments alive, so a network that is a closure over its weights
    stays in memory until PROGRAMS others came after it, or `clear_caches`.
    """
    programs = functools.lru_cache(PROGRAMS)(lambda single, *args: make(*args))
    _caches.append(programs)
    return functools.wraps(make)(lambda *args: programs(single_device(), *args))


def clear_caches() -> None:
    """Drop all compiled programs: those of `cached` and jax's own."""
    for programs in _caches:
        programs.cache_clear()
    jax.clear_caches()


def axis() -> str | None:
    """The name of the devices' axis inside a `parallel` program, for layers that reduce over it; None when alone."""
    return None if single_device() else _AXIS


def is_primary() -> bool:
    """Whether this process writes the files."""
    return jax.process_index() == 0


def all_max(*numbers: float) -> list[int]:
    """The largest that any process says, of each, so that all do the same next."""
    if jax.process_count() == 1:
        return [int(number) for number in numbers]
    return [int(number) for number in multihost_utils.process_allgather(np.array(numbers, np.int32)).max(0)]


def from_primary(make: Callable[[], T]) -> T:
    """What make() gives, or raises, on the process that writes the files; the others do not call it."""
    if jax.process_count() == 1:
        return make()
    told = pickle.dumps(_outcome(make)) if is_primary() else b""
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(told))))
    content = np.frombuffer(told.ljust(size, b"\0"), np.uint8)
    value, error = pickle.loads(multihost_utils.broadcast_one_to_all(content).tobytes())
    if error is not None:
        raise error
    return value


def _outcome(make: Callable) -> tuple:
    try:
        return make(), None
    except Exception as error:  # all processes are to end alike
        return None, error


def map_over_devices(fn: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """fn of every item, in order: one device an item where there are several of both, else one after the other.

    Over several processes they come one after the other, on all devices.
    """
    items, devices = list(items), jax.local_devices()
    if min(len(items), len(devices)) == 1 or jax.process_count() > 1:
        return [fn(item) for item in items]
    free = queue.SimpleQueue()
    for device in devices:
        free.put(device)
    with ThreadPoolExecutor(len(devices)) as pool:
        return list(pool.map(functools.partial(_on_its_own, fn, free), items))


def _on_its_own(fn: Callable[[T], R], free: queue.SimpleQueue, item: T) -> R:
    device = free.get()
    try:
        with _one_device(device):
            return fn(item)
    finally:
        free.put(device)


@contextlib.contextmanager
def _one_device(device) -> Iterator[None]:
    token = _apart.set(True)
    try:
        with jax.default_device(device):
            yield
    finally:
        _apart.reset(token)


def parallel(fn: Callable, donate: tuple[int, ...] = ()) -> Callable:
    """fn compiled for the devices there are; its arguments come from `replicate`, its results go to `fetch`."""
    return compilation.jit(fn, donate_argnums=donate) if single_device() else jax.pmap(fn, _AXIS, donate_argnums=donate)


def replicate(tree):
    """The same arrays on every local device, as new buffers, so that a program may consume them."""
    if single_device():
        return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), tree)
    leaves, structure = jax.tree.flatten(tree)  # apart, since jax's caches keep the structure of arguments
    copies = [jnp.stack([jnp.asarray(leaf)] * jax.local_device_count()) for leaf in leaves]
    return jax.tree.unflatten(structure, _spread()(copies) if copies else [])


@functools.cache
def _spread() -> Callable:
    """Puts the first axis over the local devices."""
    return jax.pmap(lambda tree: tree)


def fetch(tree):
    """The arrays of one device, on the host."""
    if single_device():
        return jax.device_get(tree)
    return jax.tree.map(lambda leaf: np.asarray(leaf.addressable_shards[0].data)[0], tree)


def shard(rows: Array, real: Array) -> tuple[Array, Array]:
    """This device's part of rows [b] and of their mask [b]; padded with rows that are not real."""
    if single_device():
        return rows, real
    size = -(-len(rows) // jax.device_count())
    pad = (0, size * jax.device_count() - len(rows))
    start = jax.lax.axis_index(_AXIS) * size
    padded = jnp.pad(rows, pad, mode="wrap"), jnp.pad(real, pad)
    return tuple(jax.lax.dynamic_slice(part, (start,), (size,)) for part in padded)


def local_shard(rows: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What `shard` gives this process's devices, for the host: rows [b] -> [devices b'], or [b] when alone."""
    if single_device():
        return rows, real
    size, mine = -(-len(rows) // jax.device_count()), jax.local_device_count()
    pad = (0, size * jax.device_count() - len(rows))
    first = jax.process_index() * mine
    parts = np.pad(rows, pad, mode="wrap"), np.pad(real, pad)
    return tuple(part.reshape(-1, size)[first : first + mine] for part in parts)


def place_shards(tree):
    """Arrays that `local_shard` laid out, on the devices."""
    return jax.tree.map(jnp.asarray, tree) if single_device() else _spread()(tree)


def psum(tree):
    """Sums over all devices, in one all-reduce."""
    return tree if single_device() else jax.lax.psum(tree, _AXIS)


def pmean(tree):
    """Means over all devices."""
    return tree if single_device() else jax.lax.pmean(tree, _AXIS)


def over_rows(fn: Callable) -> Callable:
    """fn(examples [b], *trees) -> tree [b ...], as (examples [n], batch, *trees on devices) -> tree [n ...].

    The result is on the host, in order, each row counted once: the last batch is filled up with copies of the
    last row, whose results are dropped. advance: called with the number of rows of each finished batch.
    """

    @functools.cache
    def program(structure) -> Callable:
        """One batch. Arguments are plain arrays: jax's own caches keep the structure of arguments, and a network that
        is a closure would live in it."""

        @parallel
        def one(data, picked, leaves):
            mine, _ = shard(picked, jnp.ones(picked.shape, bool))
            out = fn(take(data, mine), *jax.tree.unflatten(structure, leaves))
            if single_device():
                return out
            return jax.tree.map(lambda leaf: jax.lax.all_gather(leaf, _AXIS, tiled=True)[: len(picked)], out)

        return one

    def every(examples: Examples, batch: int, *trees, advance: Callable[[int], None] = lambda rows: None):
        data, rows, parts = replicate(examples), len(examples.label), []
        leaves, structure = jax.tree.flatten(trees)
        one, batch = program(structure), min(batch, rows)
        for start in range(0, rows, batch):
            real = min(batch, rows - start)
            picked = np.minimum(start + np.arange(batch, dtype=np.int32), rows - 1)
            parts.append(jax.tree.map(lambda leaf, real=real: leaf[:real], fetch(one(data, replicate(picked), leaves))))
            advance(real)
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)

    return every
