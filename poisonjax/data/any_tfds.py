"""Any data set of images and labels that tensorflow-datasets has prepared, read without TensorFlow."""

import io
from functools import partial
from pathlib import Path

from poisonjax.data import cache, prepare
from poisonjax.data.assemble import Listing, Row, assemble
from poisonjax.data.dataset import Dataset
from poisonjax.data.origin import Origin, Reading
from poisonjax.data.sources import DataError, one_line

_BATCH = 1000


class Tfds(Origin):
    """A data set in data_dir with the features `image` and `label`: NAME, NAME/CONFIG or NAME:VERSION.

    Rows stand in the order of the tfds splits, train and test, and are named SPLIT:ROW.
    """

    kind, place = "tfds", "NAME"

    def load(self, place: str, data_dir: str | None, reading: Reading) -> Dataset:
        """The data set; it must have been prepared as array_record. The code of its builder is not run."""
        source = f"tfds:{place}"
        builder = _builder(source, place, data_dir)
        classes = _classes(source, builder)
        splits = [split for split in ("train", "test") if split in builder.info.splits]
        if "train" not in splits:
            raise DataError(f"{source}: must have a split train, got {', '.join(builder.info.splits)}")
        rows = [_rows(source, builder, split) for split in splits]
        stamp = cache.stamp(prepare.record_files(builder)).decode()
        listing = Listing(rows[0], rows[1] if len(rows) > 1 else None, classes, {}, stamp, shuffled=True)
        return assemble(source, listing, data_dir, reading)


def _builder(source: str, name: str, data_dir: str | None):
    """The prepared data set. DataError with the way to prepare it."""
    import tensorflow_datasets as tfds

    folder = Path(data_dir or tfds.core.constants.DATA_DIR).expanduser()
    way = f"prepare it where TensorFlow is installed: tfds build {name} --file_format=array_record --data_dir={folder}"
    try:
        builder = tfds.core.read_only_builder.builder_from_files(name, data_dir=folder)
        stored = builder.info.file_format.value
    except tfds.core.registered.DatasetNotFoundError:
        raise DataError(f"{source}: is not prepared in {folder}; {way}") from None
    except Exception as error:  # whatever a damaged folder makes tfds raise
        raise DataError(f"{source}: cannot be opened in {folder} ({one_line(error)}); {way}") from error
    if stored != "array_record":
        raise DataError(f"{source}: is stored as {stored}, not as array_record; {way}")
    return builder


def _classes(source: str, builder) -> tuple[str, ...]:
    """The names of the classes. DataError unless there is one image and one label a row."""
    import tensorflow_datasets as tfds

    features = dict(builder.info.features)
    image, label = features.get("image"), features.get("label")
    if type(image) is not tfds.features.Image or type(label) is not tfds.features.ClassLabel:
        raise DataError(f"{source}: must have the features image and label, got {', '.join(features)}")
    return tuple(label.names)


def _rows(source: str, builder, split: str) -> list[Row]:
    import tensorflow_datasets as tfds

    try:
        stored = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
        records = (
            each for at in range(0, len(stored), _BATCH) for each in stored.__getitems__(_range(at, len(stored)))
        )
        return [
            Row(f"{split}:{row}", int(record["label"]), partial(io.BytesIO, record["image"]))
            for row, record in enumerate(records)
        ]
    except Exception as error:  # array_record and protobuf each raise their own kinds on damage
        raise DataError(f"{source}: {split} cannot be read ({one_line(error)})") from error


def _range(start: int, end: int) -> list[int]:
    return list(range(start, min(start + _BATCH, end)))
