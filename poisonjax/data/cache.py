"""A cache of the decoded arrays of a data set, in one file: decoding takes seconds, reading them does not."""

import hashlib
import itertools
import logging
from collections.abc import Iterable, Sequence
from math import prod
from pathlib import Path

import numpy as np

from poisonjax.data import prepare
from poisonjax.runtime import files

Spec = tuple[tuple[int, ...], type]  # shape and dtype of one array


def digest(arrays: Iterable[np.ndarray]) -> str:
    """Hex sha256 of the bytes of the arrays, in this order, each in C order."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(np.ascontiguousarray(array))
    return total.hexdigest()


def stamp(files: Iterable[Path]) -> bytes:
    """Fingerprint of the record files, 64 bytes: names, sizes, modification times."""
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(files)]
    return hashlib.sha256(repr(stats).encode()).hexdigest().encode()


def read(path: Path, mark: bytes, specs: Sequence[Spec]) -> list[np.ndarray] | None:
    """The read-only arrays stored under this fingerprint; None without them. Their digest is not checked."""
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


def store(root: Path, path: Path, mark: bytes, arrays: Iterable[np.ndarray]) -> None:
    """`write` while `root`, created if absent, is locked; a failure is a warning only."""
    try:
        with prepare.locked(root):
            write(path, mark, arrays)
    except OSError as error:
        logging.getLogger(__name__).warning("%s cannot be written (%s); the next run decodes again", path, error)


def write(path: Path, mark: bytes, arrays: Iterable[np.ndarray]) -> None:
    """Store the arrays under this fingerprint, atomically. Call it while the folder is locked."""
    for left in files.leftovers(path):
        left.unlink()
    files.write_atomic(path, itertools.chain([mark], map(np.ascontiguousarray, arrays)))
