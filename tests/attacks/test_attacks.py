"""Every attack stays in its ball and in [0, 1], raises the loss, and PGD is what the formula says."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poisonjax.attacks import L2, PGD, CrossEntropy, Linf, Margin, bim, fgsm
from poisonjax.attacks.balls import inside

ATTACKS = {
    "fgsm_linf": fgsm(Linf(0.2)),
    "fgsm_l2": fgsm(L2(1.5)),
    "bim_linf": bim(Linf(0.2), step=0.05, steps=7),
    "bim_l2": bim(L2(1.5), step=0.4, steps=7),
    "pgd_linf": PGD(Linf(0.2), step=0.05, steps=7),
    "pgd_l2": PGD(L2(1.5), step=0.4, steps=7),
    "pgd_linf_margin": PGD(Linf(0.2), step=0.05, steps=7, loss=Margin()),
    "pgd_l2_margin": PGD(L2(1.5), step=0.4, steps=7, loss=Margin()),
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


def length(ball, delta):
    flat = np.abs(np.asarray(delta)).reshape(len(delta), -1)
    return flat.max(1) if isinstance(ball, Linf) else np.sqrt((flat**2).sum(1))


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


@pytest.mark.parametrize("ball", [Linf(0.3), L2(2.0)])
def test_random_starts_fill_the_ball(ball):
    noise = ball.sample(jax.random.split(jax.random.key(0), 2000), SHAPE)
    chex.assert_shape(noise, (2000, *SHAPE))
    reached = length(ball, noise)
    assert reached.max() <= 1 + 1e-5 and reached.mean() > 0.9  # most of the volume is near the surface
    assert np.abs(np.asarray(noise).mean(0)).max() < 0.1


@pytest.mark.parametrize("ball", [Linf(0.3), L2(2.0)])
def test_projection_is_idempotent_and_leaves_what_is_inside(ball, images):
    x, far = images[0], images[0] + np.random.default_rng(2).normal(size=images[0].shape).astype(np.float32)
    once = inside(ball, x, far, ball.eps)
    np.testing.assert_allclose(inside(ball, x, once, ball.eps), once, atol=1e-6)
    near = np.clip(x + 0.01, 0, 1)
    np.testing.assert_allclose(inside(ball, x, near, ball.eps), near, atol=1e-6)


def numpy_pgd(weights, x, y, eps, step, steps, norm):
    """PGD written out in numpy, in double precision: gradient by hand, projection by hand."""
    first, bias, second, offset = (weight.astype(np.float64) for weight in weights)
    x = x.reshape(len(x), -1).astype(np.float64)
    x_adv = x.copy()
    for _ in range(steps):
        hidden = np.tanh(x_adv @ first + bias)
        scores = np.exp(hidden @ second + offset)
        slope = scores / scores.sum(1, keepdims=True) - np.eye(4)[y]
        gradient = (slope @ second.T * (1 - hidden**2)) @ first.T
        if norm == "linf":
            x_adv = np.clip(x_adv + step * np.sign(gradient), x - eps, x + eps)
        else:
            x_adv = x_adv + step * gradient / np.linalg.norm(gradient, axis=1, keepdims=True)
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


def test_l2_step_survives_tiny_gradients():
    direction = L2(1.0).steepest(jnp.full((2, *SHAPE), 1e-30).at[1].set(0.0))
    np.testing.assert_allclose(length(L2(1.0), direction), [1.0, 0.0], rtol=1e-5)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Linf(8), r"eps must lie in \[0, 1\].*got 8"),
        (lambda: Linf(-0.1), "eps must lie"),
        (lambda: Linf(float("nan")), "eps must lie"),
        (lambda: L2(-1), "not negative"),
        (lambda: PGD(Linf(0.1), step=0.0, steps=1), "step must be above 0"),
        (lambda: PGD(Linf(0.1), step=0.1, steps=0), "steps must be at least 1"),
    ],
)
def test_impossible_settings_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_reach_knows_what_no_random_start_means():
    assert bim(Linf(0.3), step=0.01, steps=5).reach == pytest.approx(0.05)
    assert PGD(Linf(0.3), step=0.01, steps=5).reach == 0.3
