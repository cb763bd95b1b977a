"""The README and the tables of the results are what the committed records say."""

import pathlib

import pytest

from poisonjax.reports import answer, summary, table
from poisonjax.reports.site import reading
from tests.reports import records as synthetic

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize("page", ["README.md", "results/README.md"])
def test_tables_are_not_stale(page):
    expected = summary.pages(ROOT, reading.collect(ROOT / "results").runs)[ROOT / page]
    assert (ROOT / page).read_text() == expected, "run: python -m poisonjax report tables"


def test_every_record_is_in_the_tables_and_every_case_in_the_answer():
    runs = reading.collect(ROOT / "results").runs
    pages = summary.pages(ROOT, runs)
    assert runs, "results/ holds no record"
    for run in runs:
        assert pages[ROOT / "results" / "README.md"].count(f"[{run.record['experiment']}]({run.path}/report.md)") >= 2
    for case in answer.cases(runs):
        assert f"[{answer.poison(case)}](results/{case.run.path}/report.md)" in pages[ROOT / "README.md"]


def test_a_page_without_the_marks_is_refused():
    with pytest.raises(ValueError, match="has no <!-- results"):
        summary.replaced("nothing here", "text")


def test_only_what_is_between_the_marks_is_replaced():
    for begin in (summary.BEGIN, "<!-- results: made by `an older command` -->"):
        page = f"before\n{begin}\nold\n{summary.END}\nafter\n"
        assert summary.replaced(page, "new\\1") == f"before\n{summary.BEGIN}\n\nnew\\1\n\n{summary.END}\nafter\n"


def test_numbers_that_mean_nothing_are_marked(tmp_path):
    made = synthetic.record(rates={"standard": {}, "pgd_at": {}})
    made["warnings"] = ["pgd_at, seed 0: collapsed: every clean test image is predicted as class 3"]
    synthetic.save(tmp_path, made)
    text = summary.short(reading.collect(tmp_path).runs)
    (standard,), (void,) = ([line for line in text.splitlines() if f"| {arm} |" in line] for arm in made["arms"])
    assert void.count(table.VOID) == len(table.MAIN) and table.VOID not in standard
    assert f"{table.VOID} {table.MARKS[table.VOID]}" in text.splitlines()


def test_arms_that_older_files_call_something_else_are_named():
    text = summary.full(reading.collect(ROOT / "results").runs)
    assert "`pgd_at` was `pgd_at_madry`" in text
