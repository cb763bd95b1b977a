"""HopSkipJump needs decisions only, asks no more than it says, and comes as close as the reference."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poisonjax.attacks.hop_skip_jump import HopSkipJump
from tests.attacks.references import robust_accuracy, victim
from tests.attacks.test_boundary import attacked, only_decisions
from tests.attacks.test_carlini_wagner import by_foolbox, counted, deaf, length, plane

ATTACKS = {norm: HopSkipJump(norm, queries=1500, tries=20) for norm in ("L2", "Linf")}
ORDER = {"L2": 2, "Linf": np.inf}
BOTH = pytest.mark.parametrize("norm", ATTACKS)


@BOTH
def test_the_closest_image_across_a_plane_is_found(norm):
    logits_fn, x, y, *distances = plane()
    x_adv, nearest = attacked(ATTACKS[norm], logits_fn, x, y), distances[norm == "Linf"]
    assert np.all(np.argmax(logits_fn(x_adv), -1) == 1)
    assert x_adv.min() >= 0 and x_adv.max() <= 1
    found = length(x_adv - x, ORDER[norm])
    assert np.all((found >= nearest * (1 - 1e-4)) & (found <= nearest * 1.05))


@BOTH
def test_only_decisions_are_used(norm):
    logits_fn, x, y, *_ = plane()
    ours = attacked(ATTACKS[norm], only_decisions(logits_fn), x, y)
    np.testing.assert_array_equal(ours, attacked(ATTACKS[norm], logits_fn, x, y))


@BOTH
def test_a_row_does_not_depend_on_its_neighbours(norm):
    logits_fn, x, y, *_ = plane()
    keys, attack = jax.random.split(jax.random.key(1), len(x)), ATTACKS[norm]
    whole, part = (attacked(attack, logits_fn, x[rows], y[rows], keys[rows]) for rows in (slice(0, 6), slice(4, 6)))
    np.testing.assert_allclose(whole[4:6], part, atol=1e-5)
    assert np.abs(whole - attacked(attack, logits_fn, x, y)).max() > 1e-4  # it does on its key


@BOTH
def test_misclassified_or_unattackable_rows_are_returned_unchanged(norm):
    logits_fn, x, y, *_ = plane()
    mixed = np.arange(len(x)) % 2
    np.testing.assert_array_equal(attacked(ATTACKS[norm], logits_fn, x, mixed)[1::2], x[1::2])
    np.testing.assert_array_equal(attacked(ATTACKS[norm], deaf, x, y), x)


@pytest.mark.parametrize("queries", [60, 333, 1500])
@BOTH
def test_cost_bounds_the_queries(norm, queries):
    logits_fn, calls = counted(plane().logits_fn)
    attack = HopSkipJump(norm, queries=queries, tries=20)
    attacked(attack, logits_fn, plane().x, plane().y)
    jax.effects_barrier()
    assert (
        0.75 * queries - attack.tries - attack.at_once < sum(calls) / len(plane().x) <= attack.cost.queries == queries
    )


def test_gradient_queries_grow_with_the_root_of_the_round():
    attack = HopSkipJump(evaluations=100, at_once=20, queries=20_000)
    batches = attack._batches(784)
    rounds = np.arange(1, len(batches) - 1)
    np.testing.assert_array_equal(batches[1:-1], np.ceil(5 * np.sqrt(rounds)))
    assert batches[0] == 0 and len(batches) > 40


@BOTH
def test_slope_of_a_plane_is_its_normal(norm):
    weights = jnp.linspace(-1.0, 1.0, 12).reshape(4, 3, 1)
    image, keys = jnp.full((2, 4, 3, 1), 0.5), jax.random.split(jax.random.key(0), 2)
    attack = HopSkipJump(norm, at_once=100)
    slope = attack._slope(lambda images: _height(images, weights) > 0, image, jnp.full((2, 1, 1, 1), 0.1), 50, keys)
    cosine = _height(slope + 0.5, weights)[:, 0, 0, 0] / length(slope, 2) / jnp.linalg.norm(weights)
    assert np.all(cosine > 0.97)


def _height(images, weights):
    return ((images - 0.5) * weights).sum((-3, -2, -1), keepdims=True)


@pytest.mark.parametrize(("norm", "tolerance"), [("L2", 1.0), ("Linf", 1.1)])
def test_distortion_is_that_of_foolbox(norm, tolerance):
    """Image by image, in the geometric mean: over other keys its ratio varies by .02, that of medians by .2."""
    net, attack, order = victim(), HopSkipJump(norm, queries=1800, tries=20), ORDER[norm]
    theirs, spent = by_foolbox("HopSkipJumpAttack", net, net.x, net.y, steps=8, constraint=norm.lower())
    assert attack.cost.queries <= spent
    ours = attacked(attack, net.logits_fn, net.x, net.y)
    assert robust_accuracy(net.logits_fn, ours, net.y) == 0
    ratio = length(ours - net.x, order) / length(theirs - net.x, order)
    assert np.exp(np.mean(np.log(ratio))) <= tolerance


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (functools.partial(HopSkipJump, "L1"), "norm must be L2 or Linf, got 'L1'"),
        (functools.partial(HopSkipJump, queries=0), "queries must be at least 1, got 0"),
        (functools.partial(HopSkipJump, tries=0), "tries must be at least 1, got 0"),
        (functools.partial(HopSkipJump, evaluations=0), "evaluations must be at least 1, got 0"),
        (functools.partial(HopSkipJump, at_once=0), "at_once must be at least 1, got 0"),
    ],
)
def test_impossible_settings_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_too_few_queries_to_start_are_refused():
    logits_fn, x, y, *_ = plane()
    with pytest.raises(ValueError, match="queries must be at least 107 for images of 12 values and 100 tries, got 100"):
        HopSkipJump(queries=100)(logits_fn, x, y, jax.random.key(0))
