"""Agenda of a job: all networks that it trains and judges, where it stands, and how long the rest will take."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import NamedTuple

from poisonjax.reports.text import duration

Key = tuple[Hashable, int, str]  # which run, seed, name of the network


class Item(NamedTuple):
    """One network of a job.

    title: where it stands, as arm 2 of 5, seed 1 of 3: pgd_at. label: the same as short as a bar needs it. gradients:
    of one image, that its training takes. pace: what the time of a gradient depends on. chores: what the time of
    everything else, as compiling and judging, depends on.
    """

    key: Key
    title: str
    label: str
    gradients: int
    pace: Hashable
    chores: Hashable


@dataclasses.dataclass
class _Visit:
    """Times of an item. marks: (time, share of the training done) in the beginning, after the first steps, and now."""

    began: float | None = None
    ended: float | None = None
    passed: bool = False
    marks: tuple[tuple[float, float], ...] = ()

    @property
    def share(self) -> float:
        return self.marks[-1][1] if self.marks else 0.0

    def training(self) -> tuple[float, float]:
        """Measured seconds and share of training, without the first steps, before which a program compiles."""
        if len(self.marks) < 3:
            return 0.0, 0.0
        (first, done), (now, share) = self.marks[1:]
        return now - first, share - done

    def chores(self, now: float) -> float:
        """Seconds of everything else."""
        return 0.0 if self.began is None else now - self.began - self.training()[0]


class Agenda:
    """What a job has before it; several threads may work on it, `lanes` of them at a time."""

    def __init__(self, items: Sequence[Item] = (), lanes: int = 1, clock: Callable[[], float] = time.monotonic):
        self._items, self._lanes, self._clock = {item.key: item for item in items}, lanes, clock
        self._visits = {key: _Visit() for key in self._items}  # all of them: threads iterate while others write

    @property
    def empty(self) -> bool:
        """True if no network is on it."""
        return not self._items

    def title(self, key: Key) -> str:
        """Where a network stands, as a line says it."""
        return self._items[key].title if key in self._items else f"seed {key[1]} {key[2]}"

    def label(self, key: Key) -> str:
        """Where a network stands, as a bar shows it."""
        return self._items[key].label if key in self._items else f"seed {key[1]} {key[2]}"

    @contextlib.contextmanager
    def visit(self, key: Key) -> Iterator[None]:
        """Work on a network; one that is not on the agenda is not counted."""
        visit = self._visits.get(key, _Visit())
        visit.began = self._clock()
        yield
        visit.ended, visit.passed = self._clock(), True

    def passed(self, key: Key) -> bool:
        """Tick a network off; True if it was done before, so that nothing was left to do."""
        visit = self._visits.get(key, _Visit())
        visit.passed = True
        return visit.began is None

    def trained(self, key: Key, share: float) -> None:
        """Note that so much of the training is done: in its beginning, and after each call of its program."""
        if key in self._visits:
            visit = self._visits[key]
            visit.marks = (*visit.marks[:2], (self._clock(), share))

    def left(self) -> tuple[float, bool] | None:
        """Estimated seconds until all is done, and whether all parts of them have been measured; otherwise it is more.

        None as long as no training of the kind of one that is left has been measured.
        """
        rates, chores, now = self._rates(), self._chores(), self._clock()
        todo = [(item, visit) for item, visit in self._pairs() if not visit.passed]
        if not todo or any(item.pace not in rates for item, visit in todo if visit.share < 1):
            return None
        training = sum(item.gradients * (1 - visit.share) * rates.get(item.pace, 0.0) for item, visit in todo)
        others = sum(max(0.0, chores.get(item.chores, 0.0) - visit.chores(now)) for item, visit in todo)
        seeds = len({item.key[:2] for item, _ in todo})
        return (training + others) / min(self._lanes, seeds), all(item.chores in chores for item, _ in todo)

    def spell(self) -> str:
        """The time left in words, as about 12 min left; "" as long as it is not known."""
        left = self.left()
        return "" if left is None else f"{'about' if left[1] else 'over'} {duration(left[0])} left"

    def _pairs(self) -> list[tuple[Item, _Visit]]:
        return [(item, self._visits[key]) for key, item in self._items.items()]

    def _rates(self) -> dict[Hashable, float]:
        """{pace: seconds of one gradient}."""
        sums: dict[Hashable, tuple[float, float]] = {}
        for item, visit in self._pairs():
            (seconds, share), (before, gradients) = visit.training(), sums.get(item.pace, (0.0, 0.0))
            sums[item.pace] = before + seconds, gradients + share * item.gradients
        return {pace: seconds / gradients for pace, (seconds, gradients) in sums.items() if gradients > 0}

    def _chores(self) -> dict[Hashable, float]:
        """{chores: seconds of the last that was done here}: the first of them compile more."""
        done = [(visit.ended, item.chores, visit) for item, visit in self._pairs() if visit.ended is not None]
        return {what: visit.chores(ended) for ended, what, visit in sorted(done, key=lambda each: each[0])}
