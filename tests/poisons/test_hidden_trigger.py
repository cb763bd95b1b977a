"""Hidden trigger: the pairs, the distances that it sees, and rows that come close to triggered source images."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from poisonjax.attacks import PGD, Linf
from poisonjax.poisons import BrightSquare, CentreDistance, HiddenTrigger, RandomPlace
from poisonjax.poisons.hidden_trigger import closest_pairs
from poisonjax.types import take, to_unit
from tests.poisons.test_sleeper_agent import CLASSES, RNG, ROWS, SIDE

WEIGHTS = RNG.normal(size=(SIDE * SIDE, 6)).astype(np.float32) / 4
POISON = HiddenTrigger(
    rate=0.1,
    target=1,
    source=2,
    trigger=RandomPlace(BrightSquare(3)),
    attack=PGD(Linf(0.2), steps=40, random_start=False, loss=CentreDistance()),
    pairings=4,
    classes=CLASSES,
)
TARGETS = take(ROWS, np.flatnonzero(ROWS.label == 1))


def network(weights, x):
    """No logits, and features of one layer."""
    return None, jnp.tanh(x.reshape(len(x), -1) @ weights)


OUTPUTS = Partial(network, jnp.asarray(WEIGHTS))


def distances(image):
    """Those of the features of images [b ...] in bytes and of the sources with the trigger, in plain numpy, [b m]."""
    shown = np.asarray(POISON.trigger(to_unit(jnp.asarray(POISON.sources(ROWS).image))))
    one, other = (np.tanh(x.reshape(len(x), -1) @ WEIGHTS) for x in (np.asarray(image) / 255, shown))
    return np.linalg.norm(one[:, None] - other, axis=-1)


def crafted(poison, rows=TARGETS):
    return poison.perturb(poison.view(OUTPUTS, poison.sources(ROWS)), rows, jax.random.key(3))


def test_the_view_is_minus_the_squared_distances_of_features():
    view = POISON.view(OUTPUTS, POISON.sources(ROWS))(to_unit(jnp.asarray(TARGETS.image)))
    np.testing.assert_allclose(-view, distances(TARGETS.image) ** 2, atol=1e-4)
    assert (POISON.sources(ROWS).label == 2).all()


def test_pairs_are_one_to_one_and_the_closest_first():
    table = RNG.random((7, 7)).astype(np.float32)
    left, pairs = table.copy(), {}
    for _ in range(7):
        row, column = np.unravel_index(np.argmin(left), left.shape)
        pairs[row] = column
        left[row], left[:, column] = np.inf, np.inf
    np.testing.assert_array_equal(jax.jit(closest_pairs)(table), [pairs[row] for row in range(7)])


def test_features_come_close_to_those_of_triggered_sources_within_the_budget():
    """The distance from the nearest one falls to a third, and the rows show no trigger."""
    made = crafted(POISON)
    before, after = (distances(rows.image).min(1).mean() for rows in (TARGETS, made))
    assert after < before / 3
    change = np.abs(np.asarray(made.image, int) - TARGETS.image)
    assert 0 < change.max() <= 0.2 * 255
    np.testing.assert_array_equal(made.label, 1)


def test_rows_are_drawn_to_different_sources():
    """With a source for each and no budget, every source has a row that comes to it."""
    free = dataclasses.replace(POISON, attack=dataclasses.replace(POISON.attack, ball=Linf(1.0)), pairings=1)
    nearest = distances(crafted(free).image).argmin(1)
    assert len(TARGETS.label) == len(POISON.sources(ROWS).label) == len(set(nearest.tolist()))


def test_sources_are_drawn_anew_for_each_pairing():
    """A single row is drawn to several of the fifteen sources in turn."""
    seen, row = [], take(TARGETS, slice(1))

    class Told(PGD):
        def __call__(self, logits_fn, x, y, key, **options):
            jax.debug.callback(lambda goal: seen.append(goal.item()), y)
            return super().__call__(logits_fn, x, y, key, **options)

    jax.block_until_ready(crafted(dataclasses.replace(POISON, attack=Told(**vars(POISON.attack))), row).image)
    jax.effects_barrier()
    assert len(seen) == 4 and len(set(seen)) > 1
