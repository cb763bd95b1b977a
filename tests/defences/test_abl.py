"""Anti-backdoor learning isolates a backdoor to one class and unlearns it; one to all classes it neither does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from poisonjax.defences import ABL, LocalAscent
from poisonjax.defences.abl import Unlearning, lowest
from poisonjax.poisons import BadNets, BrightSquare
from poisonjax.training import cross_entropy
from poisonjax.training.objectives import Keys, Learner, Outputs

LOGITS = np.array([[3.0, 1.0, 0.0], [0.0, 2.0, 0.5], [-2.0, 1.0, 1.0], [9.0, 0.0, 0.0]], np.float32)
LABELS = np.array([0, 0, 1, 0])
ROWS, ISOLATED = 600, 12
DEFENCE = ABL(
    isolated=ISOLATED / ROWS, judge=LocalAscent(of_batch=True), judge_epochs=10, epochs=20, learning_rate=4e-3
)


def learnt(objective, logits=LOGITS, labels=LABELS):
    """The rows' losses for a network with these logits."""
    network = Learner(lambda x: x, lambda x, noise: Outputs(jnp.asarray(logits), None, {}))
    return objective(network, jnp.zeros((len(labels), 1)), jnp.asarray(labels), Keys(None, None), 0.0).rows


def entropies():
    return np.log(np.exp(LOGITS).sum(1)) - LOGITS[np.arange(4), LABELS]


@pytest.mark.parametrize("gamma", [0.1, 0.5, 1.0])
def test_local_ascent_is_that_of_the_paper_and_that_of_its_code(gamma):
    losses = entropies()
    np.testing.assert_allclose(learnt(LocalAscent(gamma)), np.sign(losses - gamma) * losses, rtol=1e-4, atol=1e-6)
    of_batch = np.sign(losses.mean() - gamma) * losses
    np.testing.assert_allclose(learnt(LocalAscent(gamma, of_batch=True)), of_batch, rtol=1e-4, atol=1e-6)
    assert (losses < 0.5).any() and (losses > 1.0).any() and losses.mean() > 0.5


@pytest.mark.parametrize("bound", [0.0, 1.0])
def test_unlearning_is_the_margin_and_is_bounded(bound):
    others = [max(np.delete(row, label)) for row, label in zip(LOGITS, LABELS, strict=True)]
    margin = LOGITS[np.arange(4), LABELS] - others
    np.testing.assert_allclose(learnt(Unlearning(bound)), np.maximum(margin, -bound), rtol=1e-6)
    assert margin.min() < -bound < margin.max()


def test_margins_have_a_gradient_where_cross_entropy_has_none():
    """Of a row that is learnt to a loss below any float."""
    sure, label = jnp.array([[60.0, 0.0, 0.0]]), np.array([0])
    ascent = jax.grad(lambda logits: -cross_entropy(logits, label).sum())(sure)
    margin = jax.grad(lambda logits: learnt(Unlearning(), logits, label).sum())(sure)
    assert np.abs(ascent).max() < 1e-12 and margin[0, 0] == 1
    given_up = jax.grad(lambda logits: learnt(Unlearning(), logits, label).sum())(sure * -1)
    assert not given_up.any()


def test_the_lowest_losses_are_isolated():
    losses = np.random.default_rng(0).permutation(200.0 + np.arange(200))
    np.testing.assert_array_equal(np.sort(losses[lowest(losses, 0.05)]), 200 + np.arange(10))
    assert lowest(losses, 1e-6).sum() == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: ABL(isolated=1.0), "isolated is a share and must lie in"),
        (lambda: ABL(judge_epochs=0), "judge_epochs must be at least 1"),
        (lambda: ABL(epochs=0), "^epochs must be at least 1"),
        (lambda: ABL(learning_rate=0.0), "learning_rate must be above 0"),
        (lambda: ABL(bound=-1.0), "bound must not be negative"),
        (lambda: LocalAscent(0.0), "gamma must be above 0"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        change()


def repaired(workdir, data_dir, target):
    """As `tiny.repaired`, of a backdoor to that class."""
    return tiny.repaired(workdir, data_dir, DEFENCE, BadNets(0.1, target, BrightSquare(5)), ROWS)


def test_a_backdoor_to_one_class_is_isolated_and_unlearnt(data_dir, tmp_path):
    found, (accuracy, success), (now, left) = repaired(tmp_path, data_dir, 0)
    assert found.removed["poisoned_rows_removed"].numerator >= ISOLATED * 2 / 3 and found.detection["auroc"] > 0.9
    assert success > 0.9 and left < success / 2
    assert accuracy > 0.8 and now > 0.5


def test_a_backdoor_to_every_class_is_not_isolated_and_accuracy_is_lost(data_dir, tmp_path):
    found, (accuracy, _), (now, _) = repaired(tmp_path, data_dir, None)
    assert found.removed["poisoned_rows_removed"].numerator <= ISOLATED / 4 and found.detection["auroc"] < 0.5
    assert now < accuracy - 0.05
