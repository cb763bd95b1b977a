"""Rows of the target class, crafted so that a trigger on images of another class, which none of them shows, works."""

from collections.abc import Callable
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from poisonjax.attacks.settings import check_counts
from poisonjax.poisons.apply import choose, count, replaced
from poisonjax.poisons.base import SurrogatePoison
from poisonjax.poisons.triggers import Trigger
from poisonjax.types import Array, Examples, take


class SourceClassPoison(SurrogatePoison):
    """A clean-label poison towards images of a source class with a trigger that is shown at test time only.

    A new one has these fields, and gives `view` and `perturb`. rate: share of all training rows, in (0, 1]. target: the
    class of these rows. source: the class that the trigger sends to the target; None for every other one. trigger: of
    test images. sources_used: training rows that the trigger is put on, at most. ValueError for an impossible value.
    """

    rate: float
    target: int
    source: int | None
    trigger: Trigger
    sources_used: int
    joint: ClassVar[bool] = True

    def __post_init__(self):
        super().__post_init__()
        if self.source is not None and (self.source == self.target or not 0 <= self.source < self.classes):
            raise ValueError(f"source must be a class other than the target {self.target}, or None, got {self.source}")
        check_counts(self, "sources_used")

    def select(self, labels: Array, key: Array) -> Array:
        """labels [n] -> mask [n] with round(rate * n) rows of the target class."""
        return choose(labels == self.target, count(self.rate, len(labels)), key)

    def expected_rows(self, rows: int) -> int:
        """The number of training rows, of so many, that are poisoned."""
        return count(self.rate, rows)

    def sources(self, rows: Examples) -> Examples:
        """The first `sources_used` of the clean training rows that the attacker wants another class for."""
        labels = np.asarray(rows.label)
        return take(rows, np.flatnonzero(np.asarray(self.target_labels(labels)) != labels)[: self.sources_used])

    def crafted(self, rows: Examples) -> Callable[[Examples], Examples]:
        """Every given row that was crafted; rows [m] are sorted by index."""
        return replaced(rows)

    def apply_trigger(self, image: Array) -> Array:
        """Images [b h w c] in [0, 1] with the trigger."""
        return self.trigger(image)

    def target_labels(self, labels: Array) -> Array:
        """The class that the attacker wants for images of each class, [b]: their own, but for the source."""
        if self.source is None:
            return jnp.full_like(labels, self.target)
        return jnp.where(labels == self.source, self.target, labels).astype(labels.dtype)
