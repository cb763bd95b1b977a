"""One run of an experiment: what, on which data, where its files are, and who may stop it."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import poisonjax.analyses  # noqa: F401 (a config may name its types, and reading one imports nothing)
from poisonjax.data import Dataset
from poisonjax.experiment import Experiment
from poisonjax.overrides import to_json
from poisonjax.reports.console import Bar, say
from poisonjax.runtime import distributed
from poisonjax.runtime.checkpoint import Checkpoints
from poisonjax.training import Interrupted
from poisonjax.training.prefetch import HostData
from poisonjax.types import Examples

ATTACKER = "surrogate"  # the name of the attacker's own network among those of a seed


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of an experiment.

    changed: the overrides in force. home: what its user calls the workdir. save_every: seconds between checkpoints.
    reader: row numbers [b] of the training split -> Examples [b], for data that are to stay on the host; None puts
    them all on the devices. advanced: called after each training call. shared: where networks that no poison touches
    are kept for other runs; None shares none. source: what --experiment named, if it was a
    path or a module.
    """

    experiment: Experiment
    dataset: Dataset
    workdir: pathlib.Path
    scale: str
    changed: tuple[str, ...] = ()
    home: str = ""
    seeds: int = 1
    save_every: float = 30.0
    stop_requested: Callable[[], bool] = lambda: False
    reader: Callable[[np.ndarray], Examples] | None = None
    advanced: Callable[[], None] = lambda: None
    shared: pathlib.Path | None = None
    source: str = ""


class PoisonedData(NamedTuple):
    """The training data of the poisoned arms.

    train: makes them, crafting the poison if that has not been done; for the networks that are still to be trained.
    rows: the `index` of those that are changed. facts: for the record.
    """

    train: Callable[[], Examples | HostData]
    rows: np.ndarray
    facts: dict


def identity(experiment: Experiment, scale: str) -> dict:
    """The config that a workdir is bound to. Only more seeds may be added."""
    return {"scale": scale, **to_json(experiment)}


def folder(job: Run, seed: int, name: str) -> pathlib.Path:
    """The folder of the files of one network."""
    return job.workdir / f"seed{seed}" / name


def store(job: Run, seed: int, name: str) -> Checkpoints:
    """The checkpoints of one network."""
    place, write = folder(job, seed, name) / "checkpoints", distributed.is_primary()
    return Checkpoints(place, warn=say, primary=write, share=distributed.from_primary)


def training_data(job: Run, change: Callable[[Examples], Examples] = lambda examples: examples) -> Examples | HostData:
    """The training rows, changed row by row: in memory, or as they are read."""
    if job.reader is None:
        return jax.tree.map(np.asarray, change(job.dataset.train))
    index = job.dataset.train.index
    return HostData(index, lambda at: jax.tree.map(np.asarray, change(job.reader(index[at]))))


def target_labels(job: Run) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the test images [n], and the class that the attacker wants for each [n]."""
    labels = job.dataset.test.label
    return labels, np.asarray(job.experiment.poison.target_labels(jnp.asarray(labels)))


@contextlib.contextmanager
def progress(job: Run, name: str, images: int) -> Iterator[Callable[[int], None]]:
    """A bar for work that is not saved half-way; takes numbers of images done, raises Interrupted on request."""
    with Bar(name) as bar:
        bar.begin(images, 0)

        def advance(rows: int) -> None:
            bar.advance(rows)
            if distributed.all_max(job.stop_requested())[0]:
                raise Interrupted(f"stopped within {name}, which starts again")

        yield advance
