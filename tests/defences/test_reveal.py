"""Reveal drops the rows that stand apart, and on clean data next to nothing."""

from types import SimpleNamespace

import numpy as np
import pytest

from poisonjax.attacks import PGD, Linf
from poisonjax.defences import Reveal
from poisonjax.defences.reveal import Split, log_losses, split_of
from poisonjax.evaluation.victim import function_victim
from poisonjax.training import AdversarialTraining, Training
from poisonjax.types import Examples

JUDGE = AdversarialTraining(PGD(Linf(0.3)))


def of_a_class(poisoned, apart=8.0, rows=400, seed=0):
    """Log losses of clean rows, skewed as those of networks are, and of poisoned ones so many deviations below."""
    rng = np.random.default_rng(seed)
    clean = np.log(rng.gamma(1.5, 0.2, rows - poisoned))
    return np.concatenate([rng.normal(clean.mean() - apart, 1.0, poisoned), clean])


@pytest.mark.parametrize("poisoned", [20, 130, 200])
def test_a_class_is_split_into_its_easy_group_and_the_rest(poisoned):
    split = split_of(of_a_class(poisoned), 3.0)
    easy = split.easy > 0
    assert easy[:poisoned].mean() > 0.99 and easy[poisoned:].mean() < 0.01 and split.distance > 3


def test_easy_rows_that_spread_far_are_a_group():
    rng = np.random.default_rng(0)
    losses = np.concatenate([rng.normal(-1.9, 1.2, 200), rng.normal(0.5, 0.25, 800)])  # as on CIFAR-10
    split = split_of(losses, 3.0)
    assert split.distance > 4 and np.mean((split.easy > 0)[:200]) > 0.8 > 0.02 > np.mean((split.easy > 0)[200:])


@pytest.mark.parametrize("seed", range(20))
def test_losses_that_end_at_those_of_a_guess_are_no_groups(seed):
    rng = np.random.default_rng(seed)
    assert split_of(np.minimum(rng.normal(0.4, 0.5, 800), 0.8 + rng.normal(0, 0.05, 800)), 3.0) is None


@pytest.mark.parametrize("seed", range(20))
def test_a_clean_class_is_not_split(seed):
    assert split_of(of_a_class(0, seed=seed), 3.0) is None


def test_a_small_class_and_losses_that_are_not_finite():
    assert split_of(np.array([-50.0, 0.0, 0.1]), 3.0) is None
    with pytest.raises(ValueError, match="not all finite"):
        split_of(np.array([np.nan] * 50), 3.0)


EASY, HARD, NEITHER = np.arange(20) < 8, np.arange(20) >= 8, np.zeros(20, bool)


@pytest.mark.parametrize(
    ("foreign", "distance", "dropped"),
    [(EASY, 3.5, EASY), (HARD, 3.5, HARD), (NEITHER, 3.5, NEITHER), (NEITHER, 5.5, EASY), (~NEITHER, 3.5, EASY)],
    ids=["easy and foreign", "hard and foreign", "near and at home", "far and at home", "both foreign"],
)
def test_the_group_of_another_class_is_dropped_and_an_easy_one_that_is_far_off(foreign, distance, dropped):
    split = Split(np.where(EASY, 9.0, -9.0), distance)
    np.testing.assert_array_equal(Reveal((JUDGE,)).odds(split, foreign) > 0, dropped)


def test_log_losses_are_those_of_cross_entropy_and_never_minus_infinity():
    logits = np.array([[3.0, 1.0, 0.0], [0.0, 400.0, 0.0], [-2.0, 5.0, 5.0]], np.float32)
    examples = Examples(np.zeros((3, 1, 1, 1), np.float32), np.array([0, 1, 0]), np.arange(3))
    found = np.asarray(log_losses(function_victim(lambda x: logits), examples))
    exact = [
        np.log(np.log(np.exp(logits[0]).sum()) - 3.0),
        -400 + np.log(2),
        np.log(np.log(np.exp(logits[2]).sum()) + 2),
    ]
    np.testing.assert_allclose(found, exact, rtol=1e-4)


def test_rows_of_any_judge_are_dropped_and_nothing_else_changes():
    """Easy rows of class 0 by one judge, hard rows of class 1 by the other; neither is of the class that it is said."""
    label = np.repeat(np.arange(3), 100).astype(np.int32)
    train = Examples(np.zeros((300, 2, 2, 1), np.uint8), label, np.arange(300, dtype=np.int32))
    looks = {name: of_a_class(0, rows=300, seed=number) for number, name in enumerate(("judge0", "judge1"))}
    looks["judge0"][:30] -= 60
    looks["judge1"][150:170] += 60
    foreign = np.isin(np.arange(300), [*range(30), *range(150, 170)])
    looks |= {f"without{of}": np.where((label == of) & ~foreign, 0.5, 0.9) for of in range(3)}
    seen = []

    def fit(name, objective, examples, **given):
        seen.append((name, sorted({*examples.label.tolist()})))
        return name

    given = {"map": lambda fn, network, examples: looks[network], "fit": fit, "training": Training()}
    kept, suspicion = Reveal((JUDGE, JUDGE)).select(SimpleNamespace(train=train, classes=3, **given))
    dropped = [*range(30), *range(150, 170)]
    assert sorted({*range(300)} - {*kept.index.tolist()}) == dropped
    assert suspicion[dropped].min() > 0 > np.delete(suspicion, dropped).max()
    assert seen == [("judge0", [0, 1, 2]), ("judge1", [0, 1, 2]), ("without0", [1, 2]), ("without1", [0, 2])]


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="at least one objective"):
        Reveal(())
    with pytest.raises(ValueError, match="epochs must be at least 1, got 0"):
        Reveal((JUDGE,), epochs=0)
    with pytest.raises(ValueError, match="above 0, got 0"):
        Reveal((JUDGE,), separation=0)
    with pytest.raises(ValueError, match=r"alone must be at least separation, 3\.0, got 2"):
        Reveal((JUDGE,), alone=2)
