"""Networks that a run has trained, loaded from its workdir."""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

from poisonjax.data import Dataset
from poisonjax.evaluation.victim import Victim, network_victim
from poisonjax.experiment import Arm, Experiment
from poisonjax.overrides import from_json
from poisonjax.reports.console import say
from poisonjax.runs import experiments, runner, training
from poisonjax.runs.fitting import fitted
from poisonjax.runs.job import Run
from poisonjax.runtime import bucket
from poisonjax.runtime.checkpoint import Checkpoints
from poisonjax.runtime.workdir import stored_config
from poisonjax.training import restored


class Trained(NamedTuple):
    """A trained network and what it was trained for. config: what the run's workdir is bound to."""

    config: dict
    experiment: Experiment
    dataset: Dataset
    arm: Arm
    seed: int
    victim: Victim


def load_victim(
    workdir: str | os.PathLike,
    arm: str,
    seed: int = 0,
    experiment: str | None = None,
    data_dir: str | os.PathLike | None = None,
) -> Victim:
    """The network of an arm behind its defence, if it has one; its `logits` is a function images -> logits.

    workdir: folder, or gs://... of a bucket, of the run. experiment: what --experiment named, if the run's types come
    from there and it is not imported yet; no other code of the run is executed. data_dir: folder of the tfds data sets.
    ValueError if there is no such network, or its training has not finished.
    """
    return load_trained(workdir, arm, seed, experiment, data_dir).victim


def load_trained(
    workdir: str | os.PathLike,
    arm: str,
    seed: int = 0,
    experiment: str | None = None,
    data_dir: str | os.PathLike | None = None,
) -> Trained:
    """The network of `load_victim` with its experiment and data. ValueError as there."""
    with bucket.local(workdir) as folder:
        config = _config(folder, workdir)
        there = config.pop("dataset", None)
        plan = _experiment(config, experiment, workdir)
        chosen = arm_of(plan, arm)
        dataset = runner.load(plan, data_dir and os.fspath(data_dir))
        if there is not None and there["sha256"] != dataset.sha256:
            raise ValueError(f"{dataset.name} is no longer what the run was trained on: its sha256 is {dataset.sha256}")
        _check_seed(folder, seed)
        load = _plain if chosen.defence is None else _defended
        with _view(folder, seed) as view:
            plan = fitted(Run(plan, dataset, view, config["scale"]), seed).experiment
        try:
            victim = load(folder, config["scale"], plan, dataset, chosen, seed)
        except ValueError as error:
            raise ValueError(f"arm {arm}, seed {seed}: {error}") from None
    return Trained(config, plan, dataset, chosen, seed, victim)


def load_experiment(workdir: str | os.PathLike, experiment: str | None = None) -> Experiment:
    """The experiment that a workdir belongs to. ValueError if it is none, or has types that are unknown here."""
    with bucket.local(workdir) as folder:
        return _experiment(_config(folder, workdir), experiment, workdir)


def _config(folder: pathlib.Path, workdir: str | os.PathLike) -> dict:
    if not (folder / "config.json").is_file():
        raise ValueError(f"{os.fspath(workdir) or '.'} is not the workdir of a run (no config.json)")
    return stored_config(folder / "config.json")


def _experiment(config: dict, experiment: str | None, workdir: str | os.PathLike) -> Experiment:
    experiments.import_types()
    if experiment is not None:
        experiments.load(experiment)
    try:
        return from_json(
            {name: value for name, value in config.items() if name not in ("scale", "dataset")}, Experiment
        )
    except ValueError as error:
        raise ValueError(f"config.json of {os.fspath(workdir)}: {error}") from None


def arm_of(plan: Experiment, name: str) -> Arm:
    """The arm of a name. ValueError, naming those that there are, for an unknown one."""
    arms = {arm.name: arm for arm in plan.arms}
    if name not in arms:
        raise ValueError(f"unknown arm {name!r}; the run has {', '.join(arms)}")
    return arms[name]


def _check_seed(folder: pathlib.Path, seed: int) -> None:
    seeds = sorted(int(path.name[4:]) for path in folder.glob("seed[0-9]*"))
    if seed not in seeds:
        raise ValueError(f"unknown seed {seed}; the run has {', '.join(map(str, seeds)) or 'none'}")


def _plain(folder: pathlib.Path, scale: str, plan: Experiment, dataset: Dataset, arm: Arm, seed: int) -> Victim:
    """The network of an arm without a defence."""
    store = Checkpoints(folder / f"seed{seed}" / arm.name / "checkpoints", warn=say, primary=False)
    model, rows, image = plan.model_of(arm), len(dataset.train.label), dataset.train.image[0]
    return network_victim(model, restored(model, arm.objective, plan.training_of(arm), rows, image, store))


def _defended(folder: pathlib.Path, scale: str, plan: Experiment, dataset: Dataset, arm: Arm, seed: int) -> Victim:
    """The network of an arm behind its defence, which is built again on the networks that the run has kept."""
    if not (folder / f"seed{seed}" / arm.name / "result.json").is_file():
        raise ValueError("training has not finished; run its command again")
    with _view(folder, seed) as view:
        job = Run(plan, dataset, view, scale)
        return training.defended(job, seed, arm, runner.poison_data(job, seed)).victim


@contextlib.contextmanager
def _view(folder: pathlib.Path, seed: int) -> Iterator[pathlib.Path]:
    """A temporary workdir with the networks of a seed, so that curves are not written to that of the run."""
    with tempfile.TemporaryDirectory(prefix="poisonjax-") as view:
        (pathlib.Path(view) / f"seed{seed}").symlink_to((folder / f"seed{seed}").resolve())
        yield pathlib.Path(view)
