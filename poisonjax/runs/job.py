"""One run of an experiment: what, on which data, where its files are, and who may stop it."""

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import poisonjax.analyses  # noqa: F401 (a config may name its types, and reading one imports nothing)
from poisonjax.data import Dataset
from poisonjax.data.sources import SOURCES
from poisonjax.experiment import Experiment
from poisonjax.keys import stream_key
from poisonjax.models.network import Network
from poisonjax.overrides import to_json
from poisonjax.poisons.base import Poison
from poisonjax.reports.console import Bar, TrainingBar, say
from poisonjax.runs import estimate
from poisonjax.runs.agenda import Agenda, Item
from poisonjax.runtime import distributed
from poisonjax.runtime.checkpoint import Checkpoints
from poisonjax.training import Interrupted, Objective, Training
from poisonjax.training.prefetch import HostData
from poisonjax.types import Examples

GROWING = ("arms", "reported")  # what may be added to a run that has begun, besides seeds
ATTACKER = "surrogate"  # the name of the attacker's own network among those of a seed


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of an experiment.

    changed: the overrides in force. home: what its user calls the workdir. save_every: seconds between checkpoints.
    reader: row numbers [b] of the training split -> Examples [b], for data that are to stay on the host; None puts
    them all on the devices. advanced: called after each training call. shared: where networks that no poison touches
    are kept for other runs; None shares none. source: what --experiment named, if it was a path or a module. chosen:
    what --arms named, "" for all arms. agenda: of all runs that the user waits for.
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
    chosen: str = ""
    agenda: Agenda = dataclasses.field(default_factory=Agenda)


class PoisonedData(NamedTuple):
    """The training data of the poisoned arms.

    train: makes them, crafting the poison if that has not been done; for the networks that are still to be trained.
    rows: the `index` of the poisoned ones. cover: that of the cover rows, which are changed but keep their label.
    facts: for the record.
    """

    train: Callable[[], Examples | HostData]
    rows: np.ndarray
    cover: np.ndarray
    facts: dict


def identity(experiment: Experiment, scale: str, dataset: Dataset) -> dict:
    """The config that a workdir is bound to. Only more seeds, and what is GROWING, may be added.

    Of data without an official digest it has their digest, so that a run on data that changed is not resumed.
    """
    known = dataset.name in SOURCES and SOURCES[dataset.name].sha256 == dataset.sha256
    return {"scale": scale, **to_json(experiment), **({} if known else {"dataset": {"sha256": dataset.sha256}})}


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


def changed_rows(poison: Poison, labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows [n] bool that become poisoned, and those that become cover rows. ValueError if they are too few."""
    labels = jnp.asarray(labels)
    chosen = poison.select(labels, stream_key(seed, "poison"))
    return np.asarray(chosen), np.asarray(poison.cover(labels, chosen, stream_key(seed, "cover")))


def target_labels(job: Run) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the test images [n], and the class that the attacker wants for each [n]."""
    labels = job.dataset.test.label
    return labels, np.asarray(job.experiment.poison.target_labels(jnp.asarray(labels)))


def scheduled(jobs: Sequence[Run]) -> list[Run]:
    """The runs, as those of a sweep, with one agenda of all of them."""
    points = [f" point {at}/{len(jobs)}" if len(jobs) > 1 else "" for at in range(1, len(jobs) + 1)]
    pairs = zip(jobs, points, strict=True)
    items = [item for job, point in pairs for seed in range(job.seeds) for item in _items(job, seed, point)]
    lanes = min(jobs[0].seeds, len(jax.local_devices())) if jax.process_count() == 1 else 1
    agenda = Agenda(items, lanes)
    return [dataclasses.replace(job, agenda=agenda) for job in jobs]


def _items(job: Run, seed: int, point: str) -> Iterator[Item]:
    """The networks of a seed, in the order of their training. point: of a sweep, as bars show it."""
    plan, rows, of = job.experiment, len(job.dataset.train.label), len(job.experiment.arms)
    title = f", seed {seed} ({seed + 1} of {job.seeds})" if job.seeds > 1 else ""
    label = f" seed {seed + 1}/{job.seeds}{point}" if job.seeds > 1 else point

    def item(name: str, where: str, model: Network, objective: Objective, train: Training, chores: Hashable) -> Item:
        gradients, pace = estimate.training_gradients(train, objective, rows), (model, objective.attack is None)
        named = "" if name == where else f": {name}"
        short = where.replace(" of ", "/")
        return Item(key(job, seed, name), f"{where}{title}{named}", f"{short}{label}", gradients, pace, chores)

    if plan.poison.needs_surrogate:
        yield item(ATTACKER, ATTACKER, plan.model, plan.surrogate.objective, plan.surrogate.train, ATTACKER)
    for at, arm in enumerate(plan.arms, 1):
        model, train = plan.model_of(arm), plan.training_of(arm)
        yield item(arm.name, f"arm {at} of {of}", model, arm.objective, train, type(arm.defence))


def key(job: Run, seed: int, name: str) -> tuple[str, int, str]:
    """A network on the agenda."""
    return str(job.workdir), seed, name


@contextlib.contextmanager
def visited(job: Run, seed: int, name: str) -> Iterator[None]:
    """Work on a network of the agenda, with a line before it."""
    own = key(job, seed, name)
    say(", ".join(filter(None, [job.agenda.title(own), job.agenda.spell()])))
    with job.agenda.visit(own):
        yield


def training_bar(job: Run, seed: int, name: str) -> TrainingBar:
    """The watch of a network's training; `name` of a network that a defence trains beside is arm/name."""
    curves, own = job.workdir / "tensorboard" / name / str(seed), key(job, seed, name)
    trained = functools.partial(job.agenda.trained, own)
    named = label(job, seed, name, "train")
    return TrainingBar(named, curves, job.stop_requested, job.advanced, trained, job.agenda.spell)


def label(job: Run, seed: int, name: str, part: str) -> str:
    """A bar's name: where the job stands, and what is done there."""
    arm, _, inner = name.partition("/")
    return " ".join(filter(None, [job.agenda.label(key(job, seed, arm)), inner, part]))


@contextlib.contextmanager
def progress(job: Run, seed: int, name: str, part: str, images: int) -> Iterator[Callable[[int], None]]:
    """A bar for a part of the work on a network, which is not saved half-way.

    Takes numbers of images done, raises Interrupted on request.
    """
    with Bar(label(job, seed, name, part), job.agenda.spell) as bar:
        bar.begin(images, 0)

        def advance(rows: int) -> None:
            bar.advance(rows)
            if distributed.all_max(job.stop_requested())[0]:
                what = f"seed {seed} {name} {part}".rstrip()
                raise Interrupted(f"stopped within {what}, which starts again")

        yield advance
