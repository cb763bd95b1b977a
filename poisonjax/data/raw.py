"""Find, unpack in memory and check the official files of a data set, plain or packed."""

import gzip
import hashlib
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from poisonjax.data import tables
from poisonjax.data.sources import DataError, File, Source, Splits, one_line

_BROKEN = (OSError, EOFError, zlib.error, tarfile.TarError)  # all that a damaged file or archive raises


def from_folder(source: Source, folder: Path) -> Splits:
    """Read the splits from the official files in `folder` (or its subfolder of the official name).

    Only the content is checked, so recompressed archives work. DataError, naming the file, if one is missing, truncated
    or not the official one.
    """
    places = [place for place in (folder, folder / source.folder) if _holds_any(place, source.files)]
    if places:
        return source.parse({file.name: _unpack(_either(places[0], file.name), file) for file in source.files})
    if source.archive and (folder / source.archive).exists():
        return source.parse(_untar(folder / source.archive, source.files))
    raise DataError(f"{folder} contains none of the official files; it must contain {wanted(source)}")


def from_package(source: Source) -> Splits:
    """Read the splits of a data set that the package carries. DataError if its file is damaged."""
    (file,) = source.files
    where = str(tables.FOLDER / file.name)
    try:
        return source.parse({file.name: _checked(tables.content(file.name), file, where)})
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise DataError(f"{where}.xz cannot be read ({one_line(error)}); install poisonjax again") from error


def from_downloads(source: Source, download: Callable[[str], Path]) -> Splits:
    """Read the splits from files that `download` (url -> path) gets from the official address.

    Sequentially, so that no file is still being written when another one fails.
    """
    paths = [Path(download(source.url + name)) for name in source.published]
    if source.archive:
        return source.parse(_untar(paths[0], source.files))
    return source.parse({file.name: _unpack(path, file) for file, path in zip(source.files, paths, strict=True)})


def wanted(source: Source) -> str:
    """Names of the files that a folder of official files must contain, for messages."""
    names = ", ".join(file.name for file in source.files)
    return f"{names}, or {source.archive}" if source.archive else f"{names} (each plain or .gz)"


def _candidates(place: Path, name: str) -> list[Path]:
    return [path for path in (place / name, place / f"{name}.gz") if path.exists()]


def _holds_any(place: Path, files: Iterable[File]) -> bool:
    return any(_candidates(place, file.name) for file in files)


def _either(place: Path, name: str) -> Path:
    candidates = _candidates(place, name)
    if not candidates:
        raise DataError(f"{place / name} is missing; put it there, plain or as .gz")
    return candidates[0]


def _unpack(path: Path, file: File) -> bytes:
    """The checked content of a plain or gzipped file, recognised by its first bytes."""
    try:
        with open(path, "rb") as opened:
            packed = opened.read(2) == b"\x1f\x8b"
        with (gzip.open if packed else open)(path, "rb") as opened:
            content = opened.read(file.size + 1)
    except _BROKEN as error:
        raise DataError(f"{path} cannot be read ({one_line(error)}); download it again") from error
    return _checked(content, file, str(path))


def _untar(path: Path, files: Iterable[File]) -> dict[str, bytes]:
    """The checked content of the named files in a tar, read in one pass, in any folder of the tar."""
    missing, contents = {file.name: file for file in files}, {}
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                file = missing.pop(PurePosixPath(member.name).name, None) if member.isfile() else None
                if file:
                    content = tar.extractfile(member).read(file.size + 1)
                    contents[file.name] = _checked(content, file, f"{path}: {member.name}")
    except _BROKEN as error:
        raise DataError(f"{path} cannot be unpacked ({one_line(error)}); download it again") from error
    if missing:
        raise DataError(f"{path} contains no {', '.join(missing)}; download it again")
    return contents


def _checked(content: bytes, file: File, where: str) -> bytes:
    if len(content) < file.size:
        raise DataError(f"{where} is truncated ({len(content)} bytes of {file.size}); download it again")
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise DataError(f"{where} is not the official {file.name} (wrong sha256); download it again")
    return content
