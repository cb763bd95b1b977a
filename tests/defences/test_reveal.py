"""Reveal drops the rows that stand apart, and on clean data next to nothing."""

from types import SimpleNamespace

import numpy as np
import pytest

from poisonjax.attacks import PGD, Linf
from poisonjax.defences import Reveal
from poisonjax.defences.reveal import log_losses, set_apart
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
def test_a_group_of_easy_rows_is_dropped_and_no_other(poisoned):
    dropped = set_apart(of_a_class(poisoned), 3.0)
    assert dropped[:poisoned].mean() > 0.99 and dropped[poisoned:].mean() < 0.01


@pytest.mark.parametrize("seed", range(20))
def test_a_clean_class_loses_nothing(seed):
    assert not set_apart(of_a_class(0, seed=seed), 3.0).any()


def test_a_small_class_and_losses_that_are_not_finite():
    assert not set_apart(np.array([-50.0, 0.0, 0.1]), 3.0).any()
    with pytest.raises(ValueError, match="not all finite"):
        set_apart(np.array([np.nan] * 50), 3.0)


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
    label = np.repeat(np.arange(3), 100).astype(np.int32)
    train = Examples(np.zeros((300, 2, 2, 1), np.uint8), label, np.arange(300, dtype=np.int32))
    scores = {name: of_a_class(0, rows=300, seed=number) for number, name in enumerate(("judge0", "judge1"))}
    scores["judge0"][:30] -= 60
    scores["judge1"][150:170] -= 60
    context = SimpleNamespace(
        train=train,
        classes=3,
        fit=lambda name, objective, examples, **given: name,
        training=Training(),
        map=lambda fn, network, examples: scores[network],
    )
    kept, ease = Reveal((JUDGE, JUDGE)).select(context)
    dropped = [*range(30), *range(150, 170)]
    assert sorted({*range(300)} - {*kept.index.tolist()}) == dropped
    assert ease[dropped].min() > np.delete(ease, dropped).max()


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="at least one objective"):
        Reveal(())
    with pytest.raises(ValueError, match="epochs must be at least 1, got 0"):
        Reveal((JUDGE,), epochs=0)
    with pytest.raises(ValueError, match="above 0, got 0"):
        Reveal((JUDGE,), separation=0)
