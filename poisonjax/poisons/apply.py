"""Choosing the rows to poison, and putting the poisoned ones in."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from poisonjax.types import Array, Examples


def count(rate: float, rows: int) -> int:
    """The number of rows that a rate in (0, 1] means: round(rate * rows)."""
    return round(rate * rows)


def choose(eligible: Array, number: int, key: Array) -> Array:
    """eligible [n] bool -> mask [n] bool with exactly `number` of them, drawn without replacement.

    ValueError if fewer are eligible.
    """
    if int(eligible.sum()) < number:
        raise ValueError(f"{number} rows are to be poisoned, but only {int(eligible.sum())} can be; lower the rate")
    score = jnp.where(eligible, jax.random.uniform(key, eligible.shape), jnp.inf)
    return jnp.zeros(eligible.shape, bool).at[jnp.argsort(score)[:number]].set(True)


def choose_of_class(labels: Array, label: int, rate: float, key: Array) -> Array:
    """labels [n] -> mask [n] with round(rate * size of the class) rows of that class."""
    eligible = labels == label
    return choose(eligible, count(rate, int(eligible.sum())), key)


def poisoned(apply: Callable[[Examples], Examples], examples: Examples, rows: Array) -> Examples:
    """Examples [n or b] with those whose `index` is among `rows` [m] poisoned, the others bit-identical.

    Row by row, so a stream of batches gives what the whole data set gives.
    """
    hit = jnp.isin(examples.index, rows, method="binary_search")  # comparing all pairs takes n times m bytes
    changed = apply(examples)
    image = jnp.where(hit[:, None, None, None], changed.image, examples.image)
    return Examples(image, jnp.where(hit, changed.label, examples.label), examples.index)
