"""Data sets in memory, with the digest of their content."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from poisonjax.data import cache, prepare, raw
from poisonjax.data.sources import DataError, Source, find
from poisonjax.data.stream import SPLITS, batches
from poisonjax.types import Examples

_BATCH = 1000


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in memory: numpy arrays, rows of a tfds data set in the order of its splits.

    name: of a known data set, or `kind:place`. version: of the tfds data set, or of one that the package carries.
    train, test: image [n h w c] uint8, or rows of features [n d] uint8, label [n] int32 below `classes`, index [n]
    int32 = 0 .. n-1.
    label_names: of the classes; () where they have none but their numbers.
    clean: rows of the training split that are not trained on and known to be clean, or None.
    sha256: hex digest of train image, train label, test image, test label, in this order, in C order.
    names: names[i] is the file, or the row of a file, that the training row of index i was read from; () if unknown.
    facts: how data of one's own were read, for the record: numbers and texts by name.
    """

    name: str
    version: str
    classes: int
    train: Examples
    test: Examples
    sha256: str
    label_names: tuple[str, ...] = ()
    clean: Examples | None = None
    names: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def load_known(name: str, data_dir: str | None = None) -> Dataset:
    """A data set of `sources.SOURCES` from `data_dir` (None: tfds's own default).

    Rows of features are carried by the package. Of the others one that is missing is prepared first; it is decoded once
    and then read from a cache beside the record files. DataError, with the command to run, if that fails; DataError if
    the content does not have the official digest.
    """
    source = find(name)
    if source.carried:
        return _carried(name, source)
    builder, expected = prepare.prepared(name, data_dir), source.sha256
    arrays = _arrays(builder, expected)
    classes = builder.info.features["label"].num_classes
    return Dataset(name, str(builder.version), classes, *_splits(arrays), expected, source.label_names)


def _carried(name: str, source: Source) -> Dataset:
    """A data set of the package. DataError if it is not the one that it was made with."""
    splits = raw.from_package(source)
    arrays = [array for split in SPLITS for array in (splits[split][0], splits[split][1].astype(np.int32))]
    if cache.digest(arrays) != source.sha256:
        raise DataError(f"{name} is not what it was when it was packed; install poisonjax again")
    for array in arrays:
        array.flags.writeable = False
    return Dataset(name, "1.0.0", len(source.label_names), *_splits(arrays), source.sha256, source.label_names)


def _splits(arrays: list[np.ndarray]) -> tuple[Examples, Examples]:
    """Train image, train label, test image, test label as examples, numbered in their order."""
    train, test = (Examples(*arrays[at : at + 2], np.arange(len(arrays[at]), dtype=np.int32)) for at in (0, 2))
    return train, test


def _arrays(builder, expected: str) -> list[np.ndarray]:
    """Train image, train label, test image, test label; DataError unless they have the expected digest."""
    path = Path(f"{builder.data_dir}.decoded")
    mark = cache.stamp(prepare.record_files(builder))
    arrays = cache.read(path, mark, _specs(builder))
    if arrays is not None and cache.digest(arrays) == expected:
        return arrays
    arrays = _decode(builder)
    if cache.digest(arrays) != expected:
        raise DataError(f"{builder.data_dir} is not the official {builder.name}; delete it and prepare it again")
    cache.store(Path(builder.data_dir_root), path, mark, arrays)
    return arrays


def _specs(builder) -> list[cache.Spec]:
    image, splits = builder.info.features["image"].shape, builder.info.splits
    rows = (splits[split].num_examples for split in SPLITS)
    return [spec for n in rows for spec in (((n, *image), np.uint8), ((n,), np.int32))]


def _decode(builder) -> list[np.ndarray]:
    arrays = [array for split in SPLITS for array in _concatenated(builder, split)]
    for array in arrays:
        array.flags.writeable = False  # like those from the cache
    return arrays


def _concatenated(builder, split: str) -> tuple[np.ndarray, np.ndarray]:
    total = -(-builder.info.splits[split].num_examples // _BATCH)
    label = f"decoding {builder.name} {split}"
    parts = list(tqdm(batches(builder, split, _BATCH), label, total, leave=False, unit="batch", disable=None))
    return np.concatenate([part.image for part in parts]), np.concatenate([part.label for part in parts])
