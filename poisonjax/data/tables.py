"""Rows of features that the package carries: read, scaled to 8 bits, and split so that no row is in both splits."""

import hashlib
import lzma
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

FOLDER = Path(__file__).parent / "carried"
_TEST_SHARE = 5  # one distinct row of so many is for testing

Splits = dict[str, tuple[np.ndarray, np.ndarray]]  # split -> rows [n d] uint8, labels [n] uint8


def content(name: str) -> bytes:
    """The content of a file that FOLDER has as name.xz. OSError, EOFError or LZMAError if it is damaged."""
    return lzma.decompress((FOLDER / f"{name}.xz").read_bytes())


def phishing(files: Mapping[str, bytes]) -> Splits:
    """Phishing Websites: 24 features of two or three values; class 0 legitimate, 1 phishing."""
    lines = files["phishing_websites.csv"].decode().split("\n", 1)[1]  # below the header
    table = np.array([line.split(",")[1:] for line in lines.split()], np.float64)  # the first column numbers the rows
    return split(levels(table[:, :-1]), (table[:, -1] < 0).astype(np.uint8))


def spambase(files: Mapping[str, bytes]) -> Splits:
    """Spambase: 57 frequencies and lengths; class 0 ham, 1 spam."""
    lines = files["spambase.dat"].decode().replace(" ", "").split()
    table = np.array([line.split(",") for line in lines], np.float64)
    return split(levels(table[:, :-1]), table[:, -1].astype(np.uint8))


def levels(values: np.ndarray) -> np.ndarray:
    """Each feature of values [n d] by the rank of its value among its distinct ones, scaled to 0 to 255: [n d] uint8.

    Exact for up to 256 distinct values; of more, neighbours share a level. Ranks, since features such as frequencies
    have long tails, of which a linear scale would leave a few levels to all but some rows. A feature that does not vary
    is 0.
    """
    return Levels.of(values)(values)


class Levels(NamedTuple):
    """The rule of `levels`, as some rows have it, for these and others. A feature's level starts at each of its starts.

    starts: of each feature, the lowest value of every level, [m] ascending. level: of each feature, these, [m] uint8.
    """

    starts: list[np.ndarray]
    level: list[np.ndarray]

    @classmethod
    def of(cls, values: np.ndarray) -> "Levels":
        """The levels of values [n d]."""
        steps = [_steps(np.unique(column)) for column in values.T]
        return cls([start for start, _ in steps], [level for _, level in steps])

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Values [n d] -> [n d] uint8; those between two starts have the level of the lower one, others the nearest."""
        ranked = np.empty(values.shape, np.uint8)
        for at, (starts, level) in enumerate(zip(self.starts, self.level, strict=True)):
            ranked[:, at] = level[np.maximum(np.searchsorted(starts, values[:, at], "right") - 1, 0)]
        return ranked


def _steps(distinct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The starts and the levels of a feature with these distinct values, ascending."""
    level = np.round(np.arange(len(distinct)) * (255 / max(len(distinct) - 1, 1)))
    first = np.flatnonzero(np.diff(level, prepend=-1))
    return distinct[first], level[first].astype(np.uint8)


def split(rows: np.ndarray, labels: np.ndarray) -> Splits:
    """Rows [n d] uint8 with labels [n] in two splits, in their order; a fifth of the distinct rows is for testing.

    Equal rows go to the same split, whatever their labels: those whose sha256 are the first. So it depends on the rows
    alone, not on a random number generator.
    """
    distinct, number = np.unique(rows, axis=0, return_inverse=True)
    digests = [hashlib.sha256(row.tobytes()).hexdigest() for row in distinct]
    test = np.zeros(len(distinct), bool)
    test[np.argsort(digests)[: len(distinct) // _TEST_SHARE]] = True
    mask = test[number.ravel()]
    return {"train": (rows[~mask], labels[~mask]), "test": (rows[mask], labels[mask])}
