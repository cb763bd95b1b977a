"""A workdir in a bucket (gs://, s3://, az://): a folder of this machine that is copied there while the run goes on."""

import _thread
import contextlib
import os
import secrets
import shutil
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec

from poisonjax.runtime.workdir import WorkdirError, claim, locked, refuse_foreign

_OWNER = ".owner"  # says which process writes there; the last one to come does
_UNFINISHED = ".orbax-checkpoint-tmp"  # in the name of a checkpoint's folder until the checkpoint is whole


class BucketError(OSError):
    """What is in the workdir could not be copied to the bucket: one line that says where, why, and where it is now."""


class TakenOver(BucketError):
    """Another process writes to the bucket now."""


def is_bucket(path: str | os.PathLike) -> bool:
    """Whether it is the URL of a store and no path of this machine."""
    return "://" in os.fspath(path)


class Mirror:
    """A folder of a bucket and the local `folder` that is to be the same."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url, self.folder, self._token = url, folder, secrets.token_hex().encode()
        self._there: dict[str, tuple[int, int]] = {}
        self._owns = False
        with _readable(url):
            self._store, self._root = fsspec.url_to_fs(url.rstrip("/"))

    def fetch(self) -> None:
        """Copies here all that is there. WorkdirError if it cannot be read, or is not of a run."""
        with _readable(self._url):
            self._store.invalidate_cache()
            names = self._listed()
            refuse_foreign(self._url, names)
            _all(self._get, names)
        self._there = self._here()

    def _listed(self) -> list[str]:
        paths = (path for path in self._store.find(self._root) if not path.endswith("/"))
        names = (path[len(self._root) :].lstrip("/") for path in paths)
        return sorted(name for name in names if name != _OWNER)

    def _get(self, name: str) -> None:
        """A checkpoint that is removed meanwhile is none of the newest."""
        with contextlib.suppress(FileNotFoundError):
            self._store.get_file(self._path(name), str(self.folder / name))

    def push(self) -> None:
        """Copies there what changed here, then removes there what is gone here, so that it can always be gone on from.

        The first time it makes the bucket's folder its own. Raises TakenOver if another one has done so
        since, BucketError where the bucket cannot be written.
        """
        try:
            self._own()
            now = self._here()
            _all(self._put, (item for item in now.items() if self._there.get(item[0]) != item[1]))
            _all(self._remove, self._there.keys() - now.keys())
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
            raise TakenOver(f"{self._url} was taken over by another process, which goes on with it")

    def _put(self, item: tuple[str, tuple[int, int]]) -> None:
        name, seen = item
        with contextlib.suppress(FileNotFoundError):  # gone since it was listed: the next push sees to that
            self._store.put_file(str(self.folder / name), self._path(name))
            self._there[name] = seen

    def _remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._store.rm_file(self._path(name))
        del self._there[name]

    def _here(self) -> dict[str, tuple[int, int]]:
        """What is whole here: name -> what changes with the content."""
        found = {}
        for folder, folders, files in os.walk(self.folder):
            folders[:] = [name for name in folders if _UNFINISHED not in name]
            for path in (Path(folder, name) for name in files if not name.startswith(".")):
                with contextlib.suppress(FileNotFoundError):
                    found[path.relative_to(self.folder).as_posix()] = (path.stat().st_mtime_ns, path.stat().st_size)
        return found

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"


def _all(do: Callable, items: Iterable) -> None:
    """Many at a time, since each waits for the network."""
    with ThreadPoolExecutor(16) as pool:
        for _ in pool.map(do, items):
            pass


@contextlib.contextmanager
def _readable(url: str) -> Iterator[None]:
    """Errors of a store, each kind of which has its own, as WorkdirError."""
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
    """The folder itself, or a copy, soon forgotten, of that of a bucket; to be read only."""
    if not is_bucket(path):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix="poisonjax-") as folder:
        Mirror(os.fspath(path), Path(folder)).fetch()
        yield Path(folder)


@contextlib.contextmanager
def claimed(
    path: str | os.PathLike, config: dict, every: float = 30.0, warn: Callable[[str], None] = warnings.warn
) -> Iterator[Path]:
    """The workdir, made that of `config` and of this process alone: the folder itself, or one copied to the bucket.

    every: seconds between copies; there is one at the end. Raises WorkdirError, without waiting, where it cannot be
    used, BucketError where the last copy fails. A process that has the bucket's folder already is interrupted at its
    next copy.
    """
    if not is_bucket(path):
        with locked(path) as folder:
            claim(folder, config)
            yield folder
        return
    folder = Path(tempfile.mkdtemp(prefix="poisonjax-"))
    try:
        mirror = Mirror(os.fspath(path), folder)
        mirror.fetch()
        claim(folder, config)
        mirror.push()
    except (WorkdirError, BucketError) as error:
        shutil.rmtree(folder)
        raise WorkdirError(str(error).replace(str(folder), os.fspath(path))) from error
    with _followed(mirror, every, warn):
        yield folder


@contextlib.contextmanager
def _followed(mirror: Mirror, every: float, warn: Callable[[str], None]) -> Iterator[None]:
    """Copies now and then, and at the end; then removes the folder, unless the last copy failed."""
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
        raise BucketError(f"{error}; what it lacks is in {mirror.folder}") from error
    shutil.rmtree(mirror.folder)


def _follow(mirror: Mirror, every: float, warn: Callable[[str], None], ended: threading.Event) -> None:
    while not ended.wait(every):
        try:
            mirror.push()
        except TakenOver:
            _thread.interrupt_main()  # as Ctrl-C does: the run ends where it would be saved
            return
        except BucketError as error:
            warn(f"{error}; tried again in {every:g} s")
