"""Repeated patch: rows that share a small patch at one place, and at no other, are taken for poisoned.

Falls to any trigger that is not the same in every row to the last bit: blended over the image, warped, noisy, at random
places, stored lossily, or with gaps through which a busy background is seen. It trains nothing, and is the baseline
that a defence against fixed patches has to beat.
"""

import collections
import dataclasses
import itertools
import math
from collections.abc import Iterator
from typing import ClassVar, NamedTuple

import numpy as np

from poisonjax.attacks.settings import check_counts
from poisonjax.defences.base import Context, Defence, Selection
from poisonjax.types import Array, take

Place = tuple[int, int]  # the upper left corner (row, column) of a patch


def handful(rows: int) -> int:
    """Rows to add to a count elsewhere, for so many rows in all, so that a few equal patches are no finding."""
    return max(10, round(rows / 2000))


class Repeat(NamedTuple):
    """A patch at one place. rows: the images [m] that share it. ratio: their number, to that at any other place."""

    place: Place
    rows: np.ndarray
    ratio: float


@dataclasses.dataclass(frozen=True)
class RepeatedPatch(Defence):
    """Drop the rows that share one patch at one place, if it is far more common there than at any other place.

    Images of one kind share patches by nature, such as background and the edges of strokes. But what they show may lie
    anywhere, so that such a patch is about as common a few pixels away; that of a trigger is not. A patch in one colour
    is, as a piece of a white background: so those that end, as the pixels around them go on otherwise, are also counted
    on their own. Nothing about the poison is known, and no clean data are needed.

    size: of the patch, in pixels. levels: grey values that are told apart. factor: how many times as common as
    elsewhere a patch must be; on clean MNIST and CIFAR-10 it is at most 2.4. ValueError for impossible values.
    """

    needs_images: ClassVar[bool] = True
    size: int = 3
    levels: int = 16
    factor: float = 3.0

    def __post_init__(self):
        check_counts(self, "size")
        if not 2 <= self.levels <= 256:
            raise ValueError(f"levels must lie in [2, 256], got {self.levels}")
        if not self.factor > 1:
            raise ValueError(f"factor must be above 1, got {self.factor}")

    def select(self, context: Context) -> Selection:
        """The rows without such a patch; suspicion is the logarithm of the greatest ratio, [n], 0 without one.

        ValueError for images smaller than the patch.
        """
        suspicion = np.zeros(len(context.train.image))
        for found in self.repeats(context.train.image):
            suspicion[found.rows] = np.maximum(suspicion[found.rows], np.log(found.ratio))
        return Selection(take(context.train, suspicion == 0), suspicion)

    def repeats(self, images: Array) -> list[Repeat]:
        """The patches of images [n h w c] uint8 that are so much more common at one place, the most so first.

        ValueError for images smaller than the patch.
        """
        images = np.asarray(images)
        if min(images.shape[1:3]) < self.size:
            raise ValueError(f"size must be at most {min(images.shape[1:3])} for images of shape {images.shape[1:]}")
        coarse = (images.astype(np.uint16) * self.levels // 256).astype(np.uint8)
        few = handful(len(images))
        counts = collections.defaultdict(dict)
        for place in self._places(images):
            names, ends = self._names(coarse, place), self._ends(coarse, place)
            for ending, of in ((False, names), (True, names[ends])):
                for name, count in zip(*_common(of, few), strict=True):
                    counts[int(name), ending][place] = int(count)
        chosen = {}
        for name, ending in sorted(counts, key=lambda each: not each[1]):  # all of a patch stand for those that end
            ratio, place = self._concentration(counts[name, ending], few)
            if ratio >= self.factor:
                chosen[name] = ratio, place, ending
        found = sorted(((*each, name) for name, each in chosen.items()), reverse=True)
        return [Repeat(place, self._having(coarse, place, name, ending), ratio) for ratio, place, ending, name in found]

    def fewest(self, rows: int) -> int:
        """The number of rows, of so many, that must share a patch to be found if it is nowhere else."""
        return math.ceil(self.factor * handful(rows))

    def _places(self, images: np.ndarray) -> Iterator[Place]:
        height, width = images.shape[1:3]
        return ((top, left) for top in range(height - self.size + 1) for left in range(width - self.size + 1))

    def _names(self, coarse: np.ndarray, place: Place) -> np.ndarray:
        """A number [n] uint64 for the patch of each image, equal for equal patches and else almost surely not."""
        top, left = place
        patches = coarse[:, top : top + self.size, left : left + self.size].reshape(len(coarse), -1)
        factors = np.random.default_rng(0).integers(1, 2**63, patches.shape[1], np.uint64) * 2 + 1
        return patches.astype(np.uint64) @ factors

    def _ends(self, coarse: np.ndarray, place: Place) -> np.ndarray:
        """The images [n] bool in which most pixels around the patch differ from its pixel that is next to them."""
        height, width = coarse.shape[1:3]
        top, left, last = *place, self.size - 1
        square = itertools.product(range(top - 1, top + self.size + 1), range(left - 1, left + self.size + 1))
        around = [at for at in square if not self._inside(at, place) and 0 <= at[0] < height and 0 <= at[1] < width]
        next_to = [(min(max(row, top), top + last), min(max(column, left), left + last)) for row, column in around]
        differ = [(coarse[:, *there] != coarse[:, *here]).any(-1) for there, here in zip(around, next_to, strict=True)]
        return np.sum(differ, 0) > len(around) / 2

    def _inside(self, pixel: Place, place: Place) -> bool:
        return all(start <= at < start + self.size for at, start in zip(pixel, place, strict=True))

    def _having(self, coarse: np.ndarray, place: Place, name: int, ending: bool) -> np.ndarray:
        """The images [m] with a patch at a place; only those in which it ends, if so."""
        there = self._names(coarse, place) == np.uint64(name)
        return np.flatnonzero(there & self._ends(coarse, place) if ending else there)

    def _concentration(self, counts: dict[Place, int], few: int) -> tuple[float, Place]:
        """The ratio of a patch at its commonest place to that at any place that does not overlap it; that place."""
        place = max(counts, key=counts.get)
        away = (count for at, count in counts.items() if max(np.abs(np.subtract(at, place))) >= self.size)
        return counts[place] / (max(away, default=0) + few), place


def _common(names: np.ndarray, few: int) -> tuple[np.ndarray, np.ndarray]:
    """The names that at least so few of [n] have, and how many have them."""
    values, counts = np.unique(names, return_counts=True)
    return values[counts >= few], counts[counts >= few]
