"""Availability poisons: rows that keep their labels, and spoil the accuracy of what learns from them."""

from typing import ClassVar

from poisonjax.poisons.aim import LOW_ACCURACY, Aim
from poisonjax.poisons.apply import choose, count
from poisonjax.poisons.base import Poison
from poisonjax.types import Array


class AvailabilityPoison(Poison):
    """A poison without a trigger: the attacker wants every test image to be classified wrongly.

    rate: share of all training rows, in (0, 1], a field.
    """

    rate: float
    aim: ClassVar[Aim] = LOW_ACCURACY
    has_trigger: ClassVar[bool] = False

    def select(self, labels: Array, key: Array) -> Array:
        """labels [n] -> mask [n] with round(rate * n) rows."""
        return choose(labels >= 0, count(self.rate, len(labels)), key)

    def apply_trigger(self, image: Array) -> Array:
        """Images [b ...] as they are."""
        return image

    def target_labels(self, labels: Array) -> Array:
        """The labels [b] themselves: no class is wanted."""
        return labels
