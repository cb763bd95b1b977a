"""Rows whose images are almost the same, such as one picture stored, compressed or brightened twice.

Does not find pictures that were cropped, mirrored, turned or shifted, nor copies with a trigger that can be seen well.
Pictures that are simple and alike by nature, such as the digit 1, are found though they are no copies.
"""

from typing import NamedTuple

import numpy as np

from poisonjax.types import Examples

SIDE = 16  # of the small images that are compared, at most
DISTANCE = 0.03  # root mean square of their difference, in units of images in [0, 1], at most
CHUNK = 4096  # images that are made smaller at once
BLOCK = 512  # images that are compared at once with all later ones


class NearDuplicates(NamedTuple):
    """Rows with almost the same image. rows: places [m] in the examples, in order. labels: theirs, [m]."""

    rows: np.ndarray
    labels: np.ndarray

    @property
    def disagree(self) -> bool:
        """True if they have different labels."""
        return bool(np.any(self.labels != self.labels[0]))


def near_duplicates(examples: Examples) -> list[NearDuplicates]:
    """Groups of rows whose images [n h w c] uint8, made smaller, are within DISTANCE of the first of the group.

    Those with different labels come first, then the largest, then by place. A row is in one group at most: that of the
    earliest row that began one and is near. Compares all pairs, as products of matrices.
    """
    images, labels = np.asarray(examples.image), np.asarray(examples.label)
    firsts, same = _distinct(images)
    of_row = _leaders(_rows(_small(images[firsts])))[same]  # places in `firsts`
    order = np.argsort(of_row, kind="stable")
    starts = np.flatnonzero(np.diff(of_row[order])) + 1
    groups = [NearDuplicates(rows, labels[rows]) for rows in np.split(order, starts) if len(rows) > 1]
    return sorted(groups, key=lambda each: (not each.disagree, -len(each.rows), int(each.rows[0])))


def _distinct(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first row of each different image, in order, and for each row [n] the place of its own among them."""
    whole = np.ascontiguousarray(images).reshape(len(images), -1)
    _, firsts, same = np.unique(whole.view(f"V{whole.shape[1]}")[:, 0], return_index=True, return_inverse=True)
    rank = np.empty(len(firsts), np.int64)
    rank[np.argsort(firsts)] = np.arange(len(firsts))
    return np.sort(firsts), rank[same]


def _small(images: np.ndarray) -> np.ndarray:
    """Images [n h w c] uint8 as small ones [n s t c] in [0, 1]."""
    parts = np.split(images, range(CHUNK, len(images), CHUNK))
    return np.concatenate([_averaged(part / np.float32(255), SIDE) for part in parts])


def _averaged(images: np.ndarray, side: int) -> np.ndarray:
    """Images [n h w c] as the means [n s t c] of equal parts, s and t at most side."""
    down, across = (_averages(length, min(side, length)) for length in images.shape[1:3])
    return np.einsum("ih,nhwc,jw->nijc", down, images, across, optimize=True)


def _averages(length: int, parts: int) -> np.ndarray:
    """The weights [s length] that average a line of pixels over s equal parts of it."""
    edges = np.linspace(0, length, parts + 1)[:, None]
    below = np.clip(edges - np.arange(length), 0, 1)  # the share of each pixel below each edge
    return (np.diff(below, axis=0) * parts / length).astype(np.float32)


def _rows(images: np.ndarray) -> np.ndarray:
    """Images [n ...] as rows [n d] whose Euclidean distance is the root mean square of the difference of the images."""
    rows = images.reshape(len(images), -1)
    return rows / np.sqrt(np.float32(rows.shape[1]))


def _leaders(rows: np.ndarray) -> np.ndarray:
    """For each row [n d] the place of the first row of its group; its own where it is alone."""
    leader, alone = np.arange(len(rows)), np.ones(len(rows), bool)
    # |s - r|^2 <= D^2 as s r - |r|^2 / 2 >= (|s|^2 - D^2) / 2: one product, and one number for each s.
    halves = np.square(rows).sum(1, keepdims=True) / 2
    ends = np.concatenate([rows, -halves], 1)
    for start in range(0, len(rows), BLOCK):
        later = start + np.flatnonzero(alone[start:])
        block = later[later < start + BLOCK]
        products = np.pad(rows[block], ((0, 0), (0, 1)), constant_values=1) @ ends[later].T
        for place, near in zip(block, products >= halves[block] - DISTANCE**2 / 2, strict=True):
            if alone[place]:
                found = later[near]
                found = found[alone[found]]
                leader[found], alone[found] = place, False
    return leader
