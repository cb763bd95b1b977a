"""Rows of features that the package carries: read, scaled to 8 bits, and split so that no row is in both splits."""

import hashlib
import lzma
from collections.abc import Mapping
from pathlib import Path

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
    ranked = np.empty(values.shape, np.uint8)
    for at, column in enumerate(values.T):
        distinct, rank = np.unique(column, return_inverse=True)
        ranked[:, at] = np.round(rank * (255 / max(len(distinct) - 1, 1)))
    return ranked


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
