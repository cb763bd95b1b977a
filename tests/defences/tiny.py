"""A network of two layers on mnist_5k, trained in seconds as arms of an experiment are."""

import dataclasses
import functools
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from experiments import mnist_badnets
from poisonjax.data.subsets import Stratified
from poisonjax.defences import Context
from poisonjax.evaluation.victim import Victim, network_victim
from poisonjax.experiment import Arm, Data
from poisonjax.models.network import Network
from poisonjax.poisons import NoPoison
from poisonjax.runs import runner, training
from poisonjax.runs.job import Run
from poisonjax.training import Adam, Cosine, Training
from poisonjax.types import Examples, to_unit

DATA = Data("mnist_5k", Stratified(2000), Stratified(200))


class TwoLayers(Network):
    """One hidden layer, whose activations are the features."""

    hidden: int = 128
    classes: int = 10

    @nn.compact
    def __call__(self, x, train=False, keys=None):
        features = nn.relu(nn.Dense(self.hidden)(x.reshape(len(x), -1)))
        return nn.Dense(self.classes)(features), features


def job(workdir, data_dir, *arms: Arm) -> Run:
    """A run of arms on 2,000 clean rows and 200 test images."""
    plan = dataclasses.replace(
        mnist_badnets.experiment("smoke"),
        data=DATA,
        model=TwoLayers(),
        poison=NoPoison(),
        train=Training(batch=100, epochs=10, optimizer=Adam(1e-2, Cosine())),
        arms=arms,
        reported=(),
    )
    return Run(plan, dataset(data_dir), workdir, "smoke")


@functools.cache
def dataset(data_dir):
    """2,000 training and 200 test images, read once."""
    return DATA.used(DATA.load(data_dir))


def defended(run: Run, arm: Arm) -> training.Defended:
    """The network of an arm, behind its defence."""
    return training.defended(run, 0, arm, runner.poison_data(run, 0))


def images(run: Run):
    """The test images [b h w c] in [0, 1] and their labels [b]."""
    return to_unit(jnp.asarray(run.dataset.test.image)), jnp.asarray(run.dataset.test.label)


def attacked(attack, logits_fn, x, y):
    """The images after the attack, compiled."""
    return jax.jit(functools.partial(attack, logits_fn))(x, y, jax.random.key(0))


def looked_at(features, labels) -> SimpleNamespace:
    """A context whose judge has the given features [n d] of rows with labels [n]."""
    index = np.arange(len(labels), dtype=np.int32)
    return SimpleNamespace(
        train=Examples(np.zeros((len(labels), 1), np.uint8), np.asarray(labels, np.int32), index),
        fit=lambda name, *given, **settings: name,
        map=lambda fn, network, examples: features,
    )


def poisoned(workdir, data_dir, poison) -> tuple[Context, np.ndarray]:
    """The context of a filter of 2,000 rows, and which of them are poisoned, [n] bool."""
    run = job(workdir, data_dir, Arm("standard"))
    plan = dataclasses.replace(run.experiment, poison=poison)
    run = dataclasses.replace(run, experiment=plan)
    poisoning = runner.poison_data(run, 0)
    train = poisoning.train()

    def fit(name, objective, rows):
        return network_victim(plan.model, training.train(run, 0, name, plan.model, objective, plan.train, rows).state)

    context = Context(train, 10, 500, jax.random.key(0), fit, plan.model, plan.train)
    return context, np.isin(train.index, poisoning.rows)


def repaired(workdir, data_dir, defence, poison, rows: int):
    """An arm with a defence, on so many rows, and (clean accuracy, attack success rate) before and after the repair."""
    arm = Arm("repaired", defence=defence)
    plan = dataclasses.replace(
        mnist_badnets.experiment("smoke"),
        arms=(Arm("standard"), arm),
        reported=(),
        model=TwoLayers(hidden=32),
        poison=poison,
        data=Data("mnist_5k", Stratified(rows), Stratified(100)),
        train=Training(batch=50, epochs=12, optimizer=Adam(4e-3)),
    )
    run = Run(plan, runner.load(plan, data_dir), workdir, "smoke")
    found = defended(run, arm)
    before = found.fitted.history[-1]
    return found, (before["clean_accuracy"], before["attack_success_rate"]), rates(run, found.victim)


def rates(run: Run, victim: Victim) -> tuple[float, float]:
    """The clean accuracy and the attack success rate on the test images."""
    (x, label), poison = images(run), run.experiment.poison
    wanted = np.asarray(poison.target_labels(label))
    clean, triggered = (np.argmax(victim.logits(shown), -1) for shown in (x, poison.apply_trigger(x)))
    return np.mean(clean == label), np.mean((triggered == wanted)[wanted != label])
