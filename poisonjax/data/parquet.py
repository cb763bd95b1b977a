"""Images in Parquet files, as Hugging Face stores them."""

import hashlib
import io
import json
import re
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from poisonjax.data.assemble import Listing, Row, assemble
from poisonjax.data.dataset import Dataset
from poisonjax.data.decoded import check_memory
from poisonjax.data.labels import numbered
from poisonjax.data.origin import Origin, Reading
from poisonjax.data.sources import DataError, one_line

_OTHER_SPLITS = {"validation", "valid", "val", "dev"}


class Parquet(Origin):
    """A file, or all *.parquet below a folder: an image column, a struct with `bytes`, and a column `label`.

    A file belongs to the split that its name, or a folder's above it, says: train or test. Rows are named FILE:ROW.
    """

    kind = "parquet"

    def load(self, place: str, data_dir: str | None, reading: Reading) -> Dataset:
        """The data set of the files. Paths that they contain are not followed."""
        source, root = f"parquet:{place}", Path(place).expanduser()
        files = _files(source, root)
        parts = {split: [_part(source, root, path) for path in paths] for split, paths in files.items()}
        labels = [np.concatenate([part.labels for part in of_split]) for of_split in parts.values()]
        numbers, classes = numbered(source, labels, next(iter(parts.values()))[0].classes)
        rows = [list(_rows(part, number)) for part, number in zip(parts.values(), numbers, strict=True)]
        states = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in chain(*files.values())]
        stamp = hashlib.sha256(repr((str(root.resolve()), states)).encode()).hexdigest()
        listing = Listing(rows[0], rows[1] if len(rows) > 1 else None, classes, {}, stamp)
        return assemble(source, listing, data_dir, reading)


def _files(source: str, root: Path) -> dict[str, list[Path]]:
    """{split: its files}; one split where they are to be divided."""
    if root.is_file():
        return {"all": [root]}
    found: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*.parquet")):
        if not path.resolve().is_relative_to(root.resolve()):
            raise DataError(f"{source}: {str(path)!r} is a link that leaves the folder")
        found.setdefault(_split_of(path.relative_to(root)), []).append(path)
    if not found:
        raise DataError(
            f"{source}: there is neither a file {str(root)!r} nor a folder of that name with .parquet files"
        )
    if {"train", "test"} <= found.keys() and "all" not in found:
        return {"train": found["train"], "test": found["test"]}
    if len(found) == 1 and "test" not in found:
        return {"all": next(iter(found.values()))}
    raise DataError(
        f"{source}: the names of files must tell train and test, or no split at all, got {', '.join(sorted(found))}; "
        "name a single file to have it divided"
    )


def _split_of(path: Path) -> str:
    """The split that a path names last; "all" for none."""
    words = re.findall("[a-z]+", str(path).lower())
    return next((word for word in reversed(words) if word in {"train", "test"} | _OTHER_SPLITS), "all")


class _Part(NamedTuple):
    """The rows of a file: arrays of encoded images, labels [n], and the names of the classes, () if it has none."""

    name: str
    images: list[Any]
    labels: np.ndarray
    classes: tuple[str, ...]


def _part(source: str, root: Path, path: Path) -> _Part:
    try:
        from pyarrow import parquet
    except ImportError:
        raise DataError(f"{source}: needs pyarrow; pip install 'poisonjax[parquet]'") from None
    name = path.name if path == root else path.relative_to(root).as_posix()
    try:
        with parquet.ParquetFile(path) as file:
            groups = (file.metadata.row_group(at) for at in range(file.num_row_groups))
            check_memory(f"{source}: the rows of {name!r}", sum(group.total_byte_size for group in groups))
            image, label = _columns(file.schema_arrow)
            table = file.read(columns=[image, label])
            chunks = table.column(0).chunks
            images = chunks if image.partition(".")[1] == "" else [chunk.flatten()[0] for chunk in chunks]
            classes = _class_names(file.schema_arrow.metadata or {}, label)
            return _Part(name, images, _labels(table.column(1)), classes)
    except DataError:
        raise
    except Exception as error:  # pyarrow raises its own kinds on damage
        raise DataError(f"{source}: {name!r} cannot be read ({one_line(error)})") from error


def _columns(schema: Any) -> tuple[str, str]:
    """The columns of the encoded images and of the labels. ValueError if it is not clear which they are."""
    from pyarrow import types

    images, labels = [], []
    for field in schema:
        if types.is_struct(field.type) and "bytes" in [child.name for child in field.type]:
            images.append(f"{field.name}.bytes")
        elif types.is_binary(field.type) or types.is_large_binary(field.type):
            images.append(field.name)
        elif types.is_integer(field.type) or types.is_string(field.type) or types.is_large_string(field.type):
            labels.append(field.name)
    labels = ["label"] if "label" in labels else labels
    if len(images) != 1 or len(labels) != 1:
        raise ValueError(
            "it must have one column of images, a struct with bytes, and a column label of whole numbers or texts, got "
            f"{', '.join(f'{field.name} {field.type}' for field in schema)}"
        )
    return images[0], labels[0]


def _labels(column: Any) -> np.ndarray:
    """[n] int64, or objects where they are texts or missing."""
    labels = column.to_pylist()
    return np.array(labels, np.int64 if all(isinstance(label, int) for label in labels) else object)


def _class_names(metadata: dict[bytes, bytes], label: str) -> tuple[str, ...]:
    """The names of the classes that Hugging Face keeps in the schema; () for none."""
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError):
        return ()
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _rows(parts: list[_Part], labels: np.ndarray) -> Iterator[Row]:
    """The rows of files of one split, with their labels [n] as numbers."""
    numbers = iter(labels.tolist())
    for part in parts:
        places = ((array, at) for array in part.images for at in range(len(array)))
        for row, (array, at) in enumerate(places):
            yield Row(f"{part.name}:{row}", next(numbers), partial(_open, array, at))


def _open(array: Any, at: int) -> io.BytesIO:
    encoded = array[at].as_py()
    if encoded is None:
        raise ValueError("has no bytes; images that are stored by their path are not read")
    return io.BytesIO(encoded)
