"""Rows whose images are almost the same, such as one picture stored, compressed or brightened twice.

Does not find pictures that were cropped, mirrored, turned or shifted, nor copies with a trigger that can be seen well.
Pictures that are simple and alike by nature, such as the digit 1, are found though they are no copies. Slow, in n
squared steps, where images differ in fine texture only, as noise does, whose means are all alike.
"""

from typing import NamedTuple

import numpy as np

from poisonjax.types import Examples

SIDE = 16  # of the small images that are compared, at most
DISTANCE = 0.03  # root mean square of their difference, in units of images in [0, 1], at most
COARSE = 4  # side of the grey images that candidates are looked for among
CHUNK = 4096  # images that are made smaller at once


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
    earliest row that began one and is near. Takes about n log n steps where few images are alike.
    """
    images, labels = np.asarray(examples.image), np.asarray(examples.label)
    firsts, same = _distinct(images)
    small = _small(images[firsts])
    leaders = _leaders(_rows(small), _rows(_averaged(small, COARSE).mean(-1)))
    of_row = leaders[same]  # places in `firsts`
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


def _leaders(rows: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """For each row [n d] the place of the first row of its group; its own where it is alone.

    coarse: means of the rows [n e], which no two rows are further apart in.
    """
    from scipy.spatial import cKDTree  # slow to import

    leader, seen = np.arange(len(rows)), np.zeros(len(rows), bool)
    tree = cKDTree(coarse)
    for place in range(len(rows)):
        if not seen[place]:
            near = np.array(tree.query_ball_point(coarse[place], DISTANCE * (1 + 1e-4)))  # more, for rounding
            near = near[~seen[near]]
            near = near[np.linalg.norm(rows[near] - rows[place], axis=1) <= DISTANCE]
            leader[near], seen[near] = place, True
    return leader
