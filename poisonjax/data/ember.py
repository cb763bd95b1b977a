"""Rows of features of Windows programs, as the package of the EMBER data set writes them."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from poisonjax.data import decoded, divide
from poisonjax.data.arrays import from_arrays
from poisonjax.data.assemble import keeping
from poisonjax.data.dataset import Dataset
from poisonjax.data.origin import Origin, Reading
from poisonjax.data.sources import DataError
from poisonjax.data.stream import SPLITS
from poisonjax.data.tables import Levels

CLASSES = ("benign", "malicious")
_UNLABELLED = -1
_FITTED = 20_000  # training rows that levels are fitted to, at most
_CHUNK = 4096  # rows in memory as floats, at most
_FLOAT = np.dtype("<f4")


class Ember(Origin):
    """A folder with X_train.dat, y_train.dat, X_test.dat and y_test.dat (Anderson & Roth 2018), mapped into memory.

    They are plain float32: y [n] of 0 benign, 1 malicious and -1 unlabelled, whose rows are left out, X [n d], d by the
    size of the file. Features are scaled as those of spambase, but by the values in at most 20,000 labelled training
    rows at equal distances. Rows are named SPLIT:ROW.
    """

    kind = "ember"

    def load(self, place: str, data_dir: str | None, reading: Reading) -> Dataset:
        """The data set of the folder; its rows in 8 bits are kept until the size or time of a file changes."""
        source, root = f"ember:{place}", Path(place).expanduser()
        if reading.image_size is not None or reading.channels is not None:
            raise DataError(f"{source}: has rows of features; leave out image_size and channels")
        try:
            parts = [_mapped(source, root, split, reading) for split in SPLITS]
            return _assembled(source, root, parts, data_dir, reading)
        except OSError as error:
            raise DataError(f"{source}: {error.filename!r} cannot be read: {error.strerror}") from error


class _Split(NamedTuple):
    """The rows of a split as they are stored, of which `rows` [m], ascending, are labelled; nothing is read yet.

    name: of the file. order: the labelled rows in the order in which they become those of the data set.
    """

    name: str
    values: np.ndarray
    labels: np.ndarray
    rows: np.ndarray
    order: np.ndarray


def _mapped(source: str, root: Path, split: str, reading: Reading) -> _Split:
    name = f"X_{split}.dat"
    labels = _labels(source, root / f"y_{split}.dat")
    size, row = (root / name).stat().st_size, len(labels) * _FLOAT.itemsize
    if not size or size % row:
        raise DataError(
            f"{source}: {name} must have as many float32 for each of the {len(labels):,} labels, got {size:,} bytes"
        )
    values = np.memmap(root / name, _FLOAT, "r", shape=(len(labels), size // row))
    rows = np.flatnonzero(labels != _UNLABELLED)
    return _Split(name, values, labels, rows, rows[divide.ordered([f"{split}:{row}" for row in rows], reading)])


def _labels(source: str, path: Path) -> np.ndarray:
    """The labels of a split, [n]. DataError unless they are some of each class, and unlabelled ones."""
    if not path.stat().st_size or path.stat().st_size % _FLOAT.itemsize:
        raise DataError(f"{source}: {path.name} must have a float32 for each row, got {path.stat().st_size:,} bytes")
    labels = np.fromfile(path, _FLOAT)
    other = np.flatnonzero(~np.isin(labels, (_UNLABELLED, *range(len(CLASSES)))))
    if other.size:
        raise DataError(
            f"{source}: {path.name} must have labels 0 benign, 1 malicious or -1 unlabelled, got {labels[other[0]]:g} "
            f"in row {other[0]:,}"
        )
    for label, name in enumerate(CLASSES):
        if label not in labels:
            raise DataError(f"{source}: {path.name} must have rows of both classes, got none labelled {label} {name}")
    return labels.astype(np.int32)


def _assembled(source: str, root: Path, parts: list[_Split], data_dir: str | None, reading: Reading) -> Dataset:
    train, test = parts
    features = train.values.shape[1]
    if test.values.shape[1] != features:
        raise DataError(
            f"{source}: {test.name} must have the {features:,} features of {train.name}, got {test.values.shape[1]:,}"
        )
    sizes = [len(part.rows) for part in parts]
    decoded.check_memory(f"{source}: {sum(sizes):,} rows of {features:,} features", sum(sizes) * features)
    mark = hashlib.sha256(repr((_FITTED, reading.split_seed, _states(root))).encode()).hexdigest()
    image = decoded.kept(*keeping(source, data_dir), mark, sum(sizes), lambda: _levelled(source, parts)).image
    arrays = [(rows, part.labels[part.order]) for rows, part in zip(np.split(image, sizes[:1]), parts, strict=True)]
    facts = {
        "features": f"{features:,}, each by rank among its values in {min(sizes[0], _FITTED):,} training rows",
        "split": divide.GIVEN,
        "left out": f"{sum(len(part.labels) for part in parts) - sum(sizes):,} unlabelled rows",
    }
    names = tuple(f"train:{row}" for row in train.order)
    return replace(from_arrays(source, *arrays, CLASSES), names=names, facts=facts)


def _states(root: Path) -> list[tuple[str, int, int]]:
    """What tells that a file changed."""
    about = [(path, path.stat()) for path in sorted(root.resolve().glob("[Xy]_*.dat"))]
    return [(str(path), state.st_size, state.st_mtime_ns) for path, state in about]


def _levelled(source: str, parts: list[_Split]) -> decoded.Decoded:
    """The labelled rows of both splits in 8 bits, in their order, [m d] uint8. DataError for a value that is none."""
    train, total = parts[0], sum(len(part.rows) for part in parts)
    fitted = np.unique(np.linspace(0, len(train.rows) - 1, _FITTED).round().astype(np.int64))
    levels = Levels.of(train.values[train.rows[fitted]])
    image, first = np.empty((total, train.values.shape[1]), np.uint8), 0
    with tqdm(desc=f"reading {source}", total=total, leave=False, unit="row", disable=None) as bar:
        for part in parts:
            place = first + np.argsort(part.order)  # of each labelled row, in the order of the file
            for at, values in _chunks(source, part):
                image[place[at : at + len(values)]] = levels(values)
                bar.update(len(values))
            first += len(part.rows)
    image.flags.writeable = False  # like what is kept
    return decoded.Decoded(image, {}, scaled=True)


def _chunks(source: str, part: _Split) -> Iterator[tuple[int, np.ndarray]]:
    """Some labelled rows at a time, finite floats [b d], and how many came before."""
    for at in range(0, len(part.rows), _CHUNK):
        rows = part.rows[at : at + _CHUNK]
        values = part.values[rows]
        bad = np.flatnonzero(~np.isfinite(values).all(1))
        if bad.size:
            raise DataError(f"{source}: {part.name} must have finite numbers, got others in row {rows[bad[0]]:,}")
        yield at, values
