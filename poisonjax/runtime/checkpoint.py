"""Checkpoints of a run, written by Orbax; damaged ones are detected, and the one before is used."""

import contextlib
import errno
import hashlib
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from poisonjax.runtime.workdir import verified, with_checksum

PyTree = Any


class CheckpointError(OSError):
    """A checkpoint could not be written; the message is one line: where, why, and which earlier one is left."""


class _Sequential(ocp.type_handlers.NumpyHandler):
    """Reads arrays one at a time.

    When several are read at once, a damaged one ends the event loop under the others, and tensorstore prints a
    traceback for each.
    """

    async def deserialize(self, infos, args=None):
        args = args or [ocp.RestoreArgs()] * len(infos)
        return [(await super(_Sequential, self).deserialize([i], [a]))[0] for i, a in zip(infos, args, strict=True)]


class Checkpoints:
    """The newest `keep` (at least 2) checkpoints of a run, one folder a step under `directory`.

    warn: called with one line about every damaged checkpoint that `latest` finds. primary: true if this process writes.
    share: broadcasts what one of several processes read. ValueError for a smaller `keep`.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        keep: int = 2,
        warn: Callable[[str], None] = warnings.warn,
        primary: bool = True,
        share: Callable[[Callable], Any] = lambda read: read(),
    ) -> None:
        if keep < 2:
            raise ValueError(f"keep must be at least 2, so that a damaged checkpoint has one before it, got {keep}")
        self._directory = Path(directory).absolute()
        self._keep, self._warn, self._primary, self._share = keep, warn, primary, share
        logging.getLogger("absl").addFilter(_not_of_orbax)  # it logs, even later, what it raises anyway

    def save(self, step: int, state: PyTree, meta: dict) -> None:
        """Write `state` (arrays on the host, or replicated) and `meta` (JSON-able); return when both are complete.

        A step that exists is left as it is: the same config and step give the same state. Raises CheckpointError if it
        cannot be written (disk full), which leaves the earlier ones, ValueError for a step before the newest one.
        """
        if not self._primary:
            return
        leaves = _named(jax.tree.map(np.asarray, state))
        record = with_checksum({"meta": meta, "leaves": {name: _described(leaf) for name, leaf in leaves.items()}})
        with self._manager() as manager:
            newest = manager.latest_step()
            if step == newest:
                return
            if newest is not None and step < newest:
                raise ValueError(f"step {step} is before {newest}, the newest checkpoint in {self._directory}")
            try:
                self._write(manager, step, leaves, record)
            except Exception as error:  # tensorstore raises ValueError, threads ExceptionGroup, files OSError
                self._clear_unfinished(step)
                kept = "there is no earlier one" if newest is None else f"the one of step {newest} is intact"
                raise CheckpointError(
                    f"checkpoint of step {step} cannot be written to {self._directory}: {_reason(error)}; {kept}"
                ) from error

    def latest(self, like: PyTree) -> tuple[int, PyTree, dict] | None:
        """(step, state, meta) of the newest intact checkpoint, as saved bit for bit; None without one.

        The state has the structure of `like` and NumPy leaves, whatever devices saved it. Damaged newer checkpoints are
        reported through `warn` and renamed to '<step>.damaged'. Raises ValueError unless the leaves are those of `like`
        in name, dtype and shape.
        """
        return self._share(lambda: self._newest_intact(like))

    def _newest_intact(self, like: PyTree) -> tuple[int, PyTree, dict] | None:
        newest, damaged = None, {}
        with self._manager() as manager:
            for step in sorted(manager.all_steps(), reverse=True):
                try:
                    newest = (step, *self._read(manager, step))
                    break
                except Exception as error:  # whatever Orbax raises on reading damaged files
                    damaged[step] = _reason(error)
        for step, reason in damaged.items():
            self._set_aside(step, reason, newest and newest[0])
        if newest is None:
            return None
        step, leaves, meta = newest
        return step, self._fitted(step, leaves, like), meta

    @contextlib.contextmanager
    def _manager(self) -> Iterator[ocp.CheckpointManager]:
        """A new manager for each use, since its list of steps can be stale after a failed commit."""
        me = jax.process_index()
        alone = ocp.options.MultiprocessingOptions(
            primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process{me}"
        )
        options = ocp.CheckpointManagerOptions(
            max_to_keep=self._keep,
            create=False,
            enable_async_checkpointing=False,
            save_root_metadata=False,
            lightweight_initialize=True,
            multiprocessing_options=alone,
        )
        state = ocp.PyTreeCheckpointHandler(
            use_compression=False,  # weights hardly compress, and a save takes a fifth longer
            multiprocessing_options=alone,
            type_handler_registry=ocp.type_handlers.create_type_handler_registry((np.ndarray, _Sequential())),
        )
        handlers = ocp.handlers.create_default_handler_registry(state=state)
        with ocp.CheckpointManager(self._directory, options=options, handler_registry=handlers) as manager:
            yield manager

    def _write(self, manager, step: int, leaves: dict[str, np.ndarray], record: dict) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._clear_unfinished(step)
        self._find_room(sum(leaf.nbytes for leaf in leaves.values()))
        state, record = ocp.args.PyTreeSave(_sized(leaves)), ocp.args.JsonSave(record)
        manager.save(step, args=ocp.args.Composite(state=state, record=record), force=True)

    def _find_room(self, size: int) -> None:
        """Raise OSError on a full disk before Orbax does, whose threads would continue in the background."""
        allocate = getattr(os, "posix_fallocate", lambda *_: None)  # macOS has none: there Orbax raises
        with tempfile.TemporaryFile(dir=self._directory) as file:
            allocate(file.fileno(), 0, size + size // 4 + 2**20)

    def _clear_unfinished(self, step: int) -> None:
        """Remove what a killed or failed save left, which may even have the name of a complete checkpoint."""
        for leftover in (self._directory / str(step), *self._directory.glob("*.orbax-checkpoint-tmp*")):
            shutil.rmtree(leftover, ignore_errors=True)

    def _read(self, manager, step: int) -> tuple[dict[str, np.ndarray], dict]:
        args = ocp.args.Composite(record=ocp.args.JsonRestore())
        record = verified(manager.restore(step, args=args)["record"])
        blank = {name: _blank(leaf) for name, leaf in record["leaves"].items()}
        args = ocp.args.Composite(state=ocp.args.PyTreeRestore(_sized(blank)))
        leaves = blank | manager.restore(step, args=args)["state"]
        for name, leaf in leaves.items():
            if _described(leaf) != record["leaves"][name]:
                raise ValueError(f"the array {name} does not match its sha256")
        return leaves, record["meta"]

    def _set_aside(self, step: int, reason: str, used: int | None) -> None:
        folder = self._directory / str(step)
        instead = "no earlier one is intact" if used is None else f"the checkpoint of step {used} is used instead"
        self._warn(f"checkpoint {folder} is damaged ({reason}); {instead}")
        if self._primary:
            aside = folder.with_name(f"{step}.damaged")
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)

    def _fitted(self, step: int, leaves: dict[str, np.ndarray], like: PyTree) -> PyTree:
        expected = {name: _kind(leaf) for name, leaf in _named(like).items()}
        stored = {name: _kind(leaf) for name, leaf in leaves.items()}
        for name in {**expected, **stored}:
            if expected.get(name) != stored.get(name):
                raise ValueError(
                    f"checkpoint {self._directory / str(step)} belongs to another model or optimizer: {name} is"
                    f" {stored.get(name, 'absent')} there, {expected.get(name, 'absent')} here"
                )
        return jax.tree.unflatten(jax.tree.structure(like), [leaves[name] for name in expected])


def _named(tree: PyTree) -> dict[str, Any]:
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def _kind(leaf) -> str:
    dtype = leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
    return f"{dtype}{list(np.shape(leaf))}"


def _described(leaf: np.ndarray) -> dict:
    sha256 = hashlib.sha256(leaf.tobytes()).hexdigest()
    return {"dtype": str(leaf.dtype), "shape": list(leaf.shape), "sha256": sha256}


def _blank(described: dict) -> np.ndarray:
    return np.empty(described["shape"], jnp.dtype(described["dtype"]))


def _sized(leaves: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays that have elements: Orbax refuses the others, which their shape describes completely."""
    return {name: leaf for name, leaf in leaves.items() if leaf.size}


def _reason(error: Exception) -> str:
    """One line: messages of tensorstore have thousands of characters and may mention a full disk only at the end."""
    text, full = " ".join(str(error).split()), os.strerror(errno.ENOSPC)
    return full if full in text else f"{type(error).__name__}: {text.partition(' [tensorstore_spec')[0][:200]}"


def _not_of_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in Path(record.pathname).parts
