"""The contract of a poison."""

import abc
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp

from poisonjax.attacks import LossAttack
from poisonjax.types import Array, Examples, LogitsFn


class Poison(abc.ABC):
    """A training-time attack: which rows change and how, and the trigger that exploits it at test time.

    A new one is a frozen dataclass of numbers, strings, tuples and dataclasses, so that it can be saved and hashed. Its
    methods are pure; all but `select` are traced by jax. `rate`, `target` and `classes` are checked here; a member with
    a `__post_init__` of its own calls `super().__post_init__()`. One whose rows are crafted against a network derives
    from `SurrogatePoison`.

    classes: of the data set, a field. poisons: False for the baseline without an attack. needs_surrogate: True for a
    `SurrogatePoison`.
    """

    classes: int
    poisons: ClassVar[bool] = True
    needs_surrogate: ClassVar[bool] = False

    def __post_init__(self):
        """ValueError without classes, or for a rate outside (0, 1] or a target that is no class, if it has them."""
        rate, target, classes = (getattr(self, name, None) for name in ("rate", "target", "classes"))
        if classes is None:
            raise ValueError(f"{type(self).__name__} needs the field classes, the number of classes of the data set")
        if rate is not None and not 0 < rate <= 1:
            raise ValueError(f"rate must lie in (0, 1], got {rate}")
        if target is not None and not 0 <= target < classes:
            raise ValueError(f"target must be one of the classes 0 to {classes - 1}, got {target}")

    @abc.abstractmethod
    def select(self, labels: Array, key: Array) -> Array:
        """labels [n] int -> mask [n] bool with exactly the promised number of rows. ValueError if they are too few."""

    @abc.abstractmethod
    def apply(self, examples: Examples) -> Examples:
        """Every given row [b] poisoned, images uint8: row by row; shapes, dtypes and `index` are kept."""

    @abc.abstractmethod
    def apply_trigger(self, image: Array) -> Array:
        """Images [b ...] in [0, 1] as the attacker shows them at test time, of the same shape and in [0, 1]."""

    @abc.abstractmethod
    def target_labels(self, labels: Array) -> Array:
        """The class that the attacker wants for images of each class, [b] int; the labels themselves for none."""

    def to_one_class(self) -> "Poison":
        """The poison with a single target class, for networks too small to learn one for each class."""
        return self

    def check(self, shape: tuple[int, ...]) -> None:
        """ValueError if it does not fit images [h w c]. Nothing is computed."""
        image = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
        triggered = jax.eval_shape(self.apply_trigger, image)
        if triggered.shape != image.shape:
            raise ValueError(
                f"{type(self).__name__}.apply_trigger must keep the shape of images {shape}, got {triggered.shape[1:]}"
            )


class SurrogatePoison(Poison):
    """A poison whose rows are crafted against a network that the attacker trains on clean data.

    attack: what crafts them, a field; its cost goes into estimates of time.
    """

    attack: LossAttack
    needs_surrogate: ClassVar[bool] = True

    def expected_rows(self, rows: int) -> int:
        """About how many of so many training rows, of classes of equal size, are crafted; at most all of them."""
        return rows

    @abc.abstractmethod
    def perturb(self, logits_fn: LogitsFn, examples: Examples, keys: Array) -> Examples:
        """Rows [b] crafted against the surrogate, images uint8; keys [b], one per row. Kept as the run's result."""

    @abc.abstractmethod
    def crafted(self, rows: Examples) -> Callable[[Examples], Examples]:
        """`apply` for this poison, given all rows [m] that came from `perturb`, sorted by index."""

    def apply(self, examples: Examples) -> Examples:
        """TypeError: there is nothing to apply before the rows are crafted."""
        raise TypeError(f"{type(self).__name__} depends on crafted rows; call crafted(rows) and apply what it returns")
