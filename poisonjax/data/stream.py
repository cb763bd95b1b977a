"""Batches straight from the prepared record files, for data larger than memory."""

from collections.abc import Iterator

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


def batches(builder, split: str, batch: int) -> Iterator[Examples]:
    """The same from a prepared tfds builder."""
    import tensorflow_datasets as tfds

    source = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
    for start in range(0, len(source), batch):
        rows = range(start, min(start + batch, len(source)))
        try:
            examples = _decoded(source.__getitems__(list(rows)), rows)
        except Exception as error:  # array_record, protobuf and PIL each raise their own kinds on damage
            raise DataError(
                f"{builder.data_dir}: {split} rows {rows.start} to {rows.stop - 1} cannot be read "
                f"({one_line(error)}): delete the folder and prepare again"
            ) from error
        yield examples


def _decoded(found: list[dict], rows: range) -> Examples:
    image = np.stack([records.decode(record["image"]) for record in found])
    return Examples(image, np.array([record["label"] for record in found], np.int32), np.array(rows, np.int32))
