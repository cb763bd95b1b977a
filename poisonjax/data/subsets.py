"""Subsets of the rows of a split."""

import abc
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from poisonjax.types import Examples, take


class Subset(abc.ABC):
    """The rows of a split that are used. A new one is a frozen dataclass with `__call__`."""

    @abc.abstractmethod
    def __call__(self, examples: Examples) -> Examples:
        """Some rows of a whole split [n], numpy arrays: pure, whole rows in split order, with their `index`.

        ValueError, naming the subset, if the split does not have them.
        """

    def fitted(self) -> "Subset":
        """The subset to use instead on data of one's own, whose classes are others and may have fewer rows."""
        return self


@dataclass(frozen=True)
class All(Subset):
    """Every row."""

    def __call__(self, examples: Examples) -> Examples:
        return examples


@dataclass(frozen=True)
class Stratified(Subset):
    """The first rows/k rows of each of the k classes; ValueError if k does not divide rows or a class is short."""

    rows: int

    def __post_init__(self) -> None:
        _check_positive(self, "rows")

    def __call__(self, examples: Examples) -> Examples:
        classes = np.unique(examples.label).tolist()
        if not classes or self.rows % len(classes):
            raise ValueError(f"{self}: rows must be a multiple of the {len(classes)} classes")
        return _first(examples, dict.fromkeys(classes, self.rows // len(classes)), self)

    def fitted(self) -> Subset:
        """At most as many rows."""
        return AtMost(self.rows)


@dataclass(frozen=True)
class AtMost(Subset):
    """The first rows/k rows, rounded up, of each of the k classes; all of a class that has fewer."""

    rows: int

    def __post_init__(self) -> None:
        _check_positive(self, "rows")

    def __call__(self, examples: Examples) -> Examples:
        classes, sizes = np.unique(examples.label, return_counts=True)
        share = -(-self.rows // max(len(classes), 1))
        return _first(examples, dict(zip(classes.tolist(), np.minimum(sizes, share).tolist(), strict=True)), self)


@dataclass(frozen=True)
class Unbalanced(Subset):
    """The first `majority` rows of each class, but only `minority` of one: the report's "unbalanced MNIST"."""

    minority: int = 500
    majority: int = 5000
    minority_class: int = 0

    def __post_init__(self) -> None:
        _check_positive(self, "minority", "majority")

    def __call__(self, examples: Examples) -> Examples:
        classes = np.unique(examples.label).tolist()
        if self.minority_class not in classes:
            raise ValueError(f"{self}: minority_class must be one of the classes {classes}")
        counts = dict.fromkeys(classes, self.majority) | {self.minority_class: self.minority}
        return _first(examples, counts, self)


def _check_positive(subset: Subset, *fields: str) -> None:
    for field in fields:
        value = getattr(subset, field)
        if type(value) is not int or value < 1:
            raise ValueError(f"{field} must be a whole number of at least 1, got {value!r}")


def _first(examples: Examples, counts: Mapping[int, int], subset: Subset) -> Examples:
    """The first counts[c] rows of each class c, in split order."""
    rows = {label: np.flatnonzero(examples.label == label)[:count] for label, count in counts.items()}
    for label, count in counts.items():
        if len(rows[label]) < count:
            raise ValueError(f"{subset}: needs {count} rows of class {label}, there are {len(rows[label])}")
    return take(examples, np.sort(np.concatenate([*rows.values(), np.empty(0, np.int64)])))
