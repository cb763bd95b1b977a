"""Training of a run's networks: kept, resumed, shared, and behind their defences."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from poisonjax.defences import Context, Selection, shielded
from poisonjax.evaluation import metrics
from poisonjax.evaluation.detection import detection
from poisonjax.evaluation.metrics import Count
from poisonjax.evaluation.victim import Victim, network_victim, weights
from poisonjax.experiment import Arm
from poisonjax.keys import stream_key
from poisonjax.models.network import Network
from poisonjax.poisons import poisoned
from poisonjax.runs import shared
from poisonjax.runs.job import ATTACKER, PoisonedData, Run, folder, store, target_labels, training_bar, training_data
from poisonjax.runs.judging import predict, subject_of
from poisonjax.runs.shared import CLEAN, POISONED
from poisonjax.runtime import distributed
from poisonjax.runtime.workdir import save_arrays
from poisonjax.training import Fitted, Objective, Training, TrainState, fit
from poisonjax.training.prefetch import HostData
from poisonjax.types import Examples, take

MONITORED = 200  # test images


class Rows(NamedTuple):
    """The training rows as a defence left them, kept as rows.npz beside the network's result.

    index: [n] int32, the rows that it saw. kept: [n] bool, those believed clean. suspicion: [n], or [0] if it has none.
    """

    index: np.ndarray
    kept: np.ndarray
    suspicion: np.ndarray


class Defended(NamedTuple):
    """The trained network of an arm, and the network to judge.

    removed: the training rows that its defence removed. detection: how well its suspicion tells poisoned rows from
    clean ones, empty where it tells none. learnt: makes the rows that the network was trained on.
    """

    fitted: Fitted
    victim: Victim
    removed: dict[str, Count]
    detection: dict[str, float | None]
    learnt: Callable[[], Examples]


def defended(job: Run, seed: int, arm: Arm, poisoning: PoisonedData) -> Defended:
    """One arm, trained and behind its defence."""
    plan, model = job.experiment, job.experiment.model_of(arm)
    settings, examples = plan.training_of(arm), poisoning.train() if arm.poisoned else training_data(job)
    origin = POISONED if arm.poisoned and plan.poisoned else CLEAN
    if arm.defence is None:
        fitted = train(job, seed, arm.name, model, arm.objective, settings, examples, origin)
        return Defended(fitted, network_victim(model, fitted.state), {}, {}, functools.partial(_whole, examples))

    def fit_another(name, objective, rows, *, model=model, training=settings, start=None) -> Victim:
        own = origin if rows is whole and start is None else None
        begin = start and weights(start)
        return network_victim(
            model, train(job, seed, f"{arm.name}/{name}", model, objective, training, rows, own, begin).state
        )

    whole = _whole(examples)
    own_key = stream_key(seed, f"defence {arm.name}")
    context = Context(
        whole, job.dataset.classes, plan.evaluation.batch, own_key, fit_another, model, settings, job.dataset.clean
    )
    selected = arm.defence.select(context)
    kept, suspicion = selected if isinstance(selected, Selection) else (selected, None)
    fitted = train(job, seed, arm.name, model, arm.defence.objective(arm.objective), settings, kept)
    victim = network_victim(model, fitted.state)
    dropped = take(whole, ~np.isin(whole.index, kept.index))
    shield = arm.defence.shield(victim, context._replace(train=kept, dropped=dropped))
    believed = kept.index if shield.keep is None else kept.index[np.asarray(shield.keep)]
    believed = np.isin(whole.index, believed)
    _keep_rows(job, seed, arm, Rows(whole.index, believed, np.asarray([] if suspicion is None else suspicion)))
    changed = (poisoning.rows, poisoning.cover) if arm.poisoned else ((), ())
    poisoned, cover = (np.isin(whole.index, rows) for rows in changed)
    removed = metrics.removals(whole.label, poisoned, cover, believed, job.dataset.classes)
    found = {} if suspicion is None else detection(np.asarray(suspicion), poisoned, ~cover)
    return Defended(fitted, shielded(victim, shield), removed, found, lambda: kept)


def _whole(examples: Examples | HostData) -> Examples:
    """All the rows, in memory."""
    return examples.read(np.arange(len(examples.index))) if isinstance(examples, HostData) else examples


def surrogate(job: Run, seed: int, number: int = 0, crafted: Examples | None = None) -> Victim:
    """The attacker's own network, trained on the clean data, or one of that number on data with crafted rows."""
    plan, attacker = job.experiment, job.experiment.surrogate
    name, origin, rows = ATTACKER, CLEAN, training_data(job)
    if crafted is not None:
        name, origin, apply = f"{ATTACKER}/{number}", None, plan.poison.crafted(crafted)
        rows = training_data(job, lambda examples: poisoned(apply, examples, crafted.index))
    fitted = train(job, seed, name, plan.model, attacker.objective, attacker.train, rows, origin)
    return network_victim(plan.model, fitted.state)


def _keep_rows(job: Run, seed: int, arm: Arm, rows: Rows) -> None:
    place = folder(job, seed, arm.name) / "rows.npz"
    if distributed.is_primary() and not place.exists():
        save_arrays(place, rows)


def train(
    job: Run,
    seed: int,
    name: str,
    model: Network,
    objective: Objective,
    settings: Training,
    examples: Examples | HostData,
    origin: str | None = None,
    start: tuple[Any, Any] | None = None,
) -> Fitted:
    """One network. Arms share the initial network and the order of the data, each surrogate has its own.

    origin: CLEAN if the examples are those of the data set, so that no poison touches the network, nor its curves;
    POISONED if they are all that the attacker leaves; None if a defence chose them. start: weights to go on from. A
    network of another kind than the arms', such as an autoencoder, has no curves but those of its loss.
    """
    first, *number = name.split("/")
    # "proxy" is the word that the first records were made with.
    own = "/".join(["proxy", *number]) + " " if first == ATTACKER else ""
    keys = stream_key(seed, f"{own}network"), stream_key(seed, f"{own}order")
    rows = functools.cache(functools.partial(_whole, examples))
    probe = functools.partial(_probe, job, seed, name, model, objective, rows, origin == CLEAN)
    kept, what = store(job, seed, name), f"seed {seed} {name}"
    place = shared.place(job, seed, origin, model, objective, settings, own)
    with (
        shared.exchange(job, place, what, kept, model, objective, settings),
        training_bar(job, seed, name) as bar,
    ):
        return fit(model, objective, settings, examples, keys, kept, bar, probe, job.save_every, start)


def _probe(
    job: Run,
    seed: int,
    name: str,
    model: Network,
    objective: Objective,
    rows: Callable[[], Examples],
    clean: bool,
    state: TrainState,
) -> dict:
    """Clean accuracy, attack success rate and the numbers of analyses after an epoch; state is on the devices.

    rows: makes those that the network learns from. clean: True if no poison touches it. Nothing for a network of
    another kind than the arms'. After training against a single step also the accuracy under the evaluation's attack,
    on the first MONITORED images.
    """
    plan = job.experiment
    if model not in {plan.model, *map(plan.model_of, plan.arms)}:
        return {}
    victim = network_victim(model, state)
    predictions = predict(job, seed, victim, None)
    counts = metrics.measure(*target_labels(job), predictions, job.dataset.classes)
    names = ("clean_accuracy",) if clean else ("clean_accuracy", "attack_success_rate")
    row = {name: counts[name].value for name in names if counts[name].denominator}
    if objective.single_step:
        few = dataclasses.replace(job.dataset, test=take(job.dataset.test, slice(MONITORED)))
        under_attack = predict(dataclasses.replace(job, dataset=few), seed, victim, job.experiment.evaluation.attack)
        row["robust_accuracy"] = float(np.mean(under_attack.adversarial == few.test.label))
    for analysis in () if clean else job.experiment.analyses:
        row |= analysis.curve(subject_of(job, seed, name, victim, analysis, rows, objective))
    return row
