"""Rows read from the prepared record files, in any order, for data larger than memory."""

from collections.abc import Callable, Iterator

import numpy as np

from poisonjax.data import prepare, records
from poisonjax.data.sources import DataError, one_line
from poisonjax.types import Examples

SPLITS = ("train", "test")


def stream(name: str, split: str, data_dir: str | None = None, batch: int = 1000) -> Iterator[Examples]:
    """Yield batches of NumPy arrays in the order of the tfds split, decoded on the fly; the last may be short.

    The data set is prepared first, as by `load`. DataError for a bad argument or damaged records.
    """
    if split not in SPLITS:
        raise DataError(f"unknown split {split!r} of {name}; allowed are {', '.join(SPLITS)}")
    if batch < 1:
        raise DataError(f"batch must be at least 1, got {batch}")
    return batches(prepare.prepared(name, data_dir), split, batch)


def rows(name: str, split: str, data_dir: str | None = None) -> Callable[[np.ndarray], Examples]:
    """A function row numbers [b] of a tfds split -> Examples [b], decoded on the fly; otherwise as `stream`."""
    return reader(prepare.prepared(name, data_dir), split)


def batches(builder, split: str, batch: int) -> Iterator[Examples]:
    """`stream` for a prepared tfds builder."""
    read, total = reader(builder, split), builder.info.splits[split].num_examples
    for start in range(0, total, batch):
        yield read(np.arange(start, min(start + batch, total)))


def reader(builder, split: str) -> Callable[[np.ndarray], Examples]:
    """`rows` for a prepared tfds builder. DataError for damaged records."""
    import tensorflow_datasets as tfds

    source = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})

    def read(rows: np.ndarray) -> Examples:
        try:
            return _decoded(source.__getitems__(rows.tolist()), rows)
        except Exception as error:  # array_record, protobuf and PIL each raise their own kinds on damage
            raise DataError(
                f"{builder.data_dir}: {split} rows {rows.min()} to {rows.max()} cannot be read "
                f"({one_line(error)}); delete the folder and prepare again"
            ) from error

    return read


def _decoded(stored: list[dict], rows: np.ndarray) -> Examples:
    image = np.stack([records.decode(record["image"]) for record in stored])
    return Examples(image, np.array([record["label"] for record in stored], np.int32), rows.astype(np.int32))
