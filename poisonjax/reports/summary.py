"""The answer for README.md and the tables for results/README.md, made from records alone."""

import pathlib
import re
from collections.abc import Iterable

from poisonjax.reports import answer
from poisonjax.reports.site.reading import Run
from poisonjax.reports.table import COMPARISON, LABELS, MAIN, compared, legend, marked, percent, plural, rows

BEGIN, END = "<!-- results: made by `python -m poisonjax report tables` -->", "<!-- /results -->"
BETWEEN = re.compile(r"<!-- results: made by `[^`]*` -->.*?<!-- /results -->", re.DOTALL)


def _cell(record: dict, arm: str, name: str) -> str:
    reported = record["reported"].get(arm, {}).get(name)
    return marked(record, arm, name) + ("" if reported is None else f" (reported {percent(reported)})")


def _setting(record: dict) -> str:
    """The scale, the seeds and the changed settings of a run."""
    return ", ".join([record["scale"], plural(len(record["seeds"]), "seed"), *record["changed"]])


def short(runs: Iterable[Run]) -> str:
    """One row per arm, and the findings below."""
    body = [
        [_link(run), _setting(run.record), arm] + [_cell(run.record, arm, name) for name in MAIN]
        for run in runs
        for arm in run.record["arms"]
    ]
    records = [run.record for run in runs]
    lines = [f"- **{record['experiment']}** ({_setting(record)}): {record['finding']}" for record in records]
    table = rows(["experiment", "scale", "arm", *(f"{LABELS[name]} %" for name in MAIN)], body)
    return "\n\n".join([table, *legend(table), *renamed(runs), "\n".join(lines)])


def renamed(runs: Iterable[Run]) -> list[str]:
    """A line about arms that the files of older records call something else; none if there are no such records."""
    names = {old: new for run in runs for old, new in run.renamed.items()}
    if not names:
        return []
    pairs = ", ".join(f"`{new}` was `{old}`" for old, new in names.items())
    return [f"Reports and figures of older records have the names of their time: {pairs}."]


def full(runs: Iterable[Run]) -> str:
    """Every reported number beside ours, with its verdict, by table; then the runs without any."""
    runs = list(runs)
    body = [[_link(run), _setting(run.record), *compared(row)] for run in runs for row in run.record["comparison"]]
    body.sort(key=lambda cells: cells[2])  # stable: the largest scale stays first
    others = ", ".join(_link(run) for run in runs if not run.record["comparison"])
    parts = [rows(["experiment", "scale", *COMPARISON], body)]
    return "\n\n".join([*parts, *([f"Without reported numbers: {others}."] if others else []), *renamed(runs)])


def _link(run: Run) -> str:
    return f"[{run.record['experiment']}]({run.path}/report.md)"


def replaced(page: str, text: str) -> str:
    """The page with the text between the two comments replaced. ValueError if it lacks them."""
    if not BETWEEN.search(page):
        raise ValueError(f"the page has no {BEGIN} ... {END}")
    return BETWEEN.sub(lambda _: f"{BEGIN}\n\n{text}\n\n{END}", page, count=1)


def pages(root: pathlib.Path, runs: Iterable[Run]) -> dict[pathlib.Path, str]:
    """README.md and results/README.md of a checkout, as they should be: the answer, and the tables behind it."""
    found = answer.cases(runs)
    texts = {
        root / "README.md": "\n\n".join([answer.headline(found), answer.matrix(found, "results/")]),
        root / "results" / "README.md": "\n\n".join([full(runs), "## All runs", short(runs)]),
    }
    return {path: replaced(path.read_text(), text) for path, text in texts.items()}
