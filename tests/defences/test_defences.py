"""Defences: the hooks do what they say, from a file to the record, and rejection is counted on its own."""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from experiments import mnist_badnets
from poisonjax.attacks import PGD, Linf
from poisonjax.data.subsets import Stratified
from poisonjax.defences import Context, Defence, Distillation, Shield, shielded
from poisonjax.evaluation import metrics
from poisonjax.evaluation.victim import REJECTED, function_victim, network_victim, weights
from poisonjax.experiment import Arm
from poisonjax.models.network import Network
from poisonjax.overrides import override
from poisonjax.runs import runner
from poisonjax.runs.job import Run
from poisonjax.runtime import distributed
from poisonjax.training import Adam, Losses, Objective, Standard
from poisonjax.types import Examples, take

CORNER = np.s_[:, -6:, -6:]  # where the trigger of these tests is


@dataclasses.dataclass(frozen=True)
class BrightCorner(Defence):
    """Remove rows whose corner is white."""

    def select(self, context: Context) -> Examples:
        return take(context.train, context.train.image[CORNER].min((1, 2, 3)) < 255)


@dataclasses.dataclass(frozen=True)
class BlackCorner(Defence):
    """Blacken the corner of every image, and reject an image whose corner is bright."""

    threshold: float = 0.9

    def shield(self, victim, context) -> Shield:
        return Shield(
            logits=Partial(lambda victim, x: victim.logits(x.at[CORNER].set(0.0)), victim),
            suspicion=lambda x: x[CORNER].mean((1, 2, 3)),
            threshold=self.threshold,
        )


@dataclasses.dataclass(frozen=True)
class Suspects(Defence):
    """Say which rows are poisoned only after training, and leave the network as it is."""

    def shield(self, victim, context) -> Shield:
        return Shield(keep=context.train.image[CORNER].min((1, 2, 3)) < 255)


class Autoencoder(Network):
    """A network that is no classifier: its "logits" are pixels."""

    classes: int = 28 * 28

    @nn.compact
    def __call__(self, x, train=False, keys=None):
        code = nn.relu(nn.Dense(4)(x.reshape(len(x), -1)))
        return nn.Dense(self.classes)(code), code


@dataclasses.dataclass(frozen=True)
class Reconstruction(Objective):
    """The squared error of an autoencoder."""

    def __call__(self, network, x, y, keys, progress) -> Losses:
        out = network.apply(x, keys.noise)
        return Losses(jnp.mean((out.logits - x.reshape(len(x), -1)) ** 2, -1), out.logits, out.batch_stats)


@dataclasses.dataclass(frozen=True)
class Repaired(Defence):
    """Go on from the trained network on clean rows, and train an autoencoder on them."""

    learning_rate: float = 0.01
    needs_clean: ClassVar[bool] = True

    def shield(self, victim, context) -> Shield:
        short = dataclasses.replace(context.training, epochs=1, optimizer=Adam(self.learning_rate))
        pixels = context.fit("pixels", Reconstruction(), context.clean, model=Autoencoder(), training=short)
        repaired = context.fit("repaired", Standard(), context.clean, training=short, start=victim)
        suspicion = Partial(lambda net, x: jnp.mean((net.logits(x) - x.reshape(len(x), -1)) ** 2, -1), pixels)
        return Shield(logits=Partial(lambda net, x: net.logits(x), repaired), suspicion=suspicion, threshold=np.inf)


ARMS = (
    Arm("standard"),
    Arm("standard_clean_data", poisoned=False),
    Arm("filter", defence=BrightCorner()),
    Arm("reformer", defence=BlackCorner()),
    Arm("distilled", defence=Distillation(temperature=10.0)),
    Arm("suspects", defence=Suspects()),
    Arm("untouched", defence=Repaired(learning_rate=1e-12)),
    Arm("filter_clean_data", poisoned=False, defence=BrightCorner()),
)


def job(workdir, data_dir, *assignments, **settings) -> Run:
    plan = mnist_badnets.experiment("smoke")
    plan = dataclasses.replace(plan, arms=ARMS, reported=(), data=dataclasses.replace(plan.data, clean=Stratified(50)))
    loud = ("poison.target=0", "poison.rate=.3", "poison.trigger=BrightSquare(6)", "train.epochs=25")
    for assignment in (*loud, *assignments):
        plan = override(plan, assignment)
    return Run(plan, runner.load(plan, data_dir), workdir, "smoke", **settings)


@pytest.fixture(scope="module")
def record(data_dir, tmp_path_factory):
    return runner.run(job(tmp_path_factory.mktemp("defences"), data_dir))


def rate(record, arm, metric):
    return record["arms"][arm][metric]["mean"]


def test_nothing_but_kept_rows_reaches_training(record):
    removed, clean = (record["arms"]["filter"][f"{kind}_rows_removed"] for kind in ("poisoned", "clean"))
    assert removed["numerator"] == removed["denominator"] == [record["poison"][0]["rows"]] and clean["mean"] == 0
    assert rate(record, "standard", "attack_success_rate") > 0.9 > 0.3 > rate(record, "filter", "attack_success_rate")


def test_reformer_and_detector_are_judged(record):
    arms = record["arms"]["reformer"]
    assert rate(record, "reformer", "triggered_rejection_rate") == 1 and arms["clean_rejection_rate"]["mean"] == 0
    assert arms["triggered_rejection_rate"]["denominator"] == arms["attack_success_rate"]["denominator"]
    assert arms["attack_success_rate"]["mean"] == arms["triggered_accuracy"]["mean"] == 0  # all of them are rejected


def test_networks_that_reject_nothing_have_no_rejection_rate(record):
    assert "clean_rejection_rate" not in record["arms"]["filter"]
    assert "poisoned_rows_removed" not in record["arms"]["standard"]


def test_soft_labels_are_learnt(record):
    assert rate(record, "distilled", "clean_accuracy") > 0.4
    assert rate(record, "distilled", "poisoned_rows_removed") == 0


def test_rows_suspected_after_training_are_counted(record):
    assert (
        rate(record, "suspects", "poisoned_rows_removed") == 1 and rate(record, "suspects", "clean_rows_removed") == 0
    )
    assert rate(record, "suspects", "attack_success_rate") == rate(record, "standard", "attack_success_rate")


def test_a_defence_goes_on_from_the_trained_network_on_clean_rows(record):
    """A learning rate of next to nothing leaves the network as it is, which a new one would not be."""
    for metric in ("clean_accuracy", "attack_success_rate"):
        assert rate(record, "untouched", metric) == rate(record, "standard", metric) > 0.4
    assert record["dataset"]["clean"] == 50
    assert all(len(arm["history"]) for arm in record["arms"].values() if "history" in arm)


def test_clean_rows_are_of_the_training_split_and_not_trained_on(data_dir, tmp_path):
    used = job(tmp_path, data_dir).dataset
    assert len(used.clean.label) == 50 and not np.isin(used.clean.index, used.train.index).any()
    np.testing.assert_array_equal(np.bincount(used.clean.label), np.full(10, 5))
    assert runner.load(mnist_badnets.experiment("smoke"), data_dir).clean is None


def test_a_defence_that_needs_clean_rows_is_refused_without_them(data_dir, tmp_path):
    with pytest.raises(ValueError, match=r"arms\.untouched\.defence: Repaired needs clean data; set data\.clean"):
        job(tmp_path, data_dir, "data.clean=none")


def test_only_networks_have_weights_to_go_on_from():
    with pytest.raises(ValueError, match="only a network that was trained here"):
        weights(function_victim(brightness))


def test_defended_arms_are_told_from_controls(data_dir, tmp_path):
    plan = job(tmp_path, data_dir).experiment
    assert plan.defended() == ["filter", "reformer", "distilled", "suspects", "untouched"]
    assert plan.control() == "filter_clean_data" and plan.standard_control() == "standard_clean_data"


def test_defence_settings_are_set_and_recorded(data_dir, tmp_path):
    plan = job(tmp_path, data_dir, "arms.reformer.defence.threshold=.5").experiment
    assert plan.arms[3].defence == BlackCorner(0.5)


def brightness(x):
    """Logits of two classes: dark and bright."""
    mean = x.mean((1, 2, 3))
    return jnp.stack([1 - mean, mean], -1)


X = np.linspace(0, 1, 8, dtype=np.float32)[:, None, None, None] * np.ones((1, 8, 8, 1), np.float32)


def predictions(victim):
    examples = Examples(X, np.zeros(8, np.int32), np.arange(8, dtype=np.int32))
    poison, key = mnist_badnets.experiment("smoke").poison, jax.random.key(0)
    attack = PGD(Linf(0.01), 0.01, 1)
    arguments = distributed.replicate(victim), examples, poison, attack, distributed.replicate(key)
    return metrics.predict(*arguments, batch=3)


@pytest.mark.parametrize("wrap", [lambda f: f, Partial], ids=["closure", "Partial"])
def test_shield_parts_replace_those_of_the_network(wrap):
    victim = function_victim(brightness)
    flipped = shielded(victim, Shield(logits=wrap(lambda x: -brightness(x))))
    np.testing.assert_array_equal(predictions(flipped).clean, 1 - predictions(victim).clean)
    doubtful = shielded(victim, Shield(suspicion=wrap(lambda x: x.mean((1, 2, 3))), threshold=0.5))
    np.testing.assert_array_equal(predictions(doubtful).clean, [0, 0, 0, 0, *[REJECTED] * 4])
    np.testing.assert_array_equal(doubtful.logits(X), victim.logits(X))


def test_empty_shield_changes_nothing():
    victim = function_victim(brightness)
    assert shielded(victim, Shield()) == victim


def test_features_belong_to_the_defended_network():
    plan = mnist_badnets.experiment("smoke")
    from poisonjax.training import initial_state

    state = initial_state(plan.model, Adam()(1), np.zeros((28, 28, 1), np.uint8), jax.random.key(0))
    victim, x = network_victim(plan.model, state), np.zeros((2, 28, 28, 1), np.float32)
    seen = shielded(victim, Shield(features=lambda x: x.reshape(len(x), -1)))
    assert seen.features(x).shape == (2, 784) and seen.logits(x).shape == (2, 10)
    with pytest.raises(ValueError, match="no features"):
        shielded(victim, Shield(logits=lambda x: victim.logits(x))).features(x)


def test_rejected_images_are_counted_on_their_own():
    labels, targets = np.array([0, 0, 1, 1]), np.array([1, 1, 1, 1])
    none = np.full(4, REJECTED)
    said = metrics.Predictions(np.array([0, REJECTED, 1, REJECTED]), np.array([1, REJECTED, 1, 1]), none, none == none)
    counts = metrics.measure(labels, targets, said, 2) | metrics.rejections(labels, targets, said, 2)
    shares = {name: (count.numerator, count.denominator) for name, count in counts.items()}
    assert shares["clean_accuracy"] == (2, 4) and shares["attack_success_rate"] == (1, 2)
    assert shares["clean_rejection_rate"] == (2, 4) and shares["triggered_rejection_rate"] == (1, 2)
    assert shares["robust_accuracy"] == (0, 4) and shares["adversarial_rejection_rate"] == (4, 4)


def test_any_training_but_the_standard_one_defends():
    assert not Arm("a").defends and not Arm("a", Standard(), poisoned=False).defends
    assert Arm("a", Standard(temperature=20.0)).defends and Arm("a", defence=Suspects()).defends


def test_control_of_the_gate_is_trained_as_the_standard_arm_is(data_dir, tmp_path):
    plan = job(tmp_path, data_dir).experiment
    hot = Arm("hot_clean_data", Standard(temperature=20.0), poisoned=False)
    assert dataclasses.replace(plan, arms=(ARMS[0], hot)).standard_control() is None
    assert dataclasses.replace(plan, arms=(ARMS[0], hot, ARMS[1])).standard_control() == "standard_clean_data"
