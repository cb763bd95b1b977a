"""The decoded arrays of a prepared data set in one file: decoding takes seconds, reading them does not."""

import hashlib
import itertools
from collections.abc import Iterable, Sequence
from math import prod
from pathlib import Path

import numpy as np

from poisonjax.runtime import files

Spec = tuple[tuple[int, ...], type]  # shape and dtype of one array


def digest(arrays: Iterable[np.ndarray]) -> str:
    """Hex sha256 of the bytes of the arrays, in this order, each in C order."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(np.ascontiguousarray(array))
    return total.hexdigest()


def stamp(files: Iterable[Path]) -> bytes:
    """What tells these record files from others or newer ones: 64 bytes over name, size and time of change."""
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(files)]
    return hashlib.sha256(repr(stats).encode()).hexdigest().encode()


def read(path: Path, mark: bytes, specs: Sequence[Spec]) -> list[np.ndarray] | None:
    """The read-only arrays under this stamp; None where there is none to read. Their digest is not checked."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    offsets = np.cumsum([len(mark)] + [prod(shape) * np.dtype(dtype).itemsize for shape, dtype in specs])
    if len(content) != offsets[-1] or not content.startswith(mark):
        return None
    return [
        np.frombuffer(content, dtype, prod(shape), offset).reshape(shape)
        for (shape, dtype), offset in zip(specs, offsets[:-1], strict=True)
    ]


def write(path: Path, mark: bytes, arrays: Iterable[np.ndarray]) -> None:
    """Put the arrays under this fingerprint, whole or not at all. Call it under the lock of the folder."""
    for left in files.leftovers(path):
        left.unlink()
    files.write_atomic(path, itertools.chain([mark], map(np.ascontiguousarray, arrays)))
