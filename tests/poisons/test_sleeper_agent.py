"""Sleeper Agent: the gradient that it matches, the rows that it takes, and a backdoor that no training row shows."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from poisonjax.attacks import PGD, Linf
from poisonjax.experiment import Arm, Surrogate
from poisonjax.poisons import BrightSquare, GradientAlignment, SleeperAgent
from poisonjax.poisons.sleeper_agent import gradient_norms
from poisonjax.runs import crafting, runner
from poisonjax.training import Standard
from poisonjax.types import Examples, take, to_unit
from tests.defences import tiny

CLASSES, SIDE = 4, 8
RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=(SIDE * SIDE, CLASSES)).astype(np.float32) / 4
ROWS = Examples(
    RNG.integers(0, 256, (60, SIDE, SIDE, 1)).astype(np.uint8),
    np.arange(60, dtype=np.int32) % CLASSES,
    np.arange(60, dtype=np.int32) * 2 + 1,
)
POISON = SleeperAgent(
    rate=0.1,
    target=1,
    source=2,
    trigger=BrightSquare(3),
    attack=PGD(Linf(0.1), steps=10, loss=GradientAlignment()),
    sources_used=9,
    classes=CLASSES,
)


def linear(weights, x):
    return x.reshape(len(x), -1) @ weights, None


OUTPUTS = Partial(linear, jnp.asarray(WEIGHTS))


def gradients(image, labels):
    """The gradient of each row's cross-entropy in WEIGHTS, in plain numpy, [n p k]."""
    flat = np.asarray(image, np.float64).reshape(len(image), -1)
    scores = np.exp(flat @ WEIGHTS)
    errors = scores / scores.sum(1, keepdims=True) - np.eye(CLASSES)[labels]
    return flat[:, :, None] * errors[:, None]


def cosine(image):
    """That of the mean gradient of rows of class 1, and of rows of class 2 that show the trigger, labelled 1."""
    sources = ROWS.image[ROWS.label == 2][:9] / 255
    sources[:, -3:, -3:] = 1
    one, other = (gradients(x, np.ones(len(x), int)).mean(0) for x in (image, sources))
    return (one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other)


def crafted(poison, rows, *before):
    view = poison.view(OUTPUTS, poison.sources(ROWS))
    return poison.perturb(view, rows, jax.random.key(3), *before)


def test_the_view_is_the_cosine_of_both_gradients():
    rows = take(ROWS, ROWS.label == 1)
    view = POISON.view(OUTPUTS, POISON.sources(ROWS))(to_unit(jnp.asarray(rows.image)))
    assert view.shape == (len(rows.label), 1)
    np.testing.assert_allclose(view, cosine(rows.image / 255), rtol=1e-4)


def test_crafting_turns_the_gradient_within_the_ball_and_shows_no_trigger():
    rows = take(ROWS, ROWS.label == 1)
    made = crafted(POISON, rows)
    assert 1 - cosine(np.asarray(made.image) / 255) < 0.6 * (1 - cosine(rows.image / 255))
    change = np.abs(np.asarray(made.image, int) - rows.image)
    assert 0 < change.max() <= 0.1 * 255
    np.testing.assert_array_equal(made.label, rows.label)


def test_a_further_round_goes_on_from_where_the_last_one_ended():
    rows = take(ROWS, ROWS.label == 1)
    once = crafted(POISON, rows)
    short = dataclasses.replace(POISON, attack=dataclasses.replace(POISON.attack, step=2 / 255, steps=1))
    further = np.asarray(crafted(short, rows, once).image, int)
    assert np.abs(further - np.asarray(once.image, int)).max() <= 3
    assert np.abs(further - rows.image).max() <= 0.1 * 255


def test_the_rows_of_the_largest_gradients_are_taken():
    norms = np.linalg.norm(gradients(ROWS.image / 255, ROWS.label).reshape(60, -1), axis=1)
    np.testing.assert_allclose(gradient_norms(OUTPUTS, ROWS), norms, rtol=1e-4)
    fitted = POISON.fitted(ROWS, lambda: OUTPUTS)
    largest = np.argsort(np.where(ROWS.label == 1, -norms, np.inf))[:6]
    assert POISON.needs_rows and not fitted.needs_rows and fitted.chosen == tuple(sorted(largest))
    mask = fitted.select(jnp.asarray(ROWS.label), jax.random.key(0))
    np.testing.assert_array_equal(np.flatnonzero(mask), fitted.chosen)
    assert not dataclasses.replace(POISON, by_norm=False).needs_rows


def test_the_trigger_is_for_the_source_class_alone():
    np.testing.assert_array_equal(POISON.target_labels(jnp.arange(4)), [0, 1, 1, 3])
    every = dataclasses.replace(POISON, source=None)
    np.testing.assert_array_equal(every.target_labels(jnp.arange(4)), 1)
    assert (POISON.sources(ROWS).label == 2).all() and set(every.sources(ROWS).label) == {0, 2, 3}


@pytest.fixture(scope="module")
def job(data_dir, tmp_path_factory):
    """Nines with a square become fours, by half of the fours; a surrogate before and after."""
    attack = PGD(Linf(0.3), steps=20, loss=GradientAlignment())
    poison = SleeperAgent(0.05, 4, 9, BrightSquare(6), attack, rounds=2)
    arms = Arm("standard"), Arm("standard_clean_data", poisoned=False)
    asked = tiny.job(tmp_path_factory.mktemp("sleeper"), data_dir, *arms)
    attacker = Surrogate(Standard(), asked.experiment.train)
    plan = dataclasses.replace(asked.experiment, poison=poison, surrogate=attacker)
    return dataclasses.replace(asked, experiment=plan)


@pytest.fixture(scope="module")
def record(job):
    return runner.run(job)


def test_a_network_learns_a_trigger_that_it_was_never_shown(job, record):
    success = {arm: record["arms"][arm]["attack_success_rate"]["mean"] for arm in record["arms"]}
    assert success["standard"] > success["standard_clean_data"] + 0.5
    clean = {arm: record["arms"][arm]["clean_accuracy"]["mean"] for arm in record["arms"]}
    assert clean["standard"] > clean["standard_clean_data"] - 0.1
    assert record["poison"][0]["rows"] == 100


def test_rounds_are_kept_and_have_networks_of_their_own(job, record, monkeypatch):
    folder = job.workdir / "seed0"
    assert (folder / "surrogate" / "1" / "checkpoints").is_dir() and not (folder / "surrogate" / "2").exists()
    rows = take(job.dataset.train, slice(100))
    monkeypatch.setattr(crafting, "_round", None)
    made, facts = crafting.craft(job, 0, rows)
    assert len(made.label) == 100 and facts["clean_accuracy"] > 0.8
