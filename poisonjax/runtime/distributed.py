"""Devices and processes: the same code runs on one or many of either.

Every program takes the same arguments on all devices and returns the same results on all of them: jit on one device,
pmap over all of them otherwise. Inside, `shard` selects a device's part of the rows and `psum` adds the parts up.
`map_over_devices` trains independent networks instead, one on each device.
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
    """Connect the processes of a job. Call it before anything else of jax.

    jax recognises Cloud TPU, SLURM and Open MPI; other jobs set JAX_COORDINATOR_ADDRESS (host:port of process 0),
    JAX_NUM_PROCESSES and JAX_PROCESS_ID. ValueError if there is neither.
    """
    count, number = (os.environ.get(name) for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"))
    try:
        jax.distributed.initialize(num_processes=count and int(count), process_id=number and int(number))
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"--distributed: no job of several processes was found ({error}); start it on Cloud TPU, SLURM or Open "
            "MPI, or set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID"
        ) from None


def split_cpu(devices: int) -> None:
    """Split the CPU into so many devices. Call it before anything else of jax.

    With at most as many devices as cores, each has a thread. With more, PJRT_NPROC must give each two threads, or
    they may deadlock.
    """
    jax.config.update("jax_num_cpu_devices", devices)
    if devices > cores():
        os.environ.setdefault("PJRT_NPROC", str(2 * devices))


def cores() -> int:
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def single_device() -> bool:
    """True if one device does all the work, so that nothing has to be sharded."""
    return _apart.get() or jax.device_count() == 1


def cached(make: Callable) -> Callable:
    """Cache the newest PROGRAMS compiled programs of `make`, separately for one device and for all devices.

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
    """Name of the device axis in a `parallel` program, for layers that reduce over it; None on a single device."""
    return None if single_device() else _AXIS


def is_primary() -> bool:
    """True for the process that writes the files."""
    return jax.process_index() == 0


def all_max(*numbers: float) -> list[int]:
    """Element-wise maximum over processes, so that all take the same branch."""
    if jax.process_count() == 1:
        return [int(number) for number in numbers]
    return [int(number) for number in multihost_utils.process_allgather(np.array(numbers, np.int32)).max(0)]


def from_primary(make: Callable[[], T]) -> T:
    """Result of make() on the primary process, or its exception, on all processes; the others do not call it."""
    if jax.process_count() == 1:
        return make()
    message = pickle.dumps(_outcome(make)) if is_primary() else b""
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(message))))
    content = np.frombuffer(message.ljust(size, b"\0"), np.uint8)
    value, error = pickle.loads(multihost_utils.broadcast_one_to_all(content).tobytes())
    if error is not None:
        raise error
    return value


def _outcome(make: Callable) -> tuple:
    try:
        return make(), None
    except Exception as error:  # all processes end alike
        return None, error


def map_over_devices(fn: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Map fn over items: in parallel, one item per local device, if there are several of both; otherwise sequentially.

    With several processes it is sequential, each item on all devices.
    """
    items, devices = list(items), jax.local_devices()
    if min(len(items), len(devices)) == 1 or jax.process_count() > 1:
        return [fn(item) for item in items]
    free = queue.SimpleQueue()
    for device in devices:
        free.put(device)
    with ThreadPoolExecutor(len(devices)) as pool:
        return list(pool.map(functools.partial(_on_free_device, fn, free), items))


def _on_free_device(fn: Callable[[T], R], free: queue.SimpleQueue, item: T) -> R:
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
    """Compile fn for the available devices; its arguments come from `replicate`, its results go to `fetch`."""
    return compilation.jit(fn, donate_argnums=donate) if single_device() else jax.pmap(fn, _AXIS, donate_argnums=donate)


def replicate(tree):
    """Replicate arrays to every local device, in fresh buffers that may be donated."""
    if single_device():
        return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), tree)
    leaves, structure = jax.tree.flatten(tree)  # apart, since jax's caches keep the structure of arguments
    copies = [jnp.stack([jnp.asarray(leaf)] * jax.local_device_count()) for leaf in leaves]
    return jax.tree.unflatten(structure, _spread()(copies) if copies else [])


@functools.cache
def _spread() -> Callable:
    """Program that spreads the first axis over the local devices."""
    return jax.pmap(lambda tree: tree)


def fetch(tree):
    """Copy the arrays of one device to the host."""
    if single_device():
        return jax.device_get(tree)
    return jax.tree.map(lambda leaf: np.asarray(leaf.addressable_shards[0].data)[0], tree)


def shard(rows: Array, real: Array) -> tuple[Array, Array]:
    """This device's part of rows [b] and of their mask [b], padded with rows whose mask is false."""
    if single_device():
        return rows, real
    size = -(-len(rows) // jax.device_count())
    pad = (0, size * jax.device_count() - len(rows))
    start = jax.lax.axis_index(_AXIS) * size
    padded = jnp.pad(rows, pad, mode="wrap"), jnp.pad(real, pad)
    return tuple(jax.lax.dynamic_slice(part, (start,), (size,)) for part in padded)


def local_shard(rows: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The parts that `shard` selects on this process's devices, in NumPy: rows [b] -> [devices b'], or [b] on one."""
    if single_device():
        return rows, real
    pad = (0, -len(rows) % jax.device_count())
    return _local(np.pad(rows, pad, mode="wrap")), _local(np.pad(real, pad))


def _local(rows: np.ndarray) -> np.ndarray:
    """The parts [devices b' ...] of this process's devices, of rows that all devices share equally."""
    first, mine = jax.process_index() * jax.local_device_count(), jax.local_device_count()
    return rows.reshape(jax.device_count(), -1, *rows.shape[1:])[first : first + mine]


def place_shards(tree):
    """Copy arrays that `local_shard` laid out to the devices."""
    return jax.tree.map(jnp.asarray, tree) if single_device() else _spread()(tree)


def scatter(tree):
    """Copy arrays [b ...] to the devices, of each the rows that `shard` selects, filled up with zeros."""
    if single_device() or not jax.tree.leaves(tree):
        return replicate(tree)

    def part(rows) -> np.ndarray:
        return _local(np.pad(rows, ((0, -len(rows) % jax.device_count()), *[(0, 0)] * (np.ndim(rows) - 1))))

    return place_shards(jax.tree.map(part, tree))


def gather(tree, rows: int):
    """Copy to the host what `scatter` spread: arrays [rows ...]."""
    if single_device() or not jax.tree.leaves(tree):
        return jax.device_get(tree)
    return jax.tree.map(lambda leaf: leaf[:rows], fetch(_gathering()(tree)))


@functools.cache
def _gathering() -> Callable:
    """Program that copies the parts of all devices to each."""
    return jax.pmap(lambda tree: jax.tree.map(_of_all, tree), _AXIS)


def _of_all(rows: Array) -> Array:
    return jax.lax.all_gather(rows, _AXIS, tiled=True)


def psum(tree):
    """Sum over all devices, in one all-reduce."""
    return tree if single_device() else jax.lax.psum(tree, _AXIS)


def pmean(tree):
    """Mean over all devices."""
    return tree if single_device() else jax.lax.pmean(tree, _AXIS)


def over_rows(fn: Callable) -> Callable:
    """Turn fn(examples [b], *trees) -> tree [b ...] into (examples [n], batch, *trees on devices) -> tree [n ...].

    The result is on the host, in order, one row per example: the last batch is padded with copies of the last row,
    whose results are dropped. advance: called with the number of rows of each finished batch.
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
            return jax.tree.map(lambda leaf: _of_all(leaf)[: len(picked)], out)

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
