"""Distillation hides the gradient of the cross-entropy in float32, and nothing else."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poisonjax.attacks import CrossEntropy, Linf, fgsm, scaled
from poisonjax.defences import Distillation
from poisonjax.evaluation.victim import function_victim
from poisonjax.experiment import Arm
from poisonjax.training import Standard, fgsm_at
from poisonjax.types import Examples
from tests.defences import tiny

LOGITS = np.array([[300.0, 100.0, -50.0], [0.0, 20.0, 40.0]], np.float32)
ROWS = Examples(np.zeros((2, 4, 4, 1), np.uint8), np.array([0, 2], np.int32), np.arange(2, dtype=np.int32))


def taught(logits):
    """What the defence learns from, and the trainings that it asked for, with a teacher that gives these logits."""
    asked = []
    context = SimpleNamespace(
        train=ROWS,
        fit=lambda *training: asked.append(training) or function_victim(lambda x: logits),
        map=lambda fn, victim, examples, *settings: np.asarray(fn(victim, examples, *settings)),
    )
    return Distillation(50.0).select(context), asked


def test_labels_are_the_probabilities_of_a_teacher_at_the_temperature():
    examples, asked = taught(LOGITS)
    weight = np.exp(LOGITS.astype(float) / 50)
    np.testing.assert_allclose(examples.label, weight / weight.sum(1, keepdims=True), rtol=1e-5)
    assert asked == [("teacher", Standard(50.0), ROWS)] and examples.image is ROWS.image
    assert Distillation(50.0).objective(Standard()) == Standard(50.0)


def test_what_cannot_be_distilled_is_refused():
    with pytest.raises(ValueError, match="probabilities are not all finite"):
        taught(LOGITS * np.nan)
    with pytest.raises(ValueError, match=r"leave the arm's at Standard\(\), got AdversarialTraining"):
        Distillation().objective(fgsm_at(Linf(0.1)))


@pytest.mark.parametrize("temperature", [0.5, np.inf, np.nan])
def test_impossible_temperatures_are_refused(temperature):
    with pytest.raises(ValueError, match=f"temperature must be at least 1 and finite, got {temperature}"):
        Distillation(temperature)


def test_scaled_logits_keep_their_order_and_have_a_gradient_again():
    def far_apart(x):
        return x * jnp.array([120.0, 0.0, -120.0])

    def slope(logits_fn):
        return jax.grad(lambda x: CrossEntropy()(logits_fn(x), jnp.array([0])).sum())(jnp.ones((1, 3)))

    np.testing.assert_allclose(scaled(far_apart, 100.0)(jnp.ones((1, 3))), [[1.2, 0, -1.2]], rtol=1e-6)
    assert not np.any(slope(far_apart)) and np.abs(slope(scaled(far_apart, 100.0))).max() > 0.1
    with pytest.raises(ValueError, match="temperature must be above 0, got 0"):
        scaled(far_apart, 0)


def test_distillation_stops_fgsm_but_not_on_scaled_logits(data_dir, tmp_path):
    plain, distilled = Arm("plain"), Arm("distilled", defence=Distillation())
    run = tiny.job(tmp_path, data_dir, plain, distilled)
    x, y = tiny.images(run)

    def accuracy(victim, logits_fn=None):
        shown = x if logits_fn is None else tiny.attacked(fgsm(Linf(0.2)), logits_fn, x, y)
        return float((victim.logits(shown).argmax(-1) == y).mean())

    usual, student = (tiny.defended(run, arm).victim for arm in run.experiment.arms)
    assert accuracy(usual) > 0.8 and accuracy(student) > 0.8
    assert accuracy(usual, usual.logits) < 0.1
    assert accuracy(student, student.logits) > 0.6
    assert accuracy(student, scaled(student.logits, 100.0)) < 0.1
