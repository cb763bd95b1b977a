"""The contract of a poison."""

import abc
from collections.abc import Callable
from typing import ClassVar

from poisonjax.attacks import LossAttack
from poisonjax.types import Array, Examples, LogitsFn


class Poison(abc.ABC):
    """A training-time attack: which rows change and how, and what exploits it at test time.

    A new one is a frozen dataclass. classes: of the data set. poisons: False for the baseline without an attack.
    needs_surrogate: True if rows are crafted against a network that the attacker trains on clean data; then `perturb`,
    `crafted` and `attack` are called for, and otherwise `apply` alone.
    """

    classes: int
    poisons: ClassVar[bool] = True
    needs_surrogate: ClassVar[bool] = False
    attack: LossAttack | None = None

    @abc.abstractmethod
    def select(self, labels: Array, key: Array) -> Array:
        """labels [n] int -> mask [n] bool with exactly the promised number of rows. ValueError if they are too few."""

    def expected_rows(self, rows: int) -> int:
        """About how many of so many training rows, of classes of equal size, are poisoned: for estimates of time."""
        return rows

    def apply(self, examples: Examples) -> Examples:
        """Every given row [b] poisoned: pure and row by row; `index` is kept."""
        raise NotImplementedError

    def perturb(self, logits_fn: LogitsFn, examples: Examples, keys: Array) -> Examples:
        """Rows [b] crafted against the surrogate; keys [b], one per row."""
        raise NotImplementedError

    def crafted(self, rows: Examples) -> Callable[[Examples], Examples]:
        """`apply` for a poison whose rows [m], sorted by index, came from `perturb`."""
        raise NotImplementedError

    @abc.abstractmethod
    def apply_trigger(self, image: Array) -> Array:
        """Images [b ...] in [0, 1] as the attacker shows them at test time."""

    @abc.abstractmethod
    def target_labels(self, labels: Array) -> Array:
        """The class that the attacker wants for images of each class, [b] int."""
