"""Workdirs in a bucket (gs://, s3://, az://): a local folder, uploaded while the run is in progress."""

import _thread
import contextlib
import os
import secrets
import shutil
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec

from poisonjax.runtime.workdir import WorkdirError, claim, locked, refuse_foreign

_OWNER = ".owner"  # names the process that writes there: the last one that started
_UNFINISHED = ".orbax-checkpoint-tmp"  # in the name of a checkpoint's folder until the checkpoint is whole


class BucketError(OSError):
    """A workdir could not be uploaded to its bucket; the message is one line: where, why, and where the files are."""


class TakenOver(BucketError):
    """Another process has taken over the bucket."""


def is_bucket(path: str | os.PathLike) -> bool:
    """True for the URL of a store, false for a local path."""
    return "://" in os.fspath(path)


class Mirror:
    """Mirrors a local folder to a bucket prefix."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url, self.folder, self._token = url, folder, secrets.token_hex().encode()
        self._uploaded: dict[str, tuple[int, int]] = {}
        self._owns = False
        with _readable(url):
            self._store, self._root = fsspec.url_to_fs(url.rstrip("/"))

    def fetch(self) -> None:
        """Download everything. WorkdirError if the bucket cannot be read or is not a workdir."""
        with _readable(self._url):
            self._store.invalidate_cache()
            names = self._listed()
            refuse_foreign(self._url, names)
            _all(self._get, names)
        self._uploaded = self._complete()

    def _listed(self) -> list[str]:
        paths = (path for path in self._store.find(self._root) if not path.endswith("/"))
        names = (path[len(self._root) :].lstrip("/") for path in paths)
        return sorted(name for name in names if name != _OWNER)

    def _get(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):  # an old checkpoint, removed since it was listed
            self._store.get_file(self._path(name), str(self.folder / name))

    def push(self) -> None:
        """Upload changed files, then delete removed ones: the bucket holds a resumable state at any moment.

        The first call takes the bucket over. Raises TakenOver if another process has done so since, BucketError if the
        bucket cannot be written.
        """
        try:
            self._own()
            now = self._complete()
            _all(self._put, (item for item in now.items() if self._uploaded.get(item[0]) != item[1]))
            _all(self._remove, self._uploaded.keys() - now.keys())
        except BucketError:
            raise
        except Exception as error:  # each kind of store raises its own
            raise BucketError(f"{self._url} cannot be written ({_reason(error)})") from error

    def _own(self) -> None:
        owner = self._path(_OWNER)
        if not self._owns:
            self._store.pipe_file(owner, self._token)
            self._owns = True
        elif self._store.cat_file(owner) != self._token:
            raise TakenOver(f"{self._url} was taken over by another process, which continues the run")

    def _put(self, item: tuple[str, tuple[int, int]]) -> None:
        name, fingerprint = item
        with contextlib.suppress(FileNotFoundError):  # removed since it was listed: the next push deletes it
            self._store.put_file(str(self.folder / name), self._path(name))
            self._uploaded[name] = fingerprint

    def _remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._store.rm_file(self._path(name))
        del self._uploaded[name]

    def _complete(self) -> dict[str, tuple[int, int]]:
        """Complete local files: name -> (time of modification, size)."""
        fingerprints = {}
        for folder, folders, files in os.walk(self.folder):
            folders[:] = [name for name in folders if _UNFINISHED not in name]
            for path in (Path(folder, name) for name in files if not name.startswith(".")):
                with contextlib.suppress(FileNotFoundError):
                    stat = path.stat()
                    fingerprints[path.relative_to(self.folder).as_posix()] = stat.st_mtime_ns, stat.st_size
        return fingerprints

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"


def _all(do: Callable, items: Iterable) -> None:
    """Call `do` on every item, many at a time, since each call waits for the network."""
    with ThreadPoolExecutor(16) as pool:
        for _ in pool.map(do, items):
            pass


@contextlib.contextmanager
def _readable(url: str) -> Iterator[None]:
    """Raise errors of a store, which each kind defines for itself, as WorkdirError."""
    try:
        yield
    except WorkdirError:
        raise
    except Exception as error:
        raise WorkdirError(f"workdir {url} cannot be read: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ").splitlines()[0]


@contextlib.contextmanager
def local(path: str | os.PathLike) -> Iterator[Path]:
    """A workdir to read: the folder itself, or a temporary copy of a bucket's."""
    if not is_bucket(path):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix="poisonjax-") as folder:
        Mirror(os.fspath(path), Path(folder)).fetch()
        yield Path(folder)


@contextlib.contextmanager
def claimed(
    path: str | os.PathLike,
    config: dict,
    every: float = 30.0,
    warn: Callable[[str], None] = warnings.warn,
    growing: Sequence[str] = (),
) -> Iterator[Path]:
    """A workdir bound to `config` and locked for this process: the folder, or a local one uploaded to the bucket.

    every: seconds between uploads; the last one is at the end. warn: called with one line about an upload that failed.
    growing: settings to which entries may be added.
    Raises WorkdirError, without waiting, if it cannot be used, BucketError if the last upload fails. A process that
    has the bucket already is interrupted at its next upload.
    """
    if not is_bucket(path):
        with locked(path) as folder:
            claim(folder, config, growing=growing)
            yield folder
        return
    folder = Path(tempfile.mkdtemp(prefix="poisonjax-"))
    try:
        mirror = Mirror(os.fspath(path), folder)
        mirror.fetch()
        claim(folder, config, os.fspath(path), growing)
        mirror.push()
    except (WorkdirError, BucketError) as error:
        shutil.rmtree(folder)
        raise WorkdirError(str(error)) from error
    with _followed(mirror, every, warn):
        yield folder


@contextlib.contextmanager
def _followed(mirror: Mirror, every: float, warn: Callable[[str], None]) -> Iterator[None]:
    """Upload regularly and at the end, then remove the folder, unless the last upload failed."""
    ended = threading.Event()
    thread = threading.Thread(target=_follow, args=(mirror, max(every, 1.0), warn, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        _conclude(mirror)


def _conclude(mirror: Mirror) -> None:
    try:
        mirror.push()
    except BucketError as error:
        raise BucketError(f"{error}; the files not uploaded are in {mirror.folder}") from error
    shutil.rmtree(mirror.folder)


def _follow(mirror: Mirror, every: float, warn: Callable[[str], None], ended: threading.Event) -> None:
    while not ended.wait(every):
        try:
            mirror.push()
        except TakenOver:
            _thread.interrupt_main()  # as Ctrl-C does: the run saves and stops
            return
        except BucketError as error:
            warn(f"{error}; the next try is in {every:g} s")
