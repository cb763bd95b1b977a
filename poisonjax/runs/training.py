"""Training of a run's networks: kept, resumed, shared, and behind their defences."""

import dataclasses
import functools

import numpy as np

from poisonjax.defences import Context, shielded
from poisonjax.evaluation import metrics
from poisonjax.evaluation.metrics import Count
from poisonjax.evaluation.victim import Victim, network_victim
from poisonjax.experiment import Arm
from poisonjax.keys import stream_key
from poisonjax.models.network import Network
from poisonjax.runs import shared
from poisonjax.runs.job import ATTACKER, PoisonedData, Run, store, target_labels, training_bar, training_data
from poisonjax.runs.judging import predict, subject_of
from poisonjax.training import Fitted, Objective, Training, TrainState, fit
from poisonjax.training.prefetch import HostData
from poisonjax.types import Examples, take

MONITORED = 200  # test images


def defended(job: Run, seed: int, arm: Arm, poisoning: PoisonedData) -> tuple[Fitted, Victim, dict[str, Count]]:
    """The trained network of an arm, the network to judge, and the training rows that its defence removed."""
    plan, model = job.experiment, job.experiment.model_of(arm)
    settings, examples = plan.training_of(arm), poisoning.train() if arm.poisoned else training_data(job)
    if arm.defence is None:
        clean = not (arm.poisoned and plan.poisoned)
        fitted = train(job, seed, arm.name, model, arm.objective, settings, examples, clean)
        return fitted, network_victim(model, fitted.state), {}

    def fit_another(name: str, objective: Objective, rows: Examples) -> Victim:
        state = train(job, seed, f"{arm.name}/{name}", model, objective, settings, rows).state
        return network_victim(model, state)

    whole = examples.read(np.arange(len(examples.index))) if isinstance(examples, HostData) else examples
    context = Context(
        whole, job.dataset.classes, plan.evaluation.batch, stream_key(seed, f"defence {arm.name}"), fit_another
    )
    kept = arm.defence.select(context)
    fitted = train(job, seed, arm.name, model, arm.defence.objective(arm.objective), settings, kept)
    victim = network_victim(model, fitted.state)
    shield = arm.defence.shield(victim, context._replace(train=kept))
    believed = kept.index if shield.keep is None else kept.index[np.asarray(shield.keep)]
    rows = poisoning.rows if arm.poisoned else whole.index[:0]
    removed = metrics.removals(
        whole.label, np.isin(whole.index, rows), np.isin(whole.index, believed), job.dataset.classes
    )
    return fitted, shielded(victim, shield), removed


def train(
    job: Run,
    seed: int,
    name: str,
    model: Network,
    objective: Objective,
    settings: Training,
    examples: Examples | HostData,
    clean: bool = False,
) -> Fitted:
    """One network. Arms share the initial network and the order of the data, the surrogate has its own.

    clean: the examples are those of the data set, so that no poison touches the network, nor its curves.
    """
    own = "proxy " if name == ATTACKER else ""  # the word that the first records were made with
    keys = stream_key(seed, f"{own}network"), stream_key(seed, f"{own}order")
    probe = functools.partial(_probe, job, seed, name, model, objective, clean)
    kept, what = store(job, seed, name), f"seed {seed} {name}"
    known_as = shared.digest(job, seed, model, objective, settings, own) if clean else None
    with (
        shared.exchange(job, known_as, what, kept, model, objective, settings),
        training_bar(job, seed, name) as bar,
    ):
        return fit(model, objective, settings, examples, keys, kept, bar, probe, job.save_every)


def _probe(
    job: Run, seed: int, name: str, model: Network, objective: Objective, clean: bool, state: TrainState
) -> dict:
    """Clean accuracy, attack success rate and the numbers of analyses after an epoch; state is on the devices.

    After training against a single step also the accuracy under the evaluation's attack, on the first MONITORED images.
    """
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
        row |= analysis.curve(subject_of(job, seed, name, victim, analysis))
    return row
