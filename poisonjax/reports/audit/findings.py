"""From what filters made of training rows to findings and a verdict."""

import collections
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from poisonjax.data import Dataset
from poisonjax.data.near_duplicates import NearDuplicates
from poisonjax.defences import RepeatedPatch
from poisonjax.reports.images import class_name

FILTERS = {
    "repeated_patch": "share a patch at one place and at no other",
    "reveal": "are set apart from their class by networks trained under attack",
    "masked_disagreement": "look like another class once a part of them is hidden",
}
HINTS = frozenset({"masked_disagreement"})  # filters that point at hard clean rows too, and raise no alarm
MOST = 0.9  # of the planted rows: so many have to be named for a poison to count as found


class SharedPatch(NamedTuple):
    """A patch that rows share. top, left: its upper left corner. size: in pixels. rows: how many of them do."""

    top: int
    left: int
    size: int
    rows: int


class Finding(NamedTuple):
    """Training rows of one class that a filter sets apart.

    label: the class. rows: places [m] in `Dataset.train`, the most suspicious first. scores: their suspicion, [m], in
    the unit of the filter. of: the rows of the class. patch: the one that most of them share, or None.
    """

    filter: str
    label: int
    rows: np.ndarray
    scores: np.ndarray
    of: int
    patch: SharedPatch | None

    @property
    def alarming(self) -> bool:
        """True if clean data raise no such finding, as far as that was measured."""
        return self.filter not in HINTS


class Verdict(NamedTuple):
    """suspicious: True if poison was found. sentence: what was found, or that nothing was."""

    suspicious: bool
    sentence: str


class Planted(NamedTuple):
    """Poison planted as a test in data in which nothing was found.

    poison: as `--poison` takes it. rows: how many were planted. success: attack success rate after standard training,
    a fraction. named: {filter: how many of the rows it names}, of filters that raise an alarm.
    """

    poison: str
    rows: int
    success: float
    named: dict[str, int]

    @property
    def found(self) -> bool:
        """True if one filter names at least MOST of the rows."""
        return max(self.named.values()) >= MOST * self.rows


class Report(NamedTuple):
    """An audit of training data. limits: what it cannot see, a line each.

    facts: settings, measurements and environment, JSON-able. planted: tests of its power, none if not asked for.
    """

    dataset: Dataset
    verdict: Verdict
    findings: Sequence[Finding]
    alike: Sequence[NearDuplicates]
    limits: Sequence[str]
    facts: dict
    planted: Sequence[Planted] = ()


def findings(dataset: Dataset, made: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> list[Finding]:
    """The findings, alarms first and then by size.

    made: {filter: (kept [n] bool, suspicion [n])} for the rows of `dataset.train`.
    """
    labels = np.asarray(dataset.train.label)
    found = [
        _finding(dataset, name, int(label), ~kept & (labels == label), suspicion)
        for name, (kept, suspicion) in made.items()
        for label in np.unique(labels[~kept])
    ]
    return sorted(found, key=lambda each: (not each.alarming, -len(each.rows), each.filter, each.label))


def _finding(dataset: Dataset, name: str, label: int, hit: np.ndarray, suspicion: np.ndarray) -> Finding:
    rows = np.flatnonzero(hit)
    rows = rows[np.argsort(-suspicion[rows], kind="stable")]
    of = int((np.asarray(dataset.train.label) == label).sum())
    return Finding(name, label, rows, suspicion[rows], of, _shared_patch(dataset.train.image[rows]))


def _shared_patch(images: np.ndarray) -> SharedPatch | None:
    """The patch that most of the images [m h w c] share at one place and at no other, if half of them do."""
    look = RepeatedPatch()
    found = [repeat for repeat in look.repeats(images) if len(repeat.rows) >= len(images) / 2]
    if not found:
        return None
    (top, left), rows, _ = max(found, key=lambda repeat: (len(repeat.rows), repeat.place))
    return SharedPatch(top, left, look.size, len(rows))


def verdict(dataset: Dataset, found: Sequence[Finding]) -> Verdict:
    """The verdict in a sentence. Hints count for nothing: clean data have them too."""
    rows, of = suspicious_rows(found), len(dataset.train.label)
    if not len(rows):
        return Verdict(False, f"Nothing was found in {of:,} training rows.")
    whose = _whose(collections.Counter(np.asarray(dataset.train.label)[rows].tolist()), dataset)
    return Verdict(True, f"{len(rows):,} of {of:,} training rows look poisoned, {whose}.")


def _whose(rows: collections.Counter, dataset: Dataset) -> str:
    """The classes of suspicious rows, {label: how many}, in words; only the commonest if three quarters are of it."""
    classes = [(class_name(label, dataset.label_names), count) for label, count in rows.most_common()]
    first, most = classes[0]
    if most >= 0.75 * rows.total():
        return f"{'all' if len(classes) == 1 else f'{most:,} of them'} of class {first}"
    more = f" and {len(classes) - 5} more" if len(classes) > 5 else ""
    return f"of {len(classes)} classes ({', '.join(name for name, _ in classes[:5])}{more})"


def suspicious_rows(found: Sequence[Finding]) -> np.ndarray:
    """Places in `Dataset.train` of all rows of alarming findings, [m], in order."""
    rows = [each.rows for each in found if each.alarming]
    return np.unique(np.concatenate(rows)) if rows else np.zeros(0, np.int64)


def power(planted: Sequence[Planted]) -> str:
    """What the tests with planted poison say of "nothing found", in a sentence."""
    seen = sum(each.found for each in planted)
    return (
        f"Poison was planted in these rows as a test: a filter that raises an alarm named at least {MOST:.0%} of its "
        f"rows in {seen} of {len(planted)} tests."
    )
