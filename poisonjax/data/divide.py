"""The order of rows of one's own, and which of them are for testing: by their names alone, on every machine."""

import hashlib
from collections.abc import Sequence

import numpy as np

from poisonjax.data.arrays import class_ranks
from poisonjax.data.origin import Reading
from poisonjax.data.sources import DataError

GIVEN = "as given"


def ordered(names: Sequence[str], reading: Reading) -> np.ndarray:
    """The rows, [n], by the sha256 of split_seed and name, so that the first ones are of all classes."""
    digests = [hashlib.sha256(f"{reading.split_seed} {name}".encode(errors="surrogateescape")) for name in names]
    return np.array(sorted(range(len(names)), key=lambda row: digests[row].digest()), np.int64)


def divided(
    source: str, names: Sequence[str], labels: np.ndarray, classes: Sequence[str], reading: Reading
) -> tuple[np.ndarray, np.ndarray]:
    """Rows [n] to train on and rows [m] to test on: `test_share` of each class, rounded, at least one of each kind.

    DataError, naming the class, for one that has a single row.
    """
    sizes = np.bincount(labels, minlength=len(classes))
    if 1 in sizes:
        lonely = classes[int(np.flatnonzero(sizes == 1)[0])]
        raise DataError(f"{source}: class {lonely!r} has 1 image; at least 2 are needed, to train and to test on")
    order = ordered(names, reading)
    held = np.clip(np.round(reading.test_share * sizes), 1, sizes - 1)
    is_test = class_ranks(labels[order]) < held[labels[order]]
    return order[~is_test], order[is_test]


def rule(reading: Reading) -> str:
    """The way in which rows are divided, for the record."""
    return f"{reading.test_share:g} of each class is the test split, by the names of rows and seed {reading.split_seed}"


def checked(source: str, train: np.ndarray, test: np.ndarray, classes: Sequence[str]) -> None:
    """DataError unless there are two classes, rows of each to train on, and rows to test on; labels [n], [m]."""
    if len(classes) < 2:
        raise DataError(f"{source}: has {len(classes)} class{'es' * (not classes)}; at least 2 are needed")
    sizes = np.bincount(train, minlength=len(classes))
    if 0 in sizes:
        raise DataError(f"{source}: class {classes[int(np.argmin(sizes))]!r} has no image to train on")
    if not len(test):
        raise DataError(f"{source}: there is no image to test on")
