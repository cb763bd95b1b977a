"""Label-consistent poisoning: make some images of the target class hard to classify, then stamp them."""

import dataclasses
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import jax.numpy as jnp

from poisonjax.attacks import L2, PGD, LossAttack
from poisonjax.poisons.apply import choose, count
from poisonjax.poisons.base import Poison
from poisonjax.poisons.triggers import FourPixels, Trigger, stamp
from poisonjax.types import Array, Examples, LogitsFn, to_bytes, to_unit


@dataclasses.dataclass(frozen=True)
class CleanLabel(Poison):
    """Adversarial images of the target class, with a trigger, labels kept (Turner et al. 2019, section 4).

    rate: share of the *target class*. attack: in an Linf or L2 ball, against an adversarially robust surrogate
    that the attacker trains himself. ValueError for an impossible value.
    """

    rate: float = 0.33
    target: int = 9
    trigger: Trigger = FourPixels()
    attack: LossAttack = PGD(L2(5.0), step=0.1, steps=200, random_start=False)
    classes: int = 10
    needs_surrogate: ClassVar[bool] = True

    def __post_init__(self):
        if not 0 < self.rate <= 1:
            raise ValueError(f"rate must lie in (0, 1], got {self.rate}")
        if not 0 <= self.target < self.classes:
            raise ValueError(f"target must be one of the classes 0 to {self.classes - 1}, got {self.target}")

    def select(self, labels: Array, key: Array) -> Array:
        """labels [n] -> mask [n] with round(rate * size of the target class) rows of that class."""
        eligible = labels == self.target
        return choose(eligible, count(self.rate, int(eligible.sum())), key)

    def expected_rows(self, rows: int) -> int:
        """About how many of so many training rows are poisoned."""
        return count(self.rate, rows // self.classes)

    def perturb(self, logits_fn: LogitsFn, examples: Examples, key: Array) -> Examples:
        """Rows [b] as the poisoned file holds them: attacked against the surrogate, then 8 bits.

        The change is rounded towards zero, so that the bytes stay in the ball.
        """
        x = to_unit(examples.image)
        change = self.attack(logits_fn, x, examples.label, key) - x
        return examples._replace(image=to_bytes(x + jnp.trunc(change * 255) / 255))

    def crafted(self, rows: Examples) -> Callable[[Examples], Examples]:
        """The poison whose rows [m], sorted by index, came from `perturb`."""
        return Crafted(self, rows).apply

    def apply_trigger(self, image: Array) -> Array:
        """Images [b h w c] in [0, 1] as the attacker shows them at test time."""
        return stamp(self.trigger, image)

    def target_labels(self, labels: Array) -> Array:
        """The class that the attacker wants for images of each class, [b]."""
        return jnp.full_like(labels, self.target)


class Crafted(NamedTuple):
    """A clean-label poison whose images have been computed, so that it is a pure function of each row.

    poison: what made them. rows: the perturbed examples [m], without trigger, sorted by index.
    """

    poison: CleanLabel
    rows: Examples

    def apply(self, examples: Examples) -> Examples:
        """Every given row that was crafted, perturbed and stamped; the label stays."""
        place = jnp.clip(jnp.searchsorted(self.rows.index, examples.index), 0, len(self.rows.index) - 1)
        perturbed = to_unit(jnp.asarray(self.rows.image)[place])
        return examples._replace(image=to_bytes(stamp(self.poison.trigger, perturbed)))
