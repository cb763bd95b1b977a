"""Metrics and analyses of one trained network of a run."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from poisonjax.attacks import Attack
from poisonjax.evaluation import attack_run, metrics
from poisonjax.evaluation.analysis import Analysis, Subject
from poisonjax.evaluation.metrics import Count
from poisonjax.evaluation.victim import Victim
from poisonjax.experiment import Arm
from poisonjax.keys import stream_key
from poisonjax.reports.console import say
from poisonjax.runs.job import ATTACKER, Run, changed_rows, folder, progress, target_labels
from poisonjax.runtime import distributed
from poisonjax.runtime.workdir import save_arrays
from poisonjax.training import Objective
from poisonjax.types import Examples, take


class Judgement(NamedTuple):
    """Every metric of a network, what makes them meaningless, and the predictions behind them."""

    counts: dict[str, Count]
    audit: list[str]
    predictions: metrics.Predictions


def judge(job: Run, seed: int, name: str, victim: Victim, history: Sequence[dict] = ()) -> Judgement:
    """The judgement of a network on the devices. history: of its training, if it was on poisoned rows."""
    plan, (labels, targets), classes = job.experiment, target_labels(job), job.dataset.classes
    with progress(job, seed, name, "test", len(labels)) as advance:
        predictions = predict(job, seed, victim, plan.evaluation.attack, advance)
    learnt = history[-1]["train_accuracy"] if history and plan.poison.aim.spoils_accuracy else None
    found = metrics.audit(labels, predictions, classes, learnt)
    for line in found:
        say(f"warning: seed {seed} {name} {line}")
    counts = metrics.measure(labels, targets, predictions, classes)
    if victim.suspicion is not None:
        counts |= metrics.rejections(labels, targets, predictions, classes)
    if plan.evaluation.autoattack is not None and name != ATTACKER:
        counts["autoattack_accuracy"] = _autoattack(job, seed, name, victim)
    return Judgement(counts, found, predictions)


def _autoattack(job: Run, seed: int, name: str, victim: Victim) -> Count:
    """The first test images that are classified as labelled under AutoAttack, of all of them."""
    settings = job.experiment.evaluation
    few, key = take(job.dataset.test, slice(settings.autoattack_images)), stream_key(seed, "evaluation")
    made = attack_run.run(
        victim,
        few,
        settings.autoattack,
        distributed.replicate(key),
        settings.batch,
        progress=lambda stage, images: progress(job, seed, name, f"AutoAttack {stage}", images),
    )
    return metrics.count(made.after == few.label, np.ones(len(few.label), bool), few.label, job.dataset.classes)


def predict(
    job: Run, seed: int, victim: Victim, attack: Attack | None, advance: Callable[[int], None] = lambda rows: None
) -> metrics.Predictions:
    """The predictions of a network on the devices for every test image."""
    plan, key = job.experiment, distributed.replicate(stream_key(seed, "evaluation"))
    return metrics.predict(victim, job.dataset.test, plan.poison, attack, key, plan.evaluation.batch, advance)


def analyse(
    job: Run,
    seed: int,
    arm: Arm,
    victim: Victim,
    analysis: Analysis,
    learnt: Callable[[], Examples],
    history: Sequence[dict],
) -> dict:
    """The numbers of an analysis; its arrays are kept beside the network. learnt: as `Subject.train`."""
    subject = subject_of(job, seed, arm.name, victim, analysis, learnt, arm.objective)._replace(history=history)
    subject.folder.mkdir(parents=True, exist_ok=True)
    arrays = analysis.collect(subject)
    save_arrays(subject.folder / "arrays.npz", arrays)
    measured = analysis.measure(arrays, subject)
    for line in analysis.audit(measured):
        say(f"warning: seed {seed} {arm.name} {line}")
    return measured


def subject_of(
    job: Run,
    seed: int,
    name: str,
    victim: Victim,
    analysis: Analysis,
    train: Callable[[], Examples],
    objective: Objective,
) -> Subject:
    """The network of that name for an analysis. train: as `Subject` has it. objective: by which it learns."""
    plan, key = job.experiment, distributed.replicate(stream_key(seed, "evaluation"))
    return Subject(
        victim,
        job.dataset.test,
        plan.poison,
        plan.evaluation.attack,
        key,
        plan.evaluation.batch,
        seed,
        folder(job, seed, name) / analysis.name,
        lambda part, images: progress(job, seed, name, part, images),
        train,
        functools.partial(_changed, job, seed, name),
        objective.attack,
    )


def _changed(job: Run, seed: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The `index` of the rows that are poisoned, and of cover rows, in the training data of a network."""
    clean = {arm.name for arm in job.experiment.arms if not arm.poisoned}
    if name.partition("/")[0] in clean:
        return np.zeros(0, np.int32), np.zeros(0, np.int32)
    rows = job.dataset.train
    poisoned, cover = changed_rows(job.experiment.poison, rows.label, seed)
    return rows.index[poisoned], rows.index[cover]
