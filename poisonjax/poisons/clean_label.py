"""Label-consistent poisoning: images of the target class, made hard to classify and then given the trigger."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from poisonjax.attacks import L2, PGD, LossAttack
from poisonjax.poisons.apply import attacked, choose_of_class, count, replaced
from poisonjax.poisons.base import SurrogatePoison
from poisonjax.poisons.triggers import FourPixels, Trigger
from poisonjax.types import Array, Examples, LogitsFn, to_bytes, to_unit


@dataclasses.dataclass(frozen=True)
class CleanLabel(SurrogatePoison):
    """Adversarial images of the target class, with a trigger, labels kept (Turner et al. 2019, section 4).

    rate: share of the target class, in (0, 1]. attack: in an Linf or L2 ball, against an adversarially robust surrogate
    that the attacker trains. ValueError for an impossible value.
    """

    rate: float = 0.33
    target: int = 9
    trigger: Trigger = FourPixels()
    attack: LossAttack = PGD(L2(5.0), step=0.1, steps=200, random_start=False)
    classes: int = 10

    def select(self, labels: Array, key: Array) -> Array:
        """labels [n] -> mask [n] with round(rate * size of the target class) rows of that class."""
        return choose_of_class(labels, self.target, self.rate, key)

    def expected_rows(self, rows: int) -> int:
        """About how many of so many training rows are poisoned."""
        return count(self.rate, rows // self.classes)

    def perturb(self, logits_fn: LogitsFn, examples: Examples, keys: Array) -> Examples:
        """Rows [b] attacked against the surrogate, without the trigger, in 8 bits, within the ball; keys [b]."""
        return attacked(self.attack, logits_fn, examples, examples.label, keys)

    def crafted(self, rows: Examples) -> Callable[[Examples], Examples]:
        """Every given row that was crafted, perturbed and with the trigger; rows [m] are sorted by index."""
        return _Triggered(self.trigger, replaced(rows)).apply

    def apply_trigger(self, image: Array) -> Array:
        """Images [b h w c] in [0, 1] with the trigger."""
        return self.trigger(image)

    def target_labels(self, labels: Array) -> Array:
        """The class that the attacker wants for images of each class, [b]."""
        return jnp.full_like(labels, self.target)


class _Triggered(NamedTuple):
    """Rows that have been crafted, and then given the trigger."""

    trigger: Trigger
    crafted: Callable[[Examples], Examples]

    def apply(self, examples: Examples) -> Examples:
        """Every given row that was crafted, perturbed and with the trigger; the label stays."""
        perturbed = self.crafted(examples)
        return perturbed._replace(image=to_bytes(self.trigger(to_unit(perturbed.image))))
