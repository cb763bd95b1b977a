"""Szegedy's attack finds what L-BFGS-B of scipy finds, for all images at once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from poisonjax.attacks.lbfgs import LBFGS
from poisonjax.attacks.losses import CrossEntropy
from tests.attacks.references import robust_accuracy, victim
from tests.attacks.test_boundary import attacked
from tests.attacks.test_carlini_wagner import counted, deaf, length, plane

ATTACK = LBFGS(searches=12, steps=40)


def test_the_closest_image_across_a_plane_is_found():
    logits_fn, x, y, nearest, _ = plane()
    x_adv = attacked(ATTACK, logits_fn, x, y)
    assert np.all(np.argmax(logits_fn(x_adv), -1) == 1)
    assert np.all((length(x_adv - x, 2) >= nearest * (1 - 1e-4)) & (length(x_adv - x, 2) <= nearest * 1.01))


def test_a_row_does_not_depend_on_its_neighbours():
    logits_fn, x, y, *_ = plane()
    whole, part = attacked(ATTACK, logits_fn, x, y), attacked(ATTACK, logits_fn, x[4:6], y[4:6])
    np.testing.assert_allclose(whole[4:6], part, atol=1e-5)


def test_misclassified_or_unattackable_rows_are_returned_unchanged():
    logits_fn, x, y, *_ = plane()
    mixed = np.arange(len(x)) % 2
    np.testing.assert_array_equal(attacked(ATTACK, logits_fn, x, mixed)[1::2], x[1::2])
    np.testing.assert_array_equal(attacked(ATTACK, deaf, x, y), x)


@pytest.mark.parametrize("targeted", [False, True])
def test_cost_bounds_the_gradients(targeted):
    logits_fn, calls = counted(plane().logits_fn)
    attack = LBFGS(searches=3, steps=10, targeted=targeted)
    attacked(attack, logits_fn, plane().x, plane().y + targeted)
    jax.effects_barrier()
    assert 10 < len(calls) <= attack.cost.gradients + attack.cost.queries == 30 + (not targeted)


@pytest.mark.parametrize(("adversarial", "targeted"), [(False, False), (True, False), (False, True)])
def test_distortion_is_at_most_that_of_scipy(adversarial, targeted):
    net, attack = victim(adversarial), LBFGS(searches=6, steps=40, targeted=targeted)
    x, y = net.x[:12], net.y[:12]
    target = (y + 3) % 10 if targeted else runner_up(net, x)
    ours = attacked(attack, net.logits_fn, x, target if targeted else y)
    decided = np.argmax(net.logits_fn(ours), -1)
    assert np.all(decided == target) if targeted else np.all(decided != y)
    assert ours.min() >= 0 and ours.max() <= 1
    theirs = np.array([by_scipy(net, attack, *row) for row in zip(x, y, target, strict=True)])
    assert np.median(length(ours - x, 2) / theirs) <= 1.02  # image by image: each ends in a minimum of its own


def runner_up(net, x):
    return np.argsort(np.asarray(net.logits_fn(x)), -1)[:, -2]


def by_scipy(net, attack, x, y, target):
    """The least distance at which scipy saw one image x misclassified, with the same loss, box and search for c."""
    low, high, c, best = 0.0, np.inf, attack.initial_c, np.inf
    for _ in range(attack.searches):
        seen = []
        minimise(net, np.asarray(x, np.float64), int(target), c, attack, seen)
        hits = [far for far, decided in seen if (decided == target if attack.targeted else decided != y)]
        low, high, best = (low, c, min(best, *hits, np.inf)) if hits else (c, high, best)
        c = 10 * low if np.isinf(high) else (low + high) / 2
    return best


def minimise(net, x, target, c, attack, seen):
    """One run of L-BFGS-B; notes the distance and the decision of every image that it evaluates."""

    def loss(flat):
        (value, decided), gradient = _loss_and_gradient(net, flat.reshape(x.shape).astype(np.float32), x, target, c)
        seen.append((np.linalg.norm(flat - x.ravel()), int(decided)))
        return float(value), np.asarray(gradient, np.float64).ravel()

    options = {"maxfun": attack.steps, "maxiter": attack.steps, "maxcor": attack.memory}
    scipy.optimize.minimize(loss, x.ravel(), jac=True, method="L-BFGS-B", bounds=[(0, 1)] * x.size, options=options)


def _loss_and_gradient(net, image, x, target, c):
    return _compiled(net.logits_fn)(image, np.float32(x), target, np.float32(c))


@functools.cache
def _compiled(logits_fn):
    def loss(image, x, target, c):
        logits = logits_fn(image[None])
        return jnp.sum((image - x) ** 2) + c * CrossEntropy()(logits, target[None])[0], jnp.argmax(logits)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


def test_each_row_searches_its_own_step():
    """Rows of very different curvature reach the minimum of a quadratic as fast as each would alone."""
    net = victim()
    x, y = net.x[:4], net.y[:4]
    attack = LBFGS(searches=6, steps=40)
    alone = [attacked(attack, net.logits_fn, x[i : i + 1], y[i : i + 1])[0] for i in range(2)]
    np.testing.assert_allclose(attacked(attack, net.logits_fn, x, y)[:2], alone, atol=1e-3)
    assert robust_accuracy(net.logits_fn, np.stack(alone), y[:2]) == 0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (functools.partial(LBFGS, searches=0), "searches must be at least 1, got 0"),
        (functools.partial(LBFGS, steps=0), "steps must be at least 1, got 0"),
        (functools.partial(LBFGS, memory=0), "memory must be at least 1, got 0"),
        (functools.partial(LBFGS, initial_c=0.0), "initial_c must be above 0, got 0.0"),
    ],
)
def test_impossible_settings_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
