"""Images as files: one folder a class, or train/ and test/ with one folder a class each."""

import hashlib
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from poisonjax.data.assemble import Listing, Row, assemble
from poisonjax.data.dataset import Dataset
from poisonjax.data.images import SUFFIXES
from poisonjax.data.origin import Origin, Reading
from poisonjax.data.sources import DataError

ALL = "all"  # rows that are to be divided
_OTHER_SPLITS = {"val", "valid", "validation", "dev"}
_LARGEST = 2**28  # bytes of a file


class Folder(Origin):
    """PNG, JPEG and WebP files, at any depth below the folder of their class. Nothing outside the folder is read."""

    kind = "folder"

    def load(self, place: str, data_dir: str | None, reading: Reading) -> Dataset:
        """The data set of the folder, cached until a file's name, size or time of change differs."""
        source, root = f"folder:{place}", Path(place).expanduser()
        if not root.is_dir():
            raise DataError(f"{source}: there is no folder {str(root)!r}")
        try:
            return assemble(source, _listed(source, root.resolve()), data_dir, reading)
        except OSError as error:
            raise DataError(f"{source}: {error.filename!r} cannot be read: {error.strerror}") from error


def _listed(source: str, root: Path) -> Listing:
    """All files below the folder."""
    parts = _parts(source, root)
    classes = _sorted({folder.name for folders in parts.values() for folder in folders})
    train = {folder.name for folder in next(iter(parts.values()))}
    if missing := [name for name in classes if name not in train]:
        raise DataError(f"{source}: class {missing[0]!r} is in test/, but not in train/")
    places = [root, *(root / split for split in parts if split != ALL)]
    loose = [path for place in places for path in _entries(place) if _is_image(path) and not path.is_dir()]
    broken = {path.relative_to(root).as_posix(): "lies beside the folders of the classes" for path in loose}
    rows = [_rows(root, folders, classes, broken) for folders in parts.values()]
    files = [(row.name, *_state(root / row.name)) for part in rows for row in part]
    stamp = hashlib.sha256(repr((str(root), files)).encode()).hexdigest()
    return Listing(rows[0], rows[1] if len(rows) > 1 else None, classes, broken, stamp)


def _parts(source: str, root: Path) -> dict[str, list[Path]]:
    """{split: folders of classes}; one split where they are not divided."""
    folders = {path.name: path for path in _entries(root) if path.is_dir()}
    if {"train", "test"} <= folders.keys():
        if links := [name for name in ("train", "test") if folders[name].is_symlink()]:
            raise DataError(f"{source}: {links[0]}/ is a link; put the folder itself there")
        return {split: _class_folders(folders[split]) for split in ("train", "test")}
    if "train" in folders and (other := _OTHER_SPLITS & folders.keys()):
        raise DataError(
            f"{source}: has train/ and {min(other)}/, but no test/; rename {min(other)}/ to test/, or name the folder "
            f"folder:{root / 'train'} to have it divided"
        )
    return {ALL: list(folders.values())}


def _class_folders(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if path.is_dir()]


def _entries(folder: Path) -> list[Path]:
    """The entries of a folder, without hidden names."""
    return [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]


def _sorted(names: set[str]) -> tuple[str, ...]:
    """Names in their order as text, or as numbers if all are."""
    numbers = all(name.isdecimal() for name in names)
    return tuple(sorted(names, key=lambda name: (int(name) if numbers else 0, name)))


def _rows(root: Path, folders: list[Path], classes: tuple[str, ...], broken: dict[str, str]) -> list[Row]:
    """The images in folders of classes; what else is there goes to `broken`."""
    rows = []
    for folder in folders:
        label = classes.index(folder.name)
        for path in _files(folder):
            name, reason = path.relative_to(root).as_posix(), _reason(path, root)
            if reason:
                broken[name] = reason
            else:
                rows.append(Row(name, label, partial(open, os.path.realpath(path), "rb")))
    return rows


def _files(folder: Path) -> Iterator[Path]:
    """All files below a folder of a class, links to folders among them, without hidden ones."""
    if folder.is_symlink():
        yield folder
        return
    for place, folders, names in os.walk(folder, onerror=_fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        for name in sorted([*names, *links]):
            if not name.startswith("."):
                yield Path(place, name)


def _fail(error: OSError) -> None:
    raise error


def _reason(path: Path, root: Path) -> str:
    """The reason why a path is not read; "" if it may be."""
    target = Path(os.path.realpath(path))
    if not target.is_relative_to(root):
        return "is a link that leaves the folder"
    if path.is_symlink() and not target.is_file():
        return "is a link to a folder, or to nothing"
    if not _is_image(path):
        return "is called neither .png, .jpg, .jpeg nor .webp"
    if not target.is_file():
        return "is no regular file"
    return "" if target.stat().st_size <= _LARGEST else f"is larger than {_LARGEST // 2**20} MiB"


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _state(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_size, about.st_mtime_ns
