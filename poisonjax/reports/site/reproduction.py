"""The reported numbers by table, each beside the record that says most about it, without HTML."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from poisonjax.reports.site import views
from poisonjax.reports.site.reading import Run
from poisonjax.scales import rank

VERDICTS = {
    "reproduced": "Our 95% interval lies within the tolerance of the reported number.",
    "not_reproduced": "Our 95% interval lies entirely outside the tolerance.",
    "inconclusive": "Neither, or the run cannot be compared: another scale than the published one, changed settings, "
    "an attack that did not work, or a network that collapsed.",
}


class Claim(NamedTuple):
    """A reported number beside ours. others: the same number in other records, smaller or changed."""

    run: Run
    row: views.Row
    others: tuple["Claim", ...] = ()


class Table(NamedTuple):
    """A table of the report. about: {experiment: its title}."""

    name: str
    about: dict[str, str]
    claims: tuple[Claim, ...]

    @property
    def verdicts(self) -> Counter:
        """How many of its numbers have which verdict."""
        return Counter(claim.row.verdict for claim in self.claims)


def tables(runs: Iterable[Run]) -> list[Table]:
    """Every table of which a record has numbers, in the order of their names."""
    by_number: dict[tuple, list[Claim]] = {}
    for run in sorted(runs, key=_weight):
        for row in views.compared(run.record):
            number = (row.table, run.record["experiment"], row.arm, row.metric, row.reported)
            by_number.setdefault(number, []).append(Claim(run, row))
    claims = [first._replace(others=tuple(rest)) for first, *rest in by_number.values()]
    names = sorted({claim.row.table for claim in claims}, key=_natural)
    return [_table(name, [claim for claim in claims if claim.row.table == name]) for name in names]


def _weight(run: Run) -> tuple:
    """Unchanged settings first, then the largest scale, then most seeds."""
    return bool(run.record["changed"]), rank(run.record["scale"]), -len(run.record["seeds"]), run.path.as_posix()


def _natural(name: str) -> list[tuple[int, str]]:
    """T2 before T10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _table(name: str, claims: list[Claim]) -> Table:
    about = {claim.run.record["experiment"]: claim.run.record["title"] for claim in claims}
    return Table(name, about, tuple(claims))


def tally(found: Iterable[Table]) -> Counter:
    """How many reported numbers have which verdict."""
    return sum((table.verdicts for table in found), Counter())
