"""report.md: what it shows of a record, and what it leaves out."""

import copy
import re

import pytest

from poisonjax.evaluation.metrics import METRICS
from poisonjax.reports import table
from tests.reports import records as synthetic


def sections(text: str) -> dict[str, str]:
    """{heading: text below it}, folded or not; "" for the text above the first."""
    first, *parts = re.split(r"\n(?:## (.*)|<details><summary>(.*)</summary>)\n", text)
    return {"": first} | {
        open_ or folded: below for open_, folded, below in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    }


def shown(made: dict) -> dict[str, str]:
    return sections(table.markdown(made, ["figures/results.png"]))


def rows(text: str) -> list[list[str]]:
    """The cells of the tables of a text, without their headers."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return [cells for cells in lines if not {*cells} <= {"---"}]


@pytest.fixture(scope="module")
def defended() -> dict[str, str]:
    return shown(synthetic.defended_record())


def test_every_metric_that_an_arm_has_is_shown_with_its_counts(defended):
    made = synthetic.defended_record()
    cells = {(arm, metric): (value, counts) for arm, metric, value, counts in rows(defended["All metrics"])[1:]}
    expected = {(arm, METRICS[name]) for arm, fields in made["arms"].items() for name in METRICS if name in fields}
    assert cells.keys() == expected
    cell = made["arms"]["detector"]["autoattack_accuracy"]
    counts = f"{cell['numerator'][0]}/{cell['denominator'][0]}"
    assert cells["detector", "AutoAttack accuracy"] == (table.measured(cell), counts)


def test_main_results_stand_above_everything_with_their_marks(defended):
    header, *body = rows(defended[""])
    assert header[1:] == [f"{METRICS[name]} %" for name in (*table.MAIN, "autoattack_accuracy")]
    by_arm = {arm: cells for arm, *cells in body}
    assert all(cell.endswith(table.VOID) for cell in by_arm["filter"][:4]) and by_arm["filter"][4] == "–"
    assert [table.GATED in cell for cell in by_arm["standard"]] == [False, True, True, False, False]
    assert all(f"{sign} {meaning}" in defended[""] for sign, meaning in table.MARKS.items())
    assert not any(sign in shown(synthetic.record())[""] for sign in table.MARKS)


def test_removed_rows_and_rejected_images_are_shown_with_their_counts(defended):
    made = synthetic.defended_record()["arms"]
    header, filtered, detector = rows(defended["Rows removed and images rejected"])
    assert header[:4] == ["arm", "defence", "poisoned rows removed (TPR) %", "clean rows removed (FPR) %"]
    cell = made["filter"]["poisoned_rows_removed"]
    removed = f"{table.measured(cell)} ({cell['numerator'][0]}/{cell['denominator'][0]})"
    assert filtered[:3] == ["filter", "experiments.mine:Filter", removed] and filtered[4:7] == ["–"] * 3
    assert detector[2:4] == ["–"] * 2 and "–" not in detector[4:7]
    assert header[7:] == ["area under the ROC curve %", "poisoned rows found at 1% false positives %"]
    assert filtered[7:] == ["87.50", "50.00"] and detector[7:] == ["–", "–"]
    assert "Rows removed and images rejected" not in shown(synthetic.record())


def test_networks_say_how_they_learnt_and_what_defends_them(defended):
    by_arm = {cells[0]: cells[1:4] for cells in rows(defended["Networks"])}
    assert by_arm["standard"] == ["Standard", "–", "yes"]
    assert by_arm["filter"] == ["AdversarialTraining (PGD, Linf 0.3)", "experiments.mine:Filter", "yes"]
    assert by_arm["detector"] == ["experiments.mine:Mixed (experiments.mine:Noise)", "–", "yes"]


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (None, "–"),
        ({"type": "Standard", "temperature": 1.0}, "Standard"),
        (
            {"type": "TRADES", "attack": {"type": "PGD", "ball": {"type": "L2", "eps": 8 / 255}}},
            "TRADES (PGD, L2 0.0314)",
        ),
        ({"type": "a.b:C", "attack": {"type": "a:D", "ball": "round"}}, "a.b:C (a:D)"),
        ({"type": "a.b:C", "attack": {"type": "a:D", "ball": {"type": "a:E"}}}, "a.b:C (a:D, a:E)"),
        ({"type": "a.b:C", "attack": {}}, "a.b:C (?)"),
        ({"type": "a.b:C", "attack": "strong"}, "a.b:C"),
    ],
)
def test_parts_of_the_configuration_in_a_few_words(part, words):
    assert table.named(part) == words


def test_analyses_that_no_reader_knows_have_a_section(defended):
    assert rows(defended["Depths"]) == [["arm", "depth"], ["standard", "3.5"], ["filter", "–"]]
    assert "A note." in defended["Depths"] and "Silent" not in defended


def test_doubts_of_an_analysis_are_shown_without_tables_too():
    made = synthetic.record()
    made["analyses"]["x"] = synthetic.analysis("X", {}, audit=["standard, seed 0: doubtful"])
    assert "- standard, seed 0: doubtful" in shown(made)["X"]


def test_text_of_a_cell_stays_in_its_cell():
    text = table.rows(["a", "b"], [["x | y", "line\nbreak"]])
    assert text.splitlines()[2:] == ["| x \\| y | line break |"]


@pytest.mark.parametrize(
    ("gate", "words"),
    [
        (None, "No attack gate. No poisoning: clean baselines."),
        (
            synthetic.gate(0.95, 0.05),
            "Attack gate passed: attack success rate 95.00% after standard training, 5.00% on clean data (control), "
            "excess 94.74% of what the control leaves; at least 50.00% needed.",
        ),
        (
            synthetic.gate(0.4, None),
            "Attack gate failed: attack success rate 40.00% after standard training, no control on clean data; at "
            "least 50.00% needed.",
        ),
    ],
)
def test_the_gate_is_a_sentence_with_its_numbers(gate, words):
    made = synthetic.record()
    made["attack_gate"] = gate
    assert words in shown(made)[""]


def test_a_page_goes_from_the_finding_to_the_details():
    made = synthetic.record(reported=[{"arm": "standard", "metric": "clean_accuracy", "reported": 0.9}])
    made["warnings"] = ["a warning of the settings"]
    page = table.markdown(made, ["figures/own.png", "figures/curves.png", "figures/results.png"])
    figures = [f"](figures/{name}.png)" for name in ("results", "own", "curves")]
    parts = [made["finding"], "| arm |", *figures, made["warnings"][0], made["reasons"][0], "## Reported and measured"]
    folds = ("All metrics", "By true class (%)", "Poison", "Networks", "Setting", "Configuration")
    places = [page.index(part) for part in (*parts, *(f"<details><summary>{fold}</summary>\n\n" for fold in folds))]
    assert places == sorted(places)
    assert page.count("<details>") == page.count("\n\n</details>\n") == len(folds)


def test_reported_numbers_have_a_section_only_where_there_are_some():
    row = {"arm": "standard", "metric": "clean_accuracy", "reported": 0.9}
    made, none = synthetic.record(reported=[row]), shown(synthetic.record())
    assert made["reasons"][0] in shown(made)["Caveats"] and "Reported and measured (T6)" in shown(made)
    assert none["Caveats"].strip() == "No warnings." and not any("Reported" in heading for heading in none)
    made["paper_table"], made["reasons"] = "", []
    assert "Reported and measured" in shown(made) and shown(made)["Caveats"].strip() == "No warnings."


def test_classes_have_their_names_where_there_are_names():
    made = synthetic.record()
    numbers = rows(shown(made)["By true class (%)"])[0]
    made["dataset"]["label_names"] = [f"name {label}" for label in range(10)]
    names = rows(shown(made)["By true class (%)"])[0]
    assert numbers == ["arm", *map(str, range(10))] and names == ["arm", *made["dataset"]["label_names"]]


@pytest.mark.parametrize(
    ("mean", "std", "words"),
    [(4970.7, None, "4,970"), (0.03125, 0.001, "0.0312 ± 0.001"), (4000.0, 123.0, "4,000 ± 120"), (None, None, "–")],
)
def test_numbers_that_are_no_percentage(mean, std, words):
    assert table.plain({"mean": mean, "std": std}) == words


def test_cover_rows_are_said_to_be_counted_on_their_own():
    made = synthetic.defended_record()
    made["poison"][0]["cover"] = 80
    made["arms"]["filter"]["cover_rows_removed"] = made["arms"]["filter"]["clean_rows_removed"]
    page = shown(made)
    assert "rows poisoned, 80 cover rows (with the trigger and their own label; counted on" in page["Poison"]
    header, filtered, detector = rows(page["Rows removed and images rejected"])
    place = header.index("cover rows removed %")
    assert filtered[place] == filtered[header.index("clean rows removed (FPR) %")] and detector[place] == "–"


def test_a_gate_on_accuracy_says_so_and_marks_it_where_it_failed():
    made = synthetic.spoilt_record()
    assert table.gate(made) == (
        "Attack gate passed:",
        "clean accuracy 20.00% after standard training, 98.00% on clean data (control), "
        "loss 79.59% of that; at least 10.00% needed.",
    )
    assert table.mark(made, "pgd_at", "clean_accuracy") == ""
    made["attack_gate"]["passed"] = False
    assert table.mark(made, "pgd_at", "clean_accuracy") == table.GATED


def test_poison_has_its_rows_and_the_surrogate():
    made = copy.deepcopy(synthetic.record())
    made["poison"][0]["surrogate"] = {"clean_accuracy": 0.95, "robust_accuracy": 0.5}
    line = "- seed 0: 400 of 4,000 training rows poisoned; the attacker's surrogate has 95.00% clean and 50.00% PGD"
    assert line in shown(made)["Poison"]
    assert shown(synthetic.record(poisoned=False))["Poison"].split() == ["None.", "</details>"]
