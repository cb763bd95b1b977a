"""The contract of a poison, and of what is added to another one."""

import abc
import dataclasses
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp

from poisonjax.attacks import LossAttack
from poisonjax.poisons.aim import BACKDOOR, Aim
from poisonjax.types import Array, Examples, LogitsFn, to_bytes, to_unit

# Images [b ...] in [0, 1] -> logits [b k], features [b d]: a `Partial` whose first argument is the parameters.
Outputs = Callable[[Array], tuple[Array, Array]]


class Poison(abc.ABC):
    """A training-time attack: which rows change and how, and the trigger that exploits it at test time.

    Rows are poisoned, or cover rows: these show the trigger too, but keep their label, so that poisoned rows do not
    stand out (Tan & Shokri 2020 and Qi et al. 2023 say against what). Most poisons have no cover rows. A record counts
    them on their own, neither as poisoned rows found nor as clean rows lost.

    A new one is a frozen dataclass of numbers, strings, tuples and dataclasses, so that it can be saved and hashed. Its
    methods are pure; all but `select` and `cover` are traced by jax. `rate`, `cover_rate`, `target` and `classes` are
    checked here; a member with a `__post_init__` of its own calls `super().__post_init__()`. One whose rows are crafted
    against a network derives from `SurrogatePoison`.

    classes: of the data set, a field. aim: what the attacker wants, by which its success is told. has_trigger: False if
    the attacker shows test images as they are. poisons: False for the baseline without an attack. needs_surrogate: True
    for a `SurrogatePoison`, and for what wraps one; one that is none has the attack None then. needs_rows: True for one
    that is to be `fitted` before it can be applied.
    """

    classes: int
    aim: ClassVar[Aim] = BACKDOOR
    has_trigger: ClassVar[bool] = True
    poisons: ClassVar[bool] = True
    needs_surrogate: ClassVar[bool] = False
    needs_rows: ClassVar[bool] = False

    def __post_init__(self):
        """ValueError without classes, or for rates outside (0, 1] or a target that is no class, if it has them."""
        target, classes = (getattr(self, name, None) for name in ("target", "classes"))
        if classes is None:
            raise ValueError(f"{type(self).__name__} needs the field classes, the number of classes of the data set")
        for name in ("rate", "cover_rate"):
            rate = getattr(self, name, None)
            if rate is not None and not 0 < rate <= 1:
                raise ValueError(f"{name} must lie in (0, 1], got {rate}")
        if target is not None and not 0 <= target < classes:
            raise ValueError(f"target must be one of the classes 0 to {classes - 1}, got {target}")

    @abc.abstractmethod
    def select(self, labels: Array, key: Array) -> Array:
        """labels [n] int -> mask [n] bool with exactly the promised number of rows. ValueError if they are too few."""

    @abc.abstractmethod
    def apply(self, examples: Examples) -> Examples:
        """Every given row [b] poisoned, images uint8: row by row; shapes, dtypes and `index` are kept."""

    def cover(self, labels: Array, selected: Array, key: Array) -> Array:
        """Mask [n] bool with exactly the promised number of cover rows, none of which is selected [n]; none here.

        labels: [n] int. ValueError if they are too few.
        """
        return jnp.zeros(labels.shape, bool)

    def apply_cover(self, examples: Examples) -> Examples:
        """Every given row [b] as a cover row, images uint8: here as at test time, with its label kept."""
        return examples._replace(image=to_bytes(self.apply_trigger(to_unit(examples.image))))

    @abc.abstractmethod
    def apply_trigger(self, image: Array) -> Array:
        """Images [b ...] in [0, 1] as the attacker shows them at test time, of the same shape and in [0, 1]."""

    @abc.abstractmethod
    def target_labels(self, labels: Array) -> Array:
        """The class that the attacker wants for images of each class, [b] int; the labels themselves for none."""

    def fitted(self, rows: Examples, surrogate: Callable[[], Outputs]) -> "Poison":
        """The poison fitted to the clean training rows [n], for one that `needs_rows`; `select` works without.

        surrogate: trains the attacker's own network on them, if it is called. What comes back is saved as the run's
        result, and needs neither.
        """
        return self

    def facts(self) -> dict[str, str]:
        """Text for the record on what it was fitted to, by name."""
        return {}

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

    attack: what crafts them, a field; its cost goes into estimates of time. needs_centres: True if `view` takes the
    mean features of each class of the clean training rows. joint: True if what becomes of a row depends on the others;
    all of them are crafted at once then, on each device. rounds: of a joint one, each against a network trained anew on
    the rows that the one before left; with more than one, `perturb` has a further argument, those rows [b].
    """

    attack: LossAttack
    needs_surrogate: ClassVar[bool] = True
    needs_centres: ClassVar[bool] = False
    joint: ClassVar[bool] = False
    rounds: int = 1

    def expected_rows(self, rows: int) -> int:
        """About how many of so many training rows, of classes of equal size, are crafted; at most all of them."""
        return rows

    def sources(self, rows: Examples) -> Examples | None:
        """Those of the clean training rows [n], on the host, that `view` takes; None if it takes none."""
        return None

    def view(self, outputs: Outputs, given: Array | Examples | None) -> LogitsFn:
        """The surrogate as `perturb` sees it, by default its logits; pure. given: centres [k d], or sources, if any."""
        return lambda x: outputs(x)[0]

    @abc.abstractmethod
    def perturb(self, logits_fn: LogitsFn, examples: Examples, keys: Array) -> Examples:
        """Rows [b] crafted against the surrogate's `view`, images uint8; keys [b], one per row. Kept as a result."""

    @abc.abstractmethod
    def crafted(self, rows: Examples) -> Callable[[Examples], Examples]:
        """`apply` for this poison, given all rows [m] that came from `perturb`, sorted by index."""

    def apply(self, examples: Examples) -> Examples:
        """TypeError: there is nothing to apply before the rows are crafted."""
        raise TypeError(f"{type(self).__name__} depends on crafted rows; call crafted(rows) and apply what it returns")


class Wrapped(Poison):
    """Another poison with something added, which has all that the other has.

    A new one is a frozen dataclass that says what it adds. poison: the other one, a field.
    """

    poison: Poison
    classes = property(lambda self: self.poison.classes)
    poisons = property(lambda self: self.poison.poisons)
    aim = property(lambda self: self.poison.aim)
    has_trigger = property(lambda self: self.poison.has_trigger)
    needs_surrogate = property(lambda self: self.poison.needs_surrogate)
    needs_centres = property(lambda self: self.poison.needs_centres)
    needs_rows = property(lambda self: self.poison.needs_rows)
    joint = property(lambda self: self.poison.joint)
    rounds = property(lambda self: self.poison.rounds)
    attack = property(lambda self: self.poison.attack)

    def select(self, labels: Array, key: Array) -> Array:
        """The rows [n] of the other poison."""
        return self.poison.select(labels, key)

    def cover(self, labels: Array, selected: Array, key: Array) -> Array:
        """The cover rows [n] of the other poison."""
        return self.poison.cover(labels, selected, key)

    def alter(self, poisoned: Examples) -> Examples:
        """Poisoned rows [b] of the other poison as this one has them: unchanged here."""
        return poisoned

    def apply(self, examples: Examples) -> Examples:
        """Every given row [b] poisoned by the other poison, and altered."""
        return self.alter(self.poison.apply(examples))

    def apply_cover(self, examples: Examples) -> Examples:
        """Every given row [b] as a cover row of the other poison."""
        return self.poison.apply_cover(examples)

    def apply_trigger(self, image: Array) -> Array:
        """Images [b h w c] as the other poison shows them at test time."""
        return self.poison.apply_trigger(image)

    def target_labels(self, labels: Array) -> Array:
        """The class that the attacker wants for images of each class, [b]."""
        return self.poison.target_labels(labels)

    def fitted(self, rows: Examples, surrogate: Callable[[], Outputs]) -> "Wrapped":
        """The same around the other poison, fitted to the clean training rows [n]."""
        return dataclasses.replace(self, poison=self.poison.fitted(rows, surrogate))

    def facts(self) -> dict[str, str]:
        """Text for the record on what the other poison was fitted to, by name."""
        return self.poison.facts()

    def to_one_class(self) -> "Wrapped":
        """The same around the other poison with a single target class."""
        return dataclasses.replace(self, poison=self.poison.to_one_class())

    def expected_rows(self, rows: int) -> int:
        """About how many of so many training rows are crafted, if the other poison needs a surrogate."""
        return self.poison.expected_rows(rows)

    def sources(self, rows: Examples) -> Examples | None:
        """The clean training rows that the other poison's `view` takes, if it needs a surrogate."""
        return self.poison.sources(rows)

    def view(self, outputs: Outputs, given: Array | Examples | None) -> LogitsFn:
        """The surrogate as the other poison sees it, if that needs one."""
        return self.poison.view(outputs, given)

    def perturb(self, logits_fn: LogitsFn, examples: Examples, keys: Array, *before: Examples) -> Examples:
        """Rows [b] crafted as by the other poison, if it needs a surrogate."""
        return self.poison.perturb(logits_fn, examples, keys, *before)

    def crafted(self, rows: Examples) -> Callable[[Examples], Examples]:
        """`apply`, given the crafted rows [m] of the other poison, if it needs a surrogate."""
        apply = self.poison.crafted(rows)
        return lambda examples: self.alter(apply(examples))
