"""Only the rows that are left are worked on, in as few blocks as they fill, with the result of doing it row by row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poisonjax.attacks import Linf, Square, TargetedAPGD
from poisonjax.attacks.blocks import on_active_rows
from tests.attacks.references import victim


@pytest.mark.parametrize(
    ("rows", "left", "blocks"),
    [
        (20, 0, 1),
        (20, 20, 1),
        (33, 33, 1),
        (50, 25, 1),
        (50, 26, 2),
        (100, 1, 1),
        (100, 33, 2),
        (100, 100, 4),
        (100, 0, 0),
        (800, 201, 3),
    ],
)
def test_only_active_rows_change_in_as_few_blocks_as_they_fill(rows, left, blocks):
    rng, seen = np.random.default_rng(0), []
    chosen = np.zeros(rows, bool)
    chosen[rng.permutation(rows)[:left]] = True

    def step(given, state):
        jax.debug.callback(lambda _: seen.append(len(state[0])), state[0])
        return state[0] + given, state[1] * 2

    given, state = jnp.arange(rows), (jnp.full(rows, 100), jnp.arange(rows * 3.0).reshape(rows, 3))
    moved, doubled = jax.jit(lambda left: on_active_rows(step, given, state, left))(jnp.asarray(chosen))
    jax.effects_barrier()
    np.testing.assert_array_equal(moved, 100 + np.where(chosen, np.arange(rows), 0))
    np.testing.assert_array_equal(doubled, np.where(chosen[:, None], 2, 1) * np.asarray(state[1]))
    assert len(seen) == blocks


@pytest.mark.parametrize(
    "attack", [Square(Linf(0.22), 150), TargetedAPGD(Linf(0.22), steps=4, targets=3)], ids=lambda it: type(it).__name__
)
def test_large_batches_give_the_results_of_their_rows(attack):
    """80 rows, of which the attack soon leaves fewer than three blocks."""
    net, keys = victim(True, 80), jax.random.split(jax.random.key(0), 80)
    run = jax.jit(lambda x, y, keys: attack(net.logits_fn, x, y, keys))
    whole = run(net.x, net.y, keys)
    parts = [run(net.x[at : at + 20], net.y[at : at + 20], keys[at : at + 20]) for at in range(0, 80, 20)]
    np.testing.assert_allclose(whole, jnp.concatenate(parts), atol=1e-4)
    assert 0.05 < float((net.logits_fn(whole).argmax(-1) != net.y).mean()) < 0.95
