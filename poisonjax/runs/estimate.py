"""Estimated time of an experiment on this machine: its gradient evaluations, times a measured one."""

import time

import jax
import jax.numpy as jnp

from poisonjax.attacks import PGD, Linf
from poisonjax.data import sources
from poisonjax.experiment import Experiment
from poisonjax.runtime import compilation
from poisonjax.training import Objective, Training, eval_logits, initial_state

BATCH, STEPS = 64, 4


def training_gradients(settings: Training, objective: Objective, rows: int) -> int:
    """Gradients of one image that a training evaluates: an attack step is one, an update counts as two."""
    attack = 0 if objective.attack is None else objective.attack.cost.gradients
    return settings.total_steps(rows) * settings.batch * (2 * objective.passes + attack)


def image_gradients(experiment: Experiment, train_rows: int, test_rows: int) -> int:
    """Gradients of one image that one seed evaluates.

    Classes are taken to be of equal size, and the networks of all arms to be the experiment's.
    """
    judge, attacker, poison = experiment.evaluation, experiment.surrogate, experiment.poison
    arms = sum(training_gradients(experiment.training_of(arm), arm.objective, train_rows) for arm in experiment.arms)
    judged = len(experiment.arms) * test_rows * judge.attack.cost.gradients
    if judge.autoattack is not None:
        cost = judge.autoattack.cost
        judged += len(experiment.arms) * judge.autoattack_images * (cost.gradients + cost.queries // 2)
    if not poison.needs_surrogate:
        return arms + judged
    rounds = 1 if poison.attack is None else poison.rounds
    crafted = 0 if poison.attack is None else poison.expected_rows(train_rows) * poison.attack.cost.gradients
    trained = training_gradients(attacker.train, attacker.objective, train_rows)
    return arms + judged + rounds * (crafted + trained)


def seconds_per_gradient(experiment: Experiment, shape: tuple[int, ...]) -> float:
    """Measured seconds per gradient: PGD on random images [h w c] against a new network, without compilation."""
    x = jax.random.uniform(jax.random.key(0), (BATCH, *shape))
    y = jnp.zeros(BATCH, jnp.int32)
    state = initial_state(experiment.model, experiment.train.optimizer(1), x[0], jax.random.key(0))
    attack = compilation.jit(lambda key: PGD(Linf(0.1), 0.01, STEPS)(eval_logits(experiment.model, state), x, y, key))
    jax.block_until_ready(attack(jax.random.key(0)))
    start = time.monotonic()
    jax.block_until_ready(attack(jax.random.key(1)))
    return (time.monotonic() - start) / (BATCH * STEPS * jax.device_count())


def seconds_for(experiment: Experiment) -> float:
    """Estimated seconds of one seed of the experiment on its whole data set."""
    source = sources.find(experiment.data.name)
    return image_gradients(experiment, *source.rows) * seconds_per_gradient(experiment, source.shape)


def spell(seconds: float) -> str:
    """A duration in words, as 2.5 hours."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
