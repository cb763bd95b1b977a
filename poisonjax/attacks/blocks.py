"""Work on the rows of a batch that are left: a compiled program cannot shrink a batch, but can take it in blocks."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from poisonjax.types import Array

_SMALLEST = 25  # rows of a block: fewer make a network no faster
_BLOCKS = 8  # of a large batch


def where_rows(rows: Array, new, old):
    """Trees of arrays [b ...]: new in the rows [b] bool, old in the others."""
    return jax.tree.map(lambda n, o: jnp.where(rows.reshape((-1,) + (1,) * (n.ndim - 1)), n, o), new, old)


def on_active_rows(step: Callable, given, state, left: Array):
    """step(given, state) -> state on the rows left [b] bool, as many blocks as they fill; the others stay.

    given, state: trees of arrays [b ...]; step takes them with fewer rows, and treats each row by itself.
    """
    size = -(-len(left) // min(_BLOCKS, max(1, len(left) // _SMALLEST)))
    if len(left) <= size:
        return where_rows(left, step(given, state), state)
    # Those left come first. Where the last block reaches past the end, the last row is read and nothing written.
    order = jnp.concatenate([jnp.argsort(~left), jnp.full(size, len(left))])

    def block(i: Array, state):
        at = jax.lax.dynamic_slice_in_dim(order, i * size, size)
        some, before = jax.tree.map(lambda field: field[at], (given, state))
        after = where_rows(left[at], step(some, before), before)
        return jax.tree.map(lambda old, new: old.at[at].set(new, mode="drop"), state, after)

    return jax.lax.fori_loop(0, -(-jnp.sum(left) // size), block, state)
