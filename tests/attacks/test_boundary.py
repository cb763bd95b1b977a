"""The boundary attack needs decisions only, asks no more than it says, and comes as close as the reference."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poisonjax.attacks.boundary import Boundary, decisions, misclassified_start
from tests.attacks.references import robust_accuracy, victim
from tests.attacks.test_carlini_wagner import by_foolbox, counted, deaf, length, plane

ATTACK = Boundary(queries=1200, tries=20)


def attacked(attack, logits_fn, x, y, key=None):
    keys = jax.random.split(jax.random.key(0), len(x)) if key is None else key
    return np.asarray(jax.jit(lambda x, y, key: attack(logits_fn, x, y, key))(x, y, keys))


def only_decisions(logits_fn):
    """A network that shows nothing but its decision, and has no gradient."""

    @jax.custom_jvp
    def decide(images):
        return jax.nn.one_hot(jnp.argmax(logits_fn(images), -1), 2)

    decide.defjvp(lambda primals, tangents: (decide(*primals), jnp.nan * decide(*primals) * tangents[0].sum()))
    return decide


def test_the_closest_image_across_a_plane_is_found():
    logits_fn, x, y, nearest, _ = plane()
    x_adv = attacked(ATTACK, logits_fn, x, y)
    assert np.all(np.argmax(logits_fn(x_adv), -1) == 1)
    assert x_adv.min() >= 0 and x_adv.max() <= 1
    assert np.all((length(x_adv - x, 2) >= nearest * (1 - 1e-4)) & (length(x_adv - x, 2) <= nearest * 1.02))


def test_only_decisions_are_used():
    logits_fn, x, y, *_ = plane()
    blind = only_decisions(logits_fn)
    assert np.isnan(jax.grad(lambda images: blind(images).sum())(x)).all()
    np.testing.assert_array_equal(attacked(ATTACK, blind, x, y), attacked(ATTACK, logits_fn, x, y))


def test_more_queries_come_closer():
    logits_fn, x, y, *_ = plane()
    few, many = (attacked(Boundary(queries, tries=20), logits_fn, x, y) for queries in (60, 1200))
    assert np.all(length(many - x, 2) < length(few - x, 2))


def test_a_row_does_not_depend_on_its_neighbours():
    logits_fn, x, y, *_ = plane()
    keys = jax.random.split(jax.random.key(1), len(x))
    whole, part = (attacked(ATTACK, logits_fn, x[rows], y[rows], keys[rows]) for rows in (slice(0, 6), slice(4, 6)))
    np.testing.assert_allclose(whole[4:6], part, atol=1e-5)
    assert np.abs(whole - attacked(ATTACK, logits_fn, x, y)).max() > 1e-4  # it does on its key


def test_misclassified_or_unattackable_rows_are_returned_unchanged():
    logits_fn, x, y, *_ = plane()
    mixed = np.arange(len(x)) % 2
    np.testing.assert_array_equal(attacked(ATTACK, logits_fn, x, mixed)[1::2], x[1::2])
    np.testing.assert_array_equal(attacked(ATTACK, deaf, x, y), x)


@pytest.mark.parametrize("network", [plane().logits_fn, deaf], ids=["plane", "deaf"])
def test_cost_bounds_the_queries(network):
    logits_fn, calls = counted(network)
    attacked(ATTACK, logits_fn, plane().x, plane().y)
    jax.effects_barrier()
    spent = sum(calls) / len(plane().x)
    assert ATTACK.cost.queries == 1200 >= spent
    assert spent == 1200 if network is deaf else spent >= 1200 - ATTACK.tries


def test_noise_is_tried_until_it_is_misclassified():
    x, keys = jnp.zeros((3, 2, 2, 1)), jax.random.split(jax.random.key(0), 3)
    bright = decisions(
        lambda images: jnp.stack([jnp.full(len(images), 2.6), images.sum((1, 2, 3))], -1), np.zeros(3), x.shape[1:]
    )
    found = misclassified_start(bright, x, keys, tries=50)
    assert np.all(found.sum((1, 2, 3)) > 2.6)  # one draw in six is
    np.testing.assert_array_equal(misclassified_start(bright, x + 0.7, keys, tries=50), x + 0.7)
    assert bright(jnp.ones((3, 4, 2, 2, 1))).shape == (3, 4, 1, 1, 1)


def test_distortion_is_at_most_that_of_foolbox():
    net, attack = victim(), Boundary(queries=1500)
    x, y = net.x[:8], net.y[:8]
    theirs, spent = by_foolbox("BoundaryAttack", net, x, y, steps=1350)
    assert attack.cost.queries <= spent
    ours = attacked(attack, net.logits_fn, x, y)
    assert robust_accuracy(net.logits_fn, ours, y) == 0
    assert np.median(length(ours - x, 2)) <= np.median(length(theirs - x, 2))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (functools.partial(Boundary, tries=0), "tries must be at least 1, got 0"),
        (functools.partial(Boundary, queries=111), "queries must be above 111 with 100 tries, got 111"),
        (functools.partial(Boundary, sideways=0.0), "sideways must be above 0 and at most 1, got 0.0"),
        (functools.partial(Boundary, ahead=2.0), "ahead must be above 0 and at most 1, got 2.0"),
        (functools.partial(Boundary, adapt=-1.0), "adapt must be above 0 and at most 1, got -1.0"),
    ],
)
def test_impossible_settings_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
