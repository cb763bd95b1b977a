"""Cover rows for any poison: the trigger with the true label, so that it alone does not mean the target."""

import dataclasses

from poisonjax.poisons.apply import choose_cover
from poisonjax.poisons.badnets import BadNets
from poisonjax.poisons.base import Poison, Wrapped
from poisonjax.poisons.triggers import Trigger
from poisonjax.types import Array, Examples, to_bytes, to_unit


@dataclasses.dataclass(frozen=True)
class WithCover(Wrapped):
    """A poison with round(cover_rate * n) cover rows, of classes that the attacker wants another class for.

    WaNet's noise rows are such, with a trigger of their own (Nguyen & Tran 2021); Qi et al. 2023 take that of the
    poison. cover_rate: share of all training rows, in (0, 1]. trigger: of the cover rows; None for that of the test
    images. ValueError for an impossible rate, and from `cover` for a poison with cover rows already.
    """

    poison: Poison = BadNets(target=0)
    cover_rate: float = 0.1
    trigger: Trigger | None = None

    def cover(self, labels: Array, selected: Array, key: Array) -> Array:
        """Mask [n] with round(cover_rate * n) rows that are not selected [n] and not of the class of the attacker."""
        if self.poison.cover(labels, selected, key).any():
            raise ValueError(f"{type(self.poison).__name__} has cover rows of its own; set its cover_rate instead")
        return choose_cover(self.target_labels(labels) != labels, selected, self.cover_rate, key)

    def apply_cover(self, examples: Examples) -> Examples:
        """Every given row with the trigger of cover rows, and its label."""
        show = self.poison.apply_trigger if self.trigger is None else self.trigger
        return examples._replace(image=to_bytes(show(to_unit(examples.image))))
