"""A run's output folder: exclusive lock, one fixed config, atomic writes."""

import contextlib
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

from poisonjax.runtime import files
from poisonjax.runtime.files import leftovers, write_atomic

FORMAT = 1  # of a run's folder; readers refuse a newer one


class WorkdirError(ValueError):
    """A folder that cannot be used for this run; the message is one line: which, why, and what to do."""


@contextlib.contextmanager
def locked(path: str | os.PathLike) -> Iterator[Path]:
    """Lock the folder, created if absent, for this process; the kernel unlocks it even after kill -9.

    Raises WorkdirError, without waiting, if another process has it or it cannot be created.
    """
    folder = Path(path)
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(files.locked(folder / ".lock", wait=False))
        except files.InUseError as error:
            raise WorkdirError(f"workdir {folder} is {error}; wait for it, or choose another folder") from None
        except OSError as error:
            raise WorkdirError(f"workdir {folder} cannot be used: {error.strerror}") from error
        yield folder


def claim(path: str | os.PathLike, config: dict, shown: str | None = None, growing: Sequence[str] = ()) -> None:
    """Bind the folder to `config` (JSON-able): write config.json, or check the one that is there.

    Call it inside `locked`. shown: how messages name the folder; None for its path. growing: settings that are lists,
    to which entries may be added. Raises WorkdirError for a different config, a newer format, an unreadable
    config.json, and a folder that has files but no config.json.
    """
    file, shown = Path(path) / "config.json", os.fspath(path) if shown is None else shown
    if not file.exists():
        _refuse_foreign(file, shown)
        _bind(file, config)
        return
    there = stored_config(file, shown)
    grown = _grown(there, config, growing)
    differing = _differing(grown, config)
    if not differing and grown != there:
        _bind(file, config)
    if differing:
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise WorkdirError(
            f"{shown}/config.json belongs to a different run ({'; '.join(differing[:3])}{more}); choose another folder"
        )


def _bind(file: Path, config: dict) -> None:
    write_atomic(file, json.dumps({"format": FORMAT, "config": config}, indent=1) + "\n")


def _grown(there: dict, here: dict, growing: Sequence[str]) -> dict:
    """The config `there`, with the lists of `here` in the place of those that only lack some of their entries."""
    lacking = [name for name in growing if all(entry in here.get(name, []) for entry in there.get(name, []))]
    return there | {name: here[name] for name in lacking if name in here}


def _refuse_foreign(file: Path, shown: str) -> None:
    ours = {".lock", *(left.name for left in leftovers(file))}
    refuse_foreign(shown, [entry.name for entry in file.parent.iterdir() if entry.name not in ours])


def refuse_foreign(workdir: str | os.PathLike, names: Sequence[str]) -> None:
    """Raise WorkdirError if a folder has files of these names but no config.json, so that it is not a run's."""
    if names and "config.json" not in names:
        raise WorkdirError(
            f"{workdir} is not empty ({min(names)}) and is not a poisonjax workdir (no config.json);"
            " use a new or empty folder"
        )


def stored_config(file: Path, shown: str | None = None) -> dict:
    """The config in a config.json. WorkdirError if it cannot be read or has a newer format.

    shown: how messages name its folder; None for its path.
    """
    name = f"{file.parent if shown is None else shown}/config.json"
    try:
        document = json.loads(file.read_bytes())
        version, config = document["format"], document["config"]
        newer = version > FORMAT
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WorkdirError(
            f"{name} cannot be read ({type(error).__name__}: {error}); restore it, or choose another folder"
        ) from error
    if newer:
        raise WorkdirError(
            f"{name} has format {version}, and this version of poisonjax reads up to {FORMAT};"
            " use the version that wrote it, or choose another folder"
        )
    return config


def _differing(there: dict, here: dict) -> list[str]:
    """Settings that differ. One that is None here and unknown there is none: it is of a newer version, and not used."""
    old, new = _fields(there), _fields(here)
    unknown = {name for name in new.keys() - old.keys() if new[name] == "null"}
    names = [name for name in {**new, **old} if name not in unknown and old.get(name) != new.get(name)]
    return [f"{name} is {old.get(name, 'absent')} there, {new.get(name, 'absent')} here" for name in names]


def _fields(config, prefix: str = "") -> dict[str, str]:
    """Settings by dotted name as JSON text, in which NaN equals NaN and 1 is not true: {'poison.rate': '0.1', ...}."""
    if not isinstance(config, dict) or not config:
        return {prefix.rstrip("."): json.dumps(config, sort_keys=True)}
    parts = [_fields(value, f"{prefix}{name}.") for name, value in config.items()]
    return {name: text for part in parts for name, text in part.items()}


def save_arrays(path: str | os.PathLike, arrays: NamedTuple) -> None:
    """Write the fields, NumPy arrays, to a .npz file, atomically as `write_atomic` does."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays._asdict())
    write_atomic(path, content.getvalue())


def load_arrays(path: str | os.PathLike, kind: type) -> NamedTuple:
    """The arrays that `save_arrays` wrote, as a NamedTuple of that kind."""
    with np.load(path) as file:
        return kind(**file)


def with_checksum(content: dict) -> dict:
    """`content` as JSON returns it (tuples are lists, keys are text), with its sha256: {'sha256', 'content'}."""
    content = json.loads(json.dumps(content))
    return {"sha256": _digest(content), "content": content}


def verified(document: dict) -> dict:
    """The content given to `with_checksum`, as JSON returns it. Raises ValueError if a byte of it changed."""
    if not isinstance(document, dict) or document.keys() != {"sha256", "content"}:
        raise ValueError("no sha256 beside its content")
    if document["sha256"] != _digest(document["content"]):
        raise ValueError("its content does not match its sha256")
    return document["content"]


def _digest(content) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def cached_json(
    path: str | os.PathLike,
    compute: Callable[[], dict],
    warn: Callable[[str], None] = warnings.warn,
    share: Callable[[Callable], Any] = lambda recall: recall(),
) -> dict:
    """JSON-able result of compute(), stored in the file `path`; the first call and later ones return the same.

    warn: called with one line about a damaged file, which is then computed and written again. share: broadcasts what
    one of several processes read to all of them, which compute together.
    """
    path = Path(path)
    content = share(lambda: _recalled(path, warn))
    if content is not None:
        return content
    document = with_checksum(compute())
    write_atomic(path, json.dumps(document, indent=1) + "\n")
    return document["content"]


def _recalled(path: Path, warn: Callable[[str], None]) -> dict | None:
    if not path.exists():
        return None
    try:
        return verified(json.loads(path.read_bytes()))
    except (OSError, ValueError) as error:
        warn(f"{path} is damaged ({error}); it is computed again")
        return None


class Interrupt:
    """`with Interrupt() as interrupt`: SIGINT and SIGTERM only set `interrupt.requested` to their name.

    Finish the step, save, and leave. Ctrl-C after either raises KeyboardInterrupt at once. Leaving gives
    back the handlers that were there. Main thread only, as Python's signal handlers are.
    """

    def __init__(self) -> None:
        self.requested: str | None = None

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


_STOPS = (signal.SIGINT, signal.SIGTERM)
