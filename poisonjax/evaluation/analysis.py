"""Analyses: optional looks at a trained network, each with its own numbers, tables and figures."""

import abc
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from poisonjax.attacks import Attack
from poisonjax.evaluation.victim import Victim, map_rows
from poisonjax.poisons.base import Poison
from poisonjax.types import Array, Examples

Figure = Any  # of matplotlib, which settings are read without


class Subject(NamedTuple):
    """The network that an analysis looks at, and what it may need for that.

    victim, key: on the devices, from `distributed.replicate`. examples: test images. attack: the experiment's test-time
    attack. batch: images at a time. seed: of the run. folder: where arrays and unfinished work may be kept; the
    analysis has it to itself. progress: (name, images) -> a context that takes numbers of images done. train: makes the
    rows that the network learns from, [m], with the labels that it sees. changed: makes the `index` of those that are
    poisoned, and of cover rows. own_attack: what its objective trains against, None for none. history: of its training,
    one row per epoch, with the numbers of `Analysis.curve`; () while it is in training.
    """

    victim: Victim
    examples: Examples
    poison: Poison
    attack: Attack
    key: Array
    batch: int
    seed: int
    folder: Path
    progress: Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
    train: Callable[[], Examples] | None = None
    changed: Callable[[], tuple[Sequence[int], Sequence[int]]] = lambda: ((), ())
    own_attack: Attack | None = None
    history: Sequence[dict] = ()

    def map(self, fn: Callable, examples: Examples, *settings: Hashable) -> Any:
        """fn(victim, examples [b], *settings) over examples [n]; see `victim.map_rows`."""
        return map_rows(fn, self.victim, examples, self.batch, *settings)


class Table(NamedTuple):
    """A table of a report: text cells. title: a heading above it, "" for none. notes: lines below it."""

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: Sequence[str] = ()


class Analysis(abc.ABC):
    """One analysis, as an experiment asks for it; a new one is a frozen dataclass in a file of its own.

    name: in records, folders and figures. heading: of its section in a report. arrays: the type that `collect` returns.
    """

    name: ClassVar[str]
    heading: ClassVar[str]
    arrays: ClassVar[type[NamedTuple]]

    def check(self, examples: Examples, poison: Poison) -> None:  # noqa: B027 (most need no check)
        """ValueError if it cannot be done on these test images [n] or this poison."""

    @abc.abstractmethod
    def collect(self, subject: Subject) -> NamedTuple:
        """Arrays of one network, numpy on the host; kept beside it, and given to the other methods."""

    def measure(self, arrays: NamedTuple, subject: Subject) -> dict:
        """Its numbers, as JSON holds them."""
        return {}

    def curve(self, subject: Subject) -> dict[str, float]:
        """Numbers to record after every epoch of training on poisoned rows.

        One with a slash in its name, as `name/loss`, has no chart of its own on the site: it is for `figures` to draw.
        """
        return {}

    def audit(self, measured: dict) -> list[str]:
        """Reasons to doubt the numbers, one line each."""
        return []

    def summary(self, measured: list[dict]) -> dict:
        """The numbers of several seeds as one: the mean of each."""
        return {name: float(np.mean([numbers[name] for numbers in measured])) for name in measured[0]}

    def tables(self, summaries: dict[str, dict]) -> list[Table]:
        """{arm: summary} -> the tables of a report."""
        return []

    def figures(self, arrays: dict[str, NamedTuple], title: str, names: tuple[str, ...]) -> dict[str, Figure]:
        """{arm: arrays of the first seed} -> {name: figure}. names: of the classes; () for their numbers."""
        return {}
