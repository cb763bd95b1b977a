"""Every attack stays in its ball and in [0, 1], raises the loss, and PGD is what the formula and others say it is."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poisonjax.attacks import L2, PGD, CrossEntropy, Linf, Margin, bim, fgsm
from poisonjax.attacks.balls import L0, L1
from poisonjax.attacks.gradient import mi_fgsm
from poisonjax.types import Cost
from tests.attacks.references import assert_same_images, from_torch, robust_accuracy, to_torch, torch_module
from tests.attacks.references import victim as trained
from tests.attacks.test_balls import length

ATTACKS = {
    "fgsm_linf": fgsm(Linf(0.2)),
    "fgsm_l2": fgsm(L2(1.5)),
    "bim_linf": bim(Linf(0.2), step=0.05, steps=7),
    "bim_l2": bim(L2(1.5), step=0.4, steps=7),
    "pgd_linf": PGD(Linf(0.2), step=0.05, steps=7),
    "pgd_l2": PGD(L2(1.5), step=0.4, steps=7),
    "pgd_linf_margin": PGD(Linf(0.2), step=0.05, steps=7, loss=Margin()),
    "pgd_l2_margin": PGD(L2(1.5), step=0.4, steps=7, loss=Margin()),
    "pgd_l1": PGD(L1(3.0, share=0.1), step=0.6, steps=7),
    "pgd_l0": PGD(L0(4), step=8.0, steps=7),
    "mi_fgsm_linf": mi_fgsm(Linf(0.2), steps=7),
    "mi_fgsm_l2": mi_fgsm(L2(1.5), steps=7),
    "pgd_linf_restarts": PGD(Linf(0.2), step=0.05, steps=5, restarts=3),
    "bim_l2_restarts": PGD(L2(1.5), step=0.4, steps=5, random_start=False, restarts=3, momentum=0.5),
    "pgd_linf_best": PGD(Linf(0.2), step=0.1, steps=5, keep_best=True),
}
SHAPE = (6, 5, 1)


@pytest.fixture(scope="module")
def victim():
    """A two-layer network of fixed random weights, as plain arrays, so that numpy can follow it."""
    rng = np.random.default_rng(0)
    return [rng.normal(size=size).astype(np.float32) * 0.5 for size in ((30, 12), (12,), (12, 4), (4,))]


def logits_of(weights):
    first, bias, second, offset = weights
    return lambda x: jnp.tanh(x.reshape(len(x), -1) @ first + bias) @ second + offset


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(1)
    return rng.random((9, *SHAPE), np.float32), rng.integers(0, 4, 9)


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_stays_in_its_ball_and_raises_the_loss(name, victim, images):
    attack, (x, y), logits_fn = ATTACKS[name], images, logits_of(victim)
    x_adv = jax.jit(lambda key: attack(logits_fn, x, y, key))(jax.random.key(0))
    chex.assert_shape(x_adv, x.shape)
    chex.assert_type(x_adv, jnp.float32)
    assert np.all(length(attack.ball, x_adv - x) <= attack.ball.eps * (1 + 1e-5))
    assert np.asarray(x_adv).min() >= 0 and np.asarray(x_adv).max() <= 1
    before, after = (CrossEntropy()(logits_fn(images), y) for images in (x, x_adv))
    assert np.all(after > before + 0.1)


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_of_size_zero_changes_nothing(name, victim, images):
    attack, (x, y) = ATTACKS[name], images
    np.testing.assert_array_equal(attack(logits_of(victim), x, y, jax.random.key(0), 0.0), x)


@pytest.mark.parametrize("name", ATTACKS)
def test_a_row_does_not_depend_on_its_neighbours(name, victim, images):
    attack, (x, y), keys = ATTACKS[name], images, jax.random.split(jax.random.key(3), 9)
    whole = attack(logits_of(victim), x, y, keys)
    part = attack(logits_of(victim), x[4:6], y[4:6], keys[4:6])
    np.testing.assert_allclose(whole[4:6], part, atol=1e-5)


LOUD = PGD(Linf(0.2), step=0.15, steps=6, random_start=False)  # steps so long that the loss also falls


def test_a_targeted_attack_lowers_the_loss(victim, images):
    (x, y), logits_fn = images, logits_of(victim)
    x_adv = PGD(Linf(0.2), step=0.05, steps=7, targeted=True)(logits_fn, x, y, jax.random.key(0))
    assert np.all(CrossEntropy()(logits_fn(x_adv), y) < CrossEntropy()(logits_fn(x), y) - 0.1)


@pytest.mark.parametrize("random_start", [True, False])
@pytest.mark.parametrize("targeted", [True, False])
def test_a_row_keeps_its_best_restart(random_start, targeted, victim, images):
    (x, y), logits_fn, sign = images, logits_of(victim), -1 if targeted else 1
    once = dataclasses.replace(LOUD, random_start=random_start, targeted=targeted)
    attacks = [dataclasses.replace(once, restarts=restarts) for restarts in (1, 2, 5)]
    found = [attack(logits_fn, x, y, jax.random.key(0)) for attack in attacks]
    first, second, fifth = (sign * CrossEntropy()(logits_fn(x_adv), y) for x_adv in found)
    assert np.all(fifth >= second) and np.all(second >= first) and np.any(fifth > second) and np.any(second > first)
    same = np.asarray(second) == np.asarray(first)  # the first run is that of the attack without restarts
    assert same.any()
    np.testing.assert_allclose(found[1][same], found[0][same], atol=1e-6)


def test_keep_best_returns_the_iterate_of_the_highest_loss(victim, images):
    (x, y), logits_fn = images, logits_of(victim)
    iterates = [x] + [dataclasses.replace(LOUD, steps=n)(logits_fn, x, y, jax.random.key(0)) for n in range(1, 7)]
    losses = np.stack([CrossEntropy()(logits_fn(iterate), y) for iterate in iterates])
    best = dataclasses.replace(LOUD, keep_best=True)(logits_fn, x, y, jax.random.key(0))
    assert np.any(losses.argmax(0) < 6) and np.any(losses.argmax(0) == 6)
    np.testing.assert_allclose(best, np.stack(iterates)[losses.argmax(0), np.arange(9)], atol=1e-5)


@pytest.mark.parametrize(
    ("attack", "gradients"),
    [
        (PGD(Linf(0.2), 0.05, 5), 5),
        (mi_fgsm(Linf(0.2), steps=5), 5),
        (PGD(Linf(0.2), 0.05, 5, keep_best=True), 6),
        (PGD(Linf(0.2), 0.05, 5, restarts=3), 18),
    ],
)
def test_cost_is_what_it_spends(attack, gradients, victim, images):
    calls, plain = [], logits_of(victim)

    def logits_fn(x):
        jax.debug.callback(lambda: calls.append(1))
        return plain(x)

    attack(logits_fn, *images, jax.random.key(0)).block_until_ready()
    jax.effects_barrier()
    assert len(calls) == gradients and attack.cost == Cost(gradients=gradients)


def numpy_pgd(weights, x, y, eps, step, steps, norm, momentum=0.0):
    """PGD written out in numpy, in double precision: gradient by hand, projection by hand."""
    first, bias, second, offset = (weight.astype(np.float64) for weight in weights)
    x = x.reshape(len(x), -1).astype(np.float64)
    x_adv, velocity = x.copy(), np.zeros_like(x)
    for _ in range(steps):
        hidden = np.tanh(x_adv @ first + bias)
        scores = np.exp(hidden @ second + offset)
        slope = scores / scores.sum(1, keepdims=True) - np.eye(4)[y]
        gradient = (slope @ second.T * (1 - hidden**2)) @ first.T
        velocity = momentum * velocity + gradient / np.abs(gradient).sum(1, keepdims=True)
        if norm == "linf":
            x_adv = np.clip(x_adv + step * np.sign(velocity), x - eps, x + eps)
        else:
            x_adv = x_adv + step * velocity / np.linalg.norm(velocity, axis=1, keepdims=True)
            size = np.linalg.norm(x_adv - x, axis=1, keepdims=True)
            x_adv = x + (x_adv - x) * np.minimum(1, eps / size)
        x_adv = np.clip(x_adv, 0, 1)
    return x_adv


@pytest.mark.parametrize(("norm", "ball", "step"), [("linf", Linf(0.2), 0.03), ("l2", L2(1.5), 0.4)])
def test_pgd_equals_numpy(norm, ball, step, victim, images):
    x, y = images
    ours = bim(ball, step, steps=10)(logits_of(victim), x, y, jax.random.key(0))
    theirs = numpy_pgd(victim, x, y, ball.eps, step, 10, norm)
    np.testing.assert_allclose(np.asarray(ours).reshape(len(x), -1), theirs, atol=2e-5)


@pytest.mark.parametrize(("norm", "ball"), [("linf", Linf(0.2)), ("l2", L2(1.5))])
def test_momentum_equals_numpy(norm, ball, victim, images):
    x, y = images
    ours, plain = (mi_fgsm(ball, 10, decay)(logits_of(victim), x, y, jax.random.key(0)) for decay in (0.9, 0.0))
    theirs = numpy_pgd(victim, x, y, ball.eps, ball.eps / 10, 10, norm, momentum=0.9)
    np.testing.assert_allclose(np.asarray(ours).reshape(len(x), -1), theirs, atol=2e-5)
    assert np.abs(ours - plain).max() > 0.01


def test_momentum_carries_over_flat_loss():
    """A slope at the start only: with momentum the image keeps moving, and a gradient of zero gives no NaN."""
    x, y = jnp.full((1, 1, 1, 1), 0.5), jnp.zeros(1, int)
    logits_fn = lambda x: jnp.stack([jnp.minimum(x.ravel(), 0.52), jnp.zeros(1)], -1)  # noqa: E731
    towards = PGD(Linf(0.4), step=0.1, steps=4, random_start=False, targeted=True)
    moved = [dataclasses.replace(towards, momentum=decay)(logits_fn, x, y, jax.random.key(0)) for decay in (0.0, 1.0)]
    np.testing.assert_allclose(np.ravel(moved), [0.6, 0.9], rtol=1e-6)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PGD(Linf(0.1), step=0.0, steps=1), "step must be above 0"),
        (lambda: PGD(Linf(0.1), step=0.1, steps=0), "steps must be at least 1"),
        (lambda: PGD(Linf(0.1), step=0.1, steps=1, restarts=0), "restarts must be at least 1, got 0"),
        (lambda: PGD(Linf(0.1), step=0.1, steps=1, momentum=-1.0), "momentum must not be negative, got -1"),
    ],
)
def test_impossible_settings_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_max_distance_accounts_for_the_start():
    assert bim(Linf(0.3), step=0.01, steps=5).max_distance == pytest.approx(0.05)
    assert PGD(Linf(0.3), step=0.01, steps=5).max_distance == 0.3
    assert PGD(Linf(0.3), step=0.01, steps=5, random_start=False, restarts=2).max_distance == 0.3
    assert bim(L0(7), step=0.01, steps=5).max_distance == 7  # any move can change every pixel


def foolbox_images(net, attack, eps, target=None):
    """What an attack of foolbox makes of a trained network's images."""
    foolbox = pytest.importorskip("foolbox", reason="compares with foolbox: pip install -r requirements-dev.txt")
    import torch

    model = foolbox.PyTorchModel(torch_module(net.params), bounds=(0, 1))
    labels = torch.tensor(np.array(net.y if target is None else target), dtype=torch.long)
    criterion = foolbox.criteria.Misclassification if target is None else foolbox.criteria.TargetedMisclassification
    build = getattr(foolbox.attacks, attack[0])(**attack[1])
    return from_torch(build(model, to_torch(net.x), criterion(labels), epsilons=eps)[1])


STEPS = {"abs_stepsize": 0.02, "steps": 10, "random_start": False}
LONG = STEPS | {"abs_stepsize": 0.3}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (bim(Linf(0.1), 0.02, 10), ("LinfPGD", STEPS)),
        (bim(L2(1.5), 0.3, 10), ("L2PGD", LONG)),
        (bim(Linf(0.1), 0.02, 10), ("LinfBasicIterativeAttack", STEPS)),
        (bim(L2(1.5), 0.3, 10), ("L2BasicIterativeAttack", LONG)),
        (fgsm(Linf(0.1)), ("LinfFastGradientAttack", {})),
        (fgsm(L2(1.5)), ("L2FastGradientAttack", {})),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_foolbox_gives_the_same_images(ours, theirs):
    net = trained(adversarial=True)  # which is less sure: where the other one is, gradients are rounding errors
    images = foolbox_images(net, theirs, ours.ball.eps)
    assert_same_images(ours(net.logits_fn, net.x, net.y, jax.random.key(0)), images)


def test_foolbox_gives_the_same_targeted_images():
    net = trained(adversarial=True)
    target = (net.y + 1) % 10
    images = foolbox_images(net, ("L2PGD", LONG), 1.5, target)
    ours = PGD(L2(1.5), 0.3, 10, random_start=False, targeted=True)(net.logits_fn, net.x, target, jax.random.key(0))
    assert_same_images(ours, images)


@pytest.mark.parametrize("theirs", ["SparseL1DescentAttack", "L1PGD"])
def test_l1_is_as_strong_as_foolbox(theirs):
    net = trained()
    images = foolbox_images(net, (theirs, {"rel_stepsize": 0.1, "steps": 30, "random_start": False}), 12.0)
    x_adv = bim(L1(12.0), 1.2, 30)(net.logits_fn, net.x, net.y, jax.random.key(0))
    assert np.all(length(L1(12.0), images - net.x) <= 12.001)
    accuracy = robust_accuracy(net.logits_fn, x_adv, net.y)
    assert accuracy < 0.5 and accuracy <= robust_accuracy(net.logits_fn, images, net.y) + 1.5 / len(net.y)


def test_torchattacks_gives_the_same_images_with_momentum():
    torchattacks = pytest.importorskip("torchattacks", reason="compares with torchattacks: pip install torchattacks")
    net = trained()
    theirs = torchattacks.MIFGSM(torch_module(net.params), eps=0.1, alpha=0.01, steps=10, decay=1.0)
    images = from_torch(theirs(to_torch(net.x), to_torch(net.y[:, None, None, None]).ravel().long()))
    ours = mi_fgsm(Linf(0.1), steps=10)(net.logits_fn, net.x, net.y, jax.random.key(0))
    assert_same_images(ours, images)
