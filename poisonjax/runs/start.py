"""Start of a run: its workdir locked and claimed, signals caught, temporary folders removed in the end."""

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from poisonjax.data import Dataset, stream
from poisonjax.data.sources import SOURCES
from poisonjax.experiment import Experiment
from poisonjax.reports import record
from poisonjax.reports.console import say
from poisonjax.runs import runner
from poisonjax.runs.job import GROWING, Run, identity
from poisonjax.runtime import bucket, distributed
from poisonjax.runtime.signals import heard, write
from poisonjax.runtime.workdir import Interrupt
from poisonjax.types import Examples, take


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings on which no result of a run depends, except that more seeds are more results.

    workdir: folder, or gs://... of a bucket. data_dir: folder of the tfds data sets; None for tfds's own. save_every:
    seconds between checkpoints. stream: feed training from the record files instead of device memory. shared:
    folder of networks that no poison touches, for all runs; None shares none. began: time.monotonic() of the user's
    command. last_words: a line with which the process ends if a second Ctrl-C finds it deaf, within native code; None
    waits. ValueError for an impossible value.
    """

    workdir: str
    seeds: int = 1
    data_dir: str | None = None
    save_every: float = 30.0
    stream: bool = False
    shared: str | None = None
    began: float = dataclasses.field(default_factory=time.monotonic)
    last_words: str | None = None

    def __post_init__(self):
        if self.seeds < 1:
            raise ValueError(f"seeds must be at least 1, got {self.seeds}")
        if self.save_every < 0:
            raise ValueError(f"save_every must be at least 0 seconds, got {self.save_every}")


def run(
    experiment: Experiment,
    workdir: str | os.PathLike | None = None,
    seeds: int = 1,
    data_dir: str | os.PathLike | None = None,
    *,
    scale: str = "custom",
    changed: Sequence[str] = (),
    save_every: float = 30.0,
    stream: bool = False,
    shared: str | os.PathLike | None = None,
    source: str = "",
) -> dict:
    """Run an experiment from data to report, or resume it, and return its record.

    workdir: a folder, or gs://... of a bucket, for record.json, report.md, figures and checkpoints; it belongs to this
    experiment alone, and to this process while it runs. Default: runs/<name>/<scale>. seeds: 0 to seeds - 1; more of
    them, and more arms, on the same workdir add to those done. scale: recorded; "paper" and "full" are compared with
    reported numbers. changed: the overrides that led to the experiment, recorded. source: the file or module that
    it is from, recorded. The others are those of `Settings`.

    ValueError for bad input and for a workdir that is in use or belongs to another run. `training.Interrupted` after
    Ctrl-C or SIGTERM, with everything saved: the same call resumes. OSError if the disk or the bucket fails.
    """
    home = os.fspath(workdir or f"runs/{experiment.name}/{scale}")
    settings = Settings(home, seeds, data_dir and os.fspath(data_dir), save_every, stream, shared and os.fspath(shared))
    dataset = runner.load(experiment, settings.data_dir)
    with opened(experiment, dataset, identity(experiment, scale, dataset), settings, scale, changed, source) as job:
        return finished(job) or runner.run(job)


@contextlib.contextmanager
def opened(
    experiment: Experiment,
    dataset: Dataset,
    config: dict,
    settings: Settings,
    scale: str,
    changed: Sequence[str] = (),
    source: str = "",
    chosen: str = "",
) -> Iterator[Run]:
    """A run in its workdir, which is locked and bound to `config` until the context ends.

    Meanwhile SIGINT and SIGTERM stop it after a step, saved. dataset: the rows that the experiment uses. source: what
    --experiment names. chosen: what --arms names. WorkdirError if the workdir cannot be used.
    """
    with _own_workdir(settings, config) as workdir, _interrupt(settings.last_words) as stop_requested:
        yield Run(
            experiment=experiment,
            dataset=dataset,
            workdir=workdir,
            home=settings.workdir,
            scale=scale,
            changed=tuple(changed),
            seeds=settings.seeds,
            save_every=settings.save_every,
            stop_requested=stop_requested,
            reader=_reader(dataset, settings.data_dir) if settings.stream else None,
            advanced=functools.cache(lambda: _say_started(settings.began)),
            shared=settings.shared and pathlib.Path(settings.shared).expanduser(),
            source=source,
            chosen=chosen,
        )


def _reader(dataset: Dataset, data_dir: str | None) -> Callable[[np.ndarray], Examples]:
    """A function row numbers [b] -> Examples [b]: from the record files of a known data set, else from memory."""
    if dataset.name in SOURCES:
        return stream.rows(dataset.name, "train", data_dir)
    return lambda rows: take(dataset.train, np.searchsorted(dataset.train.index, rows))


def finished(job: Run) -> dict | None:
    """The record of a run that has nothing left to do; None if there is work."""
    return distributed.from_primary(lambda: _finished(job))


def _finished(job: Run) -> dict | None:
    try:
        made = json.loads((job.workdir / "record.json").read_bytes())
        arms = [arm.name for arm in job.experiment.arms]
        whole = [made["format"], made["seeds"], list(made["arms"])] == [record.FORMAT, [*range(job.seeds)], arms]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return made if whole and (job.workdir / "report.md").exists() else None


@contextlib.contextmanager
def _own_workdir(settings: Settings, config: dict) -> Iterator[pathlib.Path]:
    """The locked workdir; of several processes only the primary has it, the others get a temporary folder."""
    with contextlib.ExitStack() as stack:
        held = bucket.claimed(settings.workdir, config, settings.save_every, say, GROWING)
        folder = distributed.from_primary(lambda: stack.enter_context(held))
        if not distributed.is_primary():
            folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        yield folder


@contextlib.contextmanager
def _interrupt(last_words: str | None) -> Iterator[Callable[[], bool]]:
    """True once a signal asked to stop. Only the main thread can catch signals; elsewhere nothing stops a run."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    with heard(_acknowledgement(last_words)), Interrupt() as interrupt:
        yield lambda: interrupt.requested is not None


def _acknowledgement(last_words: str | None) -> Callable[[str], str | None]:
    """The answers to signals: the first stops after a step, Ctrl-C after it at once."""
    signals = []

    def hear(name: str) -> str | None:
        signals.append(name)
        if len(signals) > 1 and name == "SIGINT":
            write("stopping at once ...")
            return last_words
        if len(signals) == 1:
            write(f"stopping after this step{'; Ctrl-C again to stop at once' * (name == 'SIGINT')}")
        return None

    return hear


def _say_started(began: float) -> None:
    say(f"first training steps done after {time.monotonic() - began:.1f} s")
