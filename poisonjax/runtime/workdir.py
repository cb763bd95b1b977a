"""The folder of a run: one process at a time, one config for ever, nothing half-written."""

import contextlib
import errno
import fcntl
import hashlib
import io
import json
import os
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FORMAT = 1  # of everything that a run leaves in its folder; readers refuse a newer one


class WorkdirError(ValueError):
    """The folder cannot be used for this run: one line that says which, why, and what to do."""


@contextlib.contextmanager
def locked(path: str | os.PathLike) -> Iterator[Path]:
    """Holds the folder, made if absent, for this process alone; the kernel lets go even after kill -9.

    Raises WorkdirError, without waiting, where another process holds it or it cannot be made.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / ".lock", "a+")  # noqa: SIM115 (closed below; never removed: that would race)
    except OSError as error:
        raise WorkdirError(f"workdir {folder} cannot be used: {error.strerror}") from error
    with file:
        _lock(file, folder)
        try:
            yield folder
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # closing alone would leave it to a forked child


def _lock(file, folder: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise WorkdirError(f"workdir {folder} cannot be locked: {error.strerror}") from error
        file.seek(0)
        holder = file.read().strip() or "unknown"
        raise WorkdirError(
            f"workdir {folder} is in use by process {holder}: wait for it, or give another --workdir"
        ) from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()


def claim(path: str | os.PathLike, config: dict) -> None:
    """Makes the folder that of `config` (JSON-able): writes config.json, or checks the one that is there.

    Call it inside `locked`. Raises WorkdirError for another config, a newer format, an unreadable
    config.json, and a folder that has files but no config.json (it is somebody else's).
    """
    file = Path(path) / "config.json"
    if not file.exists():
        _refuse_foreign(file)
        write_atomic(file, json.dumps({"format": FORMAT, "config": config}, indent=1) + "\n")
        return
    differing = _differing(stored_config(file), config)
    if differing:
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise WorkdirError(f"{file} is of another run: {'; '.join(differing[:3])}{more}: give another --workdir")


def _refuse_foreign(file: Path) -> None:
    ours = {".lock", *(leftover.name for leftover in file.parent.glob(_temporary(file, "*").name))}
    refuse_foreign(file.parent, [entry.name for entry in file.parent.iterdir() if entry.name not in ours])


def refuse_foreign(workdir: str | os.PathLike, names: Sequence[str]) -> None:
    """WorkdirError if a workdir has these names but no config.json: it is somebody else's."""
    if names and "config.json" not in names:
        raise WorkdirError(
            f"workdir {workdir} is not empty ({min(names)}) and has no config.json, so it is not of a run:"
            " give a new or empty --workdir"
        )


def stored_config(file: Path) -> dict:
    """What `claim` wrote to this config.json. WorkdirError if it cannot be read or is of a newer format."""
    try:
        document = json.loads(file.read_bytes())
        version, config = document["format"], document["config"]
        newer = version > FORMAT
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WorkdirError(
            f"{file} cannot be read ({type(error).__name__}: {error}): restore it, or give another --workdir"
        ) from error
    if newer:
        raise WorkdirError(
            f"{file} is of format {version}, this version of poisonjax reads up to {FORMAT}:"
            " use the version that wrote it, or give another --workdir"
        )
    return config


def _differing(there: dict, here: dict) -> list[str]:
    old, new = _fields(there), _fields(here)
    names = [name for name in {**new, **old} if old.get(name, "absent") != new.get(name, "absent")]
    return [f"{name} is {old.get(name, 'absent')} there, {new.get(name, 'absent')} here" for name in names]


def _fields(config, prefix: str = "") -> dict[str, str]:
    """{'poison.rate': '0.1', ...}: as JSON text, in which NaN equals NaN and 1 is not true."""
    if not isinstance(config, dict) or not config:
        return {prefix.rstrip("."): json.dumps(config, sort_keys=True)}
    parts = [_fields(value, f"{prefix}{name}.") for name, value in config.items()]
    return {name: text for part in parts for name, text in part.items()}


def write_atomic(path: str | os.PathLike, content: str | bytes) -> None:
    """The file holds all of `content` (text as UTF-8) or what it held before, even after a power cut.

    Raises OSError, naming the file, where it cannot be written (disk full); the old file then stays.
    """
    path = Path(path)
    temporary = _temporary(path, os.getpid())
    try:
        with open(temporary, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
    _sync_folder(path.parent)


def save_arrays(path: str | os.PathLike, arrays: NamedTuple) -> None:
    """Writes the fields, numpy arrays, to a .npz file, atomically as `write_atomic` does."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays._asdict())
    write_atomic(path, content.getvalue())


def load_arrays(path: str | os.PathLike, kind: type) -> NamedTuple:
    """What `save_arrays` was given, as a NamedTuple of that kind."""
    with np.load(path) as file:
        return kind(**file)


def _temporary(path: Path, owner: int | str) -> Path:
    return path.with_name(f".{path.name}.{owner}.tmp")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def with_checksum(content: dict) -> dict:
    """{'sha256', 'content'}: `content` as JSON gives it back (tuples are lists, keys are text), signed."""
    content = json.loads(json.dumps(content))
    return {"sha256": _digest(content), "content": content}


def verified(document: dict) -> dict:
    """What `seal` was given, as JSON gives it back. Raises ValueError where a byte of it changed."""
    if not isinstance(document, dict) or document.keys() != {"sha256", "content"}:
        raise ValueError("not a sealed record")
    if document["sha256"] != _digest(document["content"]):
        raise ValueError("its content differs from its sha256")
    return document["content"]


def _digest(content) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def cached_json(
    path: str | os.PathLike,
    compute: Callable[[], dict],
    warn: Callable[[str], None] = warnings.warn,
    share: Callable[[Callable], Any] = lambda look: look(),
) -> dict:
    """compute()'s JSON-able result, kept in the file `path`; the first call and later ones return the same.

    A damaged file is said through `warn`, and computed and written again. share: gives several processes, which
    compute together, what one of them finds.
    """
    path = Path(path)
    found = share(lambda: _recalled(path, warn))
    if found is not None:
        return found
    sealed = with_checksum(compute())
    write_atomic(path, json.dumps(sealed, indent=1) + "\n")
    return sealed["content"]


def _recalled(path: Path, warn: Callable[[str], None]) -> dict | None:
    if not path.exists():
        return None
    try:
        return verified(json.loads(path.read_bytes()))
    except (OSError, ValueError) as error:
        warn(f"{path} is damaged ({error}): computed again")
        return None


class Interrupt:
    """`with Interrupt() as interrupt`: SIGINT and SIGTERM only set `interrupt.requested` to their name.

    acknowledge: takes that name, inside the signal handler.
    Finish the step, save, and leave. Ctrl-C after either raises KeyboardInterrupt at once. Leaving gives
    back the handlers that were there. Main thread only, as Python's signal handlers are.
    """

    def __init__(self, acknowledge: Callable[[str], None] = lambda name: None) -> None:
        self.requested: str | None = None
        self._acknowledge = acknowledge

    def __enter__(self) -> "Interrupt":
        self._handlers = {number: signal.signal(number, self._note) for number in _STOPS}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: one that Python did not install

    def _note(self, number: int, _) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.requested:
            self.requested = signal.Signals(number).name
            self._acknowledge(self.requested)


_STOPS = (signal.SIGINT, signal.SIGTERM)
