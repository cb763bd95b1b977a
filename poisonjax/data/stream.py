"""Rows straight from the prepared record files, in order or any other, for data larger than memory."""

from collections.abc import Callable, Iterator

import numpy as np

from poisonjax.data import prepare, records
from poisonjax.data.sources import DataError, one_line
from poisonjax.types import Examples

SPLITS = ("train", "test")


def stream(name: str, split: str, data_dir: str | None = None, batch: int = 1000) -> Iterator[Examples]:
    """Batches of numpy arrays in the order of the tfds split, decoded on the fly; the last may be short.

    Prepares the data set first, as `load` does. DataError on a bad argument or damaged records.
    """
    if split not in SPLITS:
        raise DataError(f"unknown split {split!r} of {name}: allowed are {', '.join(SPLITS)}")
    if batch < 1:
        raise DataError(f"batch is {batch}: allowed is 1 or more")
    return batches(prepare.prepared(name, data_dir), split, batch)


def rows(name: str, split: str, data_dir: str | None = None) -> Callable[[np.ndarray], Examples]:
    """Row numbers [b] of a tfds split, in any order -> Examples [b], decoded on the fly; otherwise as `stream`."""
    return reader(prepare.prepared(name, data_dir), split)


def batches(builder, split: str, batch: int) -> Iterator[Examples]:
    """The same from a prepared tfds builder."""
    read, total = reader(builder, split), builder.info.splits[split].num_examples
    for start in range(0, total, batch):
        yield read(np.arange(start, min(start + batch, total)))


def reader(builder, split: str) -> Callable[[np.ndarray], Examples]:
    """`rows` of a prepared tfds builder. DataError on damage."""
    import tensorflow_datasets as tfds

    source = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})

    def read(rows: np.ndarray) -> Examples:
        try:
            return _decoded(source.__getitems__(rows.tolist()), rows)
        except Exception as error:  # array_record, protobuf and PIL each raise their own kinds on damage
            raise DataError(
                f"{builder.data_dir}: {split} rows {rows.min()} to {rows.max()} cannot be read "
                f"({one_line(error)}): delete the folder and prepare again"
            ) from error

    return read


def _decoded(found: list[dict], rows: np.ndarray) -> Examples:
    image = np.stack([records.decode(record["image"]) for record in found])
    return Examples(image, np.array([record["label"] for record in found], np.int32), rows.astype(np.int32))
