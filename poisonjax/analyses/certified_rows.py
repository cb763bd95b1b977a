"""Certified accuracy against poisoned rows: images whose prediction by votes stands so many of them."""

import dataclasses
from typing import ClassVar, NamedTuple

import numpy as np

from poisonjax.attacks.settings import check_counts
from poisonjax.defences.dpa import certificate, votes
from poisonjax.evaluation.analysis import Analysis, Figure, Subject, Table
from poisonjax.evaluation.victim import Victim
from poisonjax.reports import statistics, style
from poisonjax.reports.table import plain, spread
from poisonjax.types import Array, Examples, take, to_unit

WRONG = -1  # rows that a wrong prediction stands


class Votes(NamedTuple):
    """votes: [n k], networks for each class. labels: [n], the true ones."""

    votes: np.ndarray
    labels: np.ndarray

    def stands(self) -> np.ndarray:
        """Rows that each prediction stands, [n]; WRONG for one that is not the label."""
        return np.where(np.argmax(self.votes, -1) == self.labels, certificate(self.votes), WRONG)


@dataclasses.dataclass(frozen=True)
class CertifiedRows(Analysis):
    """The share of test images that are right whichever r training rows are inserted or deleted (Levine & Feizi 2021).

    A network without `defences.DPA` is an ensemble of one, of which nothing is certified: its accuracy at 0 rows is its
    accuracy, and 0 beyond.

    rows: the numbers r of the table, ascending. images: how many, the first of the test split. ValueError for an
    impossible value.
    """

    rows: tuple[int, ...] = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500)
    images: int = 1000

    name: ClassVar[str] = "certified_rows"
    arrays: ClassVar[type] = Votes
    heading: ClassVar[str] = "Certified accuracy against poisoned rows"

    def __post_init__(self):
        if not self.rows or min(self.rows) < 0 or list(self.rows) != sorted(set(self.rows)):
            raise ValueError(f"rows must be ascending numbers from 0, got {self.rows}")
        check_counts(self, "images")

    def collect(self, subject: Subject) -> Votes:
        """The votes on the first test images."""
        few = take(subject.examples, slice(self.images))
        return Votes(subject.map(_votes, few), np.asarray(few.label))

    def measure(self, arrays: Votes, subject: Subject) -> dict:
        """certified: {r: [images, of all]}. median: the most rows that at least half of the images stand, or None."""
        stands = arrays.stands()
        median = int(np.sort(stands)[len(stands) // 2])
        certified = {str(rows): [int(np.sum(stands >= rows)), len(stands)] for rows in self.rows}
        return {"certified": certified, "median": None if median == WRONG else median}

    def summary(self, measured: list[dict]) -> dict:
        """Both over seeds, and the number of images."""
        seeds = [seed["certified"] for seed in measured]
        return {
            "certified_accuracy": {
                rows: statistics.spread([seed[rows][0] / seed[rows][1] for seed in seeds]) for rows in seeds[0]
            },
            "median_rows": statistics.spread([seed["median"] for seed in measured]),
            "images": next(iter(seeds[0].values()))[1],
        }

    def tables(self, summaries: dict[str, dict]) -> list[Table]:
        """A row for each arm, a column for each number of rows."""
        header = ["arm", "median rows", *map(str, self.rows)]
        rows = [
            [arm, plain(of["median_rows"]), *map(spread, of["certified_accuracy"].values())]
            for arm, of in summaries.items()
        ]
        note = (
            f"On the first {next(iter(summaries.values()))['images']} test images: right, and provably still right "
            "whichever so many training rows are inserted or deleted; a replaced row counts as two. Median: the most "
            "rows that at least half of the images stand; a dash if fewer are right."
        )
        return [Table("Certified accuracy %, by the rows inserted or deleted", header, rows, [note])]

    @style.styled
    def figures(self, arrays: dict[str, NamedTuple], title: str, names: tuple[str, ...]) -> dict[str, Figure]:
        """The curve of certified accuracy, a line for each arm."""
        figure = style.sheet(3.6, f"{title}: accuracy that so many poisoned rows provably leave")
        axis, looks = figure.subplots(), style.looks(arrays)
        at = np.arange(max(of.stands().max() for of in arrays.values()) + 2)
        for arm, of in arrays.items():
            shares = [float(np.mean(of.stands() >= rows)) for rows in at]
            axis.step(at, shares, where="post", label=arm, lw=1.6, **looks[arm].line(style.LIGHT) | {"marker": ""})
        style.percent_axis(axis, (0.0, 1.0))
        axis.set(xlabel="training rows inserted or deleted", ylabel="certified accuracy, %")
        handles, labels = axis.get_legend_handles_labels()
        style.legend(figure, dict(zip(labels, handles, strict=True)))
        return {"certified_rows": figure}


def _votes(victim: Victim, examples: Examples) -> Array:
    """The votes on examples [b], [b k]."""
    return votes(victim, to_unit(examples.image))
