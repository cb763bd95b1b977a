"""Choosing the rows to poison, crafting them, and putting the poisoned ones in."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from poisonjax.attacks.rows import per_row
from poisonjax.types import Array, Examples, LogitsFn, to_bytes, to_unit


def count(rate: float, rows: int) -> int:
    """The number of rows that a rate in (0, 1] means: round(rate * rows)."""
    return round(rate * rows)


def choose(eligible: Array, number: int, key: Array, what: str = "poisoned") -> Array:
    """eligible [n] bool -> mask [n] bool with exactly `number` of them, drawn without replacement.

    what: they become, as people call it. ValueError if fewer are eligible.
    """
    if int(eligible.sum()) < number:
        raise ValueError(f"{number} rows are to be {what}, but only {int(eligible.sum())} can be; lower the rate")
    score = jnp.where(eligible, jax.random.uniform(key, eligible.shape), jnp.inf)
    return jnp.zeros(eligible.shape, bool).at[jnp.argsort(score)[:number]].set(True)


def choose_of_class(labels: Array, label: int, rate: float, key: Array) -> Array:
    """labels [n] -> mask [n] with round(rate * size of the class) rows of that class."""
    eligible = labels == label
    return choose(eligible, count(rate, int(eligible.sum())), key)


def choose_cover(victims: Array, selected: Array, rate: float, key: Array) -> Array:
    """Mask [n] with round(rate * n) cover rows, drawn from the victims [n] bool that are not selected [n] bool.

    victims: rows of classes that the attacker wants another class for; the others would teach the trigger.
    """
    return choose(victims & ~selected, count(rate, len(victims)), key, "cover rows")


def poisoned(apply: Callable[[Examples], Examples], examples: Examples, rows: Array) -> Examples:
    """Examples [n or b] with those whose `index` is among `rows` [m] poisoned, the others bit-identical.

    Row by row, so a stream of batches gives what the whole data set gives.
    """
    if not len(rows):
        return examples
    hit = jnp.isin(examples.index, rows, method="binary_search")  # comparing all pairs takes n times m bytes
    changed = apply(examples)
    image = jnp.where(per_row(hit, examples.image), changed.image, examples.image)
    return Examples(image, jnp.where(hit, changed.label, examples.label), examples.index)


def attacked(
    attack: Callable[..., Array], logits_fn: LogitsFn, examples: Examples, labels: Array, keys: Array, **options: Array
) -> Examples:
    """Rows [b] attacked for labels [b], which need not be their own; those stay.

    The change is rounded towards zero, so that the bytes stay in the ball. attack: called as a `LossAttack` is.
    options: of its call.
    """
    x = to_unit(examples.image)
    change = attack(logits_fn, x, labels, keys, **options) - x
    return examples._replace(image=to_bytes(x + jnp.trunc(change * 255) / 255))


class _Crafted(NamedTuple):
    """Rows that have been crafted, so that a poison is a pure function of each row. rows: [m], sorted by index."""

    rows: Examples

    def apply(self, examples: Examples) -> Examples:
        """Every given row that was crafted, with its image; the label stays. Of the others, that of some other row."""
        place = jnp.clip(jnp.searchsorted(self.rows.index, examples.index), 0, len(self.rows.index) - 1)
        return examples._replace(image=jnp.asarray(self.rows.image)[place])


def replaced(rows: Examples) -> Callable[[Examples], Examples]:
    """`apply` of a poison whose crafted rows [m], sorted by index, are all there is to it."""
    return _Crafted(rows).apply
