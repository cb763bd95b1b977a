"""Files that are whole or absent: locks, atomic writes and folders published by renaming."""

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path


class InUseError(OSError):
    """A lock that another process has. holder: its process id, or "unknown"."""

    def __init__(self, holder: str) -> None:
        super().__init__(f"in use by process {holder}")
        self.holder = holder


@contextlib.contextmanager
def locked(path: Path, wait: bool) -> Iterator[None]:
    """Lock a file, created if absent, for this process; the kernel unlocks it even after kill -9.

    The file stays (removing it would race) and contains the process id of its holder. wait: until it is free;
    otherwise InUseError. OSError if it cannot be opened or locked.
    """
    with open(path, "a+") as file:
        _lock(file, wait)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # closing alone would leave it to a forked child


def _lock(file, wait: bool) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        file.seek(0)
        raise InUseError(file.read().strip() or "unknown") from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()


def write_atomic(path: str | os.PathLike, content: str | bytes | Iterable[bytes]) -> None:
    """Replace a file: it contains all of `content` or what it contained before, even after a power cut.

    content: text, written as UTF-8, bytes, or an iterable of buffers. Raises OSError, naming the file, if it cannot be
    written (disk full); the old file is then unchanged.
    """
    path, parts = Path(path), _parts(content)
    temporary = _temporary(path, os.getpid())
    try:
        with open(temporary, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def _parts(content: str | bytes | Iterable[bytes]) -> Iterable[bytes]:
    if isinstance(content, str):
        return [content.encode()]
    return [content] if isinstance(content, bytes) else content


def leftovers(path: Path) -> list[Path]:
    """Temporary files that killed calls of `write_atomic` left beside a file."""
    return list(path.parent.glob(_temporary(path, "*").name))


def _temporary(path: Path, owner: int | str) -> Path:
    return path.with_name(f".{path.name}.{owner}.tmp")


def sync(path: Path) -> None:
    """Write a file, or the names in a folder, through to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(folder: Path, target: Path) -> None:
    """Rename a finished folder to `target`, on the same disk, replacing the folder of that name; parents are created.

    Its content is on the disk before it is visible. After an error the old folder is back in its place.
    """
    for path in (*folder.rglob("*"), folder):
        sync(path)
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        target.rename(old)
    try:
        folder.rename(target)
    except BaseException:
        if old.exists():
            old.rename(target)
        raise
    sync(target.parent)
    shutil.rmtree(old, ignore_errors=True)
