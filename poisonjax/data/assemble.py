"""Rows whose images are still encoded, as a data set."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL

from poisonjax.data import decoded, divide
from poisonjax.data.arrays import from_arrays
from poisonjax.data.dataset import Dataset
from poisonjax.data.origin import Reading
from poisonjax.data.sources import DataError
from poisonjax.runtime.compilation import user_cache

LISTED = 20  # broken rows


class Row(NamedTuple):
    """An encoded image: its name, unique in the data set, its class, and what opens its bytes as a file."""

    name: str
    label: int
    open: decoded.Open


class Listing(NamedTuple):
    """All rows of a data set. test: None where the rows are to be divided. classes: their names, in their order.

    broken: {name: reason} of what cannot be a row. stamp: changes whenever a row may have; "" if that is not known.
    shuffled: True if the rows are in no order already.
    """

    train: Sequence[Row]
    test: Sequence[Row] | None
    classes: tuple[str, ...]
    broken: dict[str, str]
    stamp: str = ""
    shuffled: bool = False


def assemble(source: str, listing: Listing, data_dir: str | None, reading: Reading) -> Dataset:
    """The data set. DataError, with a detail for each broken row, if it cannot be read as asked."""
    train, test = _split(source, listing, reading)
    rows = [*train, *test]
    image, broken, scaled = _decoded(source, listing, rows, data_dir, reading)
    refused = listing.broken | {rows[at].name: broken[at] for at in sorted(broken)}
    _check_broken(source, refused, len(rows) + len(listing.broken), reading)
    names = tuple(row.name for at, row in enumerate(train) if at not in broken)
    label = np.array([row.label for at, row in enumerate(rows) if at not in broken], np.int32)
    of_train, of_test = slice(len(names)), slice(len(names), None)
    divide.checked(source, label[of_train], label[of_test], listing.classes)
    classes = tuple(map(printable, listing.classes))
    made = from_arrays(source, (image[of_train], label[of_train]), (image[of_test], label[of_test]), classes)
    split = divide.rule(reading) if listing.test is None else divide.GIVEN
    return replace(made, names=names, facts=facts(image.shape[1:], scaled, split, len(refused)))


def facts(shape: tuple[int, ...], scaled: bool, split: str, broken: int) -> dict[str, str | int]:
    """`Dataset.facts`: the shape [h w c], if images were scaled, how rows are divided, and how many are left out."""
    way = "scaled and cut to this size" if scaled else "as they are"
    return {"images": f"{' x '.join(map(str, shape))}, {way}", "split": split, "left out": broken}


def _split(source: str, listing: Listing, reading: Reading) -> tuple[list[Row], list[Row]]:
    """The rows to train on and to test on."""
    if listing.test is None:
        names, labels = [row.name for row in listing.train], np.array([row.label for row in listing.train], np.int64)
        parts = divide.divided(source, names, labels, listing.classes, reading)
        return tuple([listing.train[at] for at in part] for part in parts)
    parts = listing.train, listing.test
    if listing.shuffled:
        return tuple(map(list, parts))
    return tuple([part[at] for at in divide.ordered([row.name for row in part], reading)] for part in parts)


def _decoded(source: str, listing: Listing, rows: list[Row], data_dir: str | None, reading: Reading) -> decoded.Decoded:
    """The images of the rows, from the copies that are kept in data_dir, or else in the user's cache."""
    own = replace(reading, skip_broken=False), PIL.__version__, listing.stamp
    mark = hashlib.sha256(repr(own).encode()).hexdigest() if listing.stamp else ""
    opens = [row.open for row in rows]
    return decoded.kept(*keeping(source, data_dir), mark, len(rows), lambda: decoded.decode(source, opens, reading))


def keeping(source: str, data_dir: str | None) -> tuple[Path, str]:
    """The folder and the name under which a decoded copy of a source is kept."""
    folder = Path(data_dir).expanduser() if data_dir else user_cache() / "data"
    return folder / "own", hashlib.sha256(source.encode(errors="surrogateescape")).hexdigest()[:16]


def _check_broken(source: str, broken: dict[str, str], total: int, reading: Reading) -> None:
    if not broken or reading.skip_broken:
        return
    listed = [f"{name!r}: {broken[name]}" for name in sorted(broken)[:LISTED]]
    error = DataError(
        f"{source}: {len(broken):,} of {total:,} files cannot be used; repair or remove them, or leave them out with "
        "--skip_broken"
    )
    error.details = (*listed, *([f"and {len(broken) - LISTED:,} more"] if len(broken) > LISTED else []))
    raise error


def printable(name: str) -> str:
    """A name in which what is no printable character is escaped as Python does."""
    return name if name.isprintable() else repr(name)[1:-1]
