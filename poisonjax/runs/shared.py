"""Networks on the whole training data: trained once for the same data, settings, seed and code, and shared.

Those that no poison touches are shared between runs; those on poisoned data by the defences of one run.
"""

import contextlib
import functools
import hashlib
import json
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import jax

from poisonjax.models.network import Network
from poisonjax.overrides import to_json
from poisonjax.reports.console import say
from poisonjax.runs.job import Run
from poisonjax.runtime import distributed, files
from poisonjax.runtime.checkpoint import Checkpoints
from poisonjax.training import Interrupted, Objective, Training, fresh

CLEAN, POISONED = "clean", "poisoned"  # origins of the training rows of a network
PACKAGE = pathlib.Path(__file__).parents[1]
# The code that networks and curves depend on, by folders of the package.
FOLDERS = (".", "attacks", "evaluation", "models", "runs", "runtime", "training")


def digest(job: Run, seed: int, model: Network, objective: Objective, settings: Training, stream: str) -> str | None:
    """The name of a network among the shared ones: of everything that its weights and curves depend on.

    stream: which of a seed's random streams it is trained with. None if it must not be shared: with types that are no
    part of this package, whose code has no digest, or over several processes.
    """
    if jax.process_count() > 1 or not all(map(_ours, (model, objective, settings, settings.optimizer))):
        return None
    data, device = job.dataset, jax.devices()[0]
    rows = [hashlib.sha256(split.index.tobytes()).hexdigest() for split in (data.train, data.test)]
    parts = {
        "code": _code(),
        "machine": [
            jax.__version__,
            device.platform,
            device.device_kind,
            jax.device_count(),
            distributed.single_device(),
        ],
        "data": [data.sha256, *rows],
        "network": [to_json(model), to_json(objective), to_json(settings)],
        "monitor": to_json(job.experiment.evaluation.attack) if objective.single_step else None,
        "seed": [seed, stream, job.reader is not None],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def place(
    job: Run, seed: int, origin: str | None, model: Network, objective: Objective, settings: Training, stream: str
) -> pathlib.Path | None:
    """The folder in which a network is shared: that of all runs if it is CLEAN, that of the run if it is POISONED.

    None for rows that a defence chose, and where nobody else wants the network.
    """
    defended = any(arm.defence is not None for arm in job.experiment.arms)
    within = {CLEAN: job.shared, POISONED: job.workdir / f"seed{seed}" / "shared" if defended else None}.get(origin)
    name = within and digest(job, seed, model, objective, settings, stream)
    return within / name if name else None


def _ours(setting: Any) -> bool:
    return type(setting).__module__.startswith("poisonjax.")


@functools.cache
def _code() -> str:
    """The digest of the source files that decide what training computes."""
    sources = [path for folder in FOLDERS for path in sorted((PACKAGE / folder).glob("*.py"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


@contextlib.contextmanager
def exchange(
    job: Run,
    place: pathlib.Path | None,
    what: str,
    kept: Checkpoints,
    model: Network,
    objective: Objective,
    settings: Training,
) -> Iterator[None]:
    """Take a shared network into the run's own checkpoints `kept`, or share the one that is trained meanwhile.

    place: where it is shared; None shares nothing. what: the network, as people call it. A second process that wants
    the same network waits for the first.
    """
    if place is None:
        yield
        return
    rows = len(job.dataset.train.label)
    like = jax.eval_shape(
        lambda key: fresh(model, objective, settings, rows, job.dataset.train.image[0], key), jax.random.key(0)
    )
    if _finished(kept, like, settings.total_steps(rows)) is not None:
        yield
        return
    with _locked(job, place, what):
        shared = Checkpoints(place, warn=say)
        found = _finished(shared, like, settings.total_steps(rows))
        if found is not None:
            say(f"{what}: trained before, taken from {place}")
            kept.save(*found)
        yield
        trained = kept.latest(like) if found is None else None
        if trained is not None:
            shared.save(*trained)


def _finished(store: Checkpoints, like: Any, steps: int) -> tuple[int, Any, dict] | None:
    found = store.latest(like)
    return found if found is not None and found[0] == steps else None


@contextlib.contextmanager
def _locked(job: Run, folder: pathlib.Path, what: str) -> Iterator[None]:
    """Lock a shared network, waiting for a process that trains it. Interrupted on request."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        waiting = False
        while not _entered(stack, folder / ".lock"):
            if not waiting:
                say(f"{what}: waiting for another process, which trains the same network")
            waiting = True
            if job.stop_requested():
                raise Interrupted(f"stopped while waiting for {what}")
            time.sleep(0.2)
        yield


def _entered(stack: contextlib.ExitStack, lock: pathlib.Path) -> bool:
    try:
        stack.enter_context(files.locked(lock, wait=False))
    except files.InUseError:
        return False
    return True
