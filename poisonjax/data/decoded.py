"""Encoded images decoded in a pool of threads into one array, and kept for the next start."""

import contextlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import prod
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from tqdm import tqdm

from poisonjax.data import cache, images
from poisonjax.data.origin import Reading
from poisonjax.data.sources import DataError, one_line

SIDE = 64  # pixels of images that are of several sizes, unless image_size says otherwise
_CHUNK = 64  # images that a thread takes at a time

Open = Callable[[], BinaryIO]


class Decoded(NamedTuple):
    """Images [m h w c] uint8, those of the n rows that could be read, and {row: reason} of the others.

    scaled: True if an image was of another size.
    """

    image: np.ndarray
    broken: dict[int, str]
    scaled: bool


def decode(source: str, rows: Sequence[Open], reading: Reading) -> Decoded:
    """The images of rows [n]. DataError if they do not fit in memory."""
    looks: list[images.Look | None] = [None] * len(rows)
    broken: dict[int, str] = {}

    def see(row: int, file: BinaryIO) -> None:
        looks[row] = images.look(file)

    _each(rows, see, broken, f"looking at {source}")
    seen = {look for look in looks if look is not None}
    shape = _shape(seen, reading)
    check_memory(
        f"{source}: {len(rows):,} images of {' x '.join(map(str, shape))}",
        len(rows) * prod(shape),
        "a smaller image_size",
    )
    image = np.empty((len(rows), *shape), np.uint8)

    def fill(row: int, file: BinaryIO) -> None:
        image[row] = images.decode(file, *shape)

    _each(rows, fill, broken, f"decoding {source}")
    image = image[[row not in broken for row in range(len(rows))]] if broken else image
    image.flags.writeable = False  # like what is kept
    return Decoded(image, broken, any(look[:2] != shape[:2] for look in seen))


def _each(rows: Sequence[Open], work: Callable[[int, BinaryIO], None], broken: dict[int, str], label: str) -> None:
    """work(row, its file) for all rows that are not broken; the reason of those that fail goes there."""

    def chunk(first: int) -> int:
        end = min(first + _CHUNK, len(rows))
        for row in range(first, end):
            if row not in broken:
                try:
                    with rows[row]() as file:
                        work(row, file)
                except Exception as error:  # each decoder of Pillow raises its own kinds on damage
                    broken[row] = getattr(error, "strerror", None) or one_line(error)
        return end - first

    bar = tqdm(desc=label, total=len(rows), leave=False, unit="image", disable=None)
    with bar, images.strictly(), ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            for done in pool.map(chunk, range(0, len(rows), _CHUNK)):
                bar.update(done)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _shape(seen: set[images.Look], reading: Reading) -> tuple[int, int, int]:
    """The shape [h w c] of all images; 1 x 1 if none was seen."""
    channels = reading.channels or (1 if all(look.gray for look in seen) else 3)
    if reading.image_size is not None:
        return reading.image_size, reading.image_size, channels
    sizes = {look[:2] for look in seen} or {(1, 1)}
    return (*(sizes.pop() if len(sizes) == 1 else (SIDE, SIDE)), channels)


def check_memory(what: str, needed: int, cure: str = "fewer rows") -> None:
    """DataError if so many bytes are more than half of the memory of this machine."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there / 2:
        raise DataError(
            f"{what} are {needed / 1e9:.1f} GB, more than half of the {there / 1e9:.1f} GB of memory here; use {cure}"
        )


def kept(folder: Path, name: str, mark: str, rows: int, make: Callable[[], Decoded]) -> Decoded:
    """make(), or what it returned when called before for this name and mark, 64 characters; "" keeps nothing.

    rows: their number n. What has broken rows is not kept.
    """
    for path in folder.glob(f"{name}-*.decoded"):
        image = tuple(map(int, path.stem.rpartition("-")[2].split("x")))
        found = cache.read(path, mark.encode(), [((rows, *image), np.uint8), ((1,), np.bool_), ((32,), np.uint8)])
        if found is not None and cache.digest(found[:2]) == found[2].tobytes().hex():
            return Decoded(found[0], {}, bool(found[1][0]))
    made = make()
    if mark and not made.broken:
        arrays = [made.image, np.array([made.scaled])]
        arrays.append(np.frombuffer(bytes.fromhex(cache.digest(arrays)), np.uint8))
        shape = "x".join(map(str, made.image.shape[1:]))
        with contextlib.suppress(OSError):  # `store` warns of a folder that cannot be written
            for old in folder.glob(f"{name}-*.decoded"):
                old.unlink()
        cache.store(folder, folder / f"{name}-{shape}.decoded", mark.encode(), arrays)
    return made
