"""The tables of the README are what the committed records say."""

import pathlib

import pytest

from poisonjax.reports import summary

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize("page", ["README.md", "results/README.md"])
def test_tables_are_not_stale(page):
    expected = summary.pages(ROOT)[ROOT / page]
    assert (ROOT / page).read_text() == expected, "run: python -m poisonjax.reports"


def test_every_record_is_in_both_tables():
    found = summary.load(ROOT / "results")
    assert found, "results/ holds no record"
    for page, text in summary.pages(ROOT).items():
        assert all(record["experiment"] in text for _, record in found), page


def test_a_page_without_the_marks_is_refused():
    with pytest.raises(ValueError, match="has no <!-- results"):
        summary.renewed("nothing here", "text")


def test_only_what_is_between_the_marks_is_replaced():
    page = f"before\n{summary.BEGIN}\nold\n{summary.END}\nafter\n"
    assert summary.renewed(page, "new") == f"before\n{summary.BEGIN}\n\nnew\n\n{summary.END}\nafter\n"
