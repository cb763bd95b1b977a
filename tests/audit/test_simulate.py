"""Attacks tried out on a folder of one's own: every point a run, a sentence each, resumed, and what is refused."""

import json

import pytest
import tiny_folder

from poisonjax.cli import main
from poisonjax.poisons import NoPoison
from poisonjax.reports import simulation
from poisonjax.runs import audit


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    monkeypatch.setattr(audit, "IMAGES", 1)
    monkeypatch.setattr(audit, "EPOCHS", (1, 1))
    monkeypatch.setattr(audit, "STEPS", 1)
    monkeypatch.setattr(audit, "GREY", (0.2,))


def run(folder, out, data_dir, *flags):
    return main(["simulate", f"folder:{folder}", f"--out={out}", f"--data_dir={data_dir}", *flags])


def test_an_attack_is_tried_at_each_rate_and_told_in_a_sentence(data_dir, tmp_path, capsys):
    folder, _ = tiny_folder.write(tmp_path / "images", data_dir, NoPoison(), 600)
    flags = ["--rates=.1", "--poison=BadNets({rate}, 0, BrightSquare(4))"]
    assert run(folder, tmp_path / "out", data_dir, *flags) == 0
    said = capsys.readouterr().out
    assert "BadNets(0.1, 0, BrightSquare(4)): 60 of 600 rows (10.00 %) make" in said
    (row,) = json.loads((tmp_path / "out" / "simulation.json").read_text())
    assert (row["rows"], row["of"]) == (60, 600) and list(row["trainings"]) == [
        "standard",
        "pgd_at",
        "repeated_patch",
        "reveal",
    ]
    page = (tmp_path / "out" / "simulation.md").read_text()
    assert simulation.sentence(row) in page and "| `BadNets(0.1, 0, BrightSquare(4))` | 60 |" in page
    assert run(folder, tmp_path / "out", data_dir, *flags) == 0
    assert (tmp_path / "out" / "simulation.md").read_text() == page


def row(standard, **others):
    trainings = {name: {"attack_success_rate": asr, "clean_accuracy": 0.95} for name, asr in others.items()}
    trainings["standard"] = {"attack_success_rate": standard, "clean_accuracy": 0.96}
    control = {"attack_success_rate": 0.0, "clean_accuracy": 0.97}
    return {"poison": "P", "rows": 3, "of": 1000, "works": standard > 0.5, "trainings": trainings, "control": control}


def test_the_sentence_names_the_training_that_leaves_least():
    assert simulation.sentence(row(0.98, pgd_at=0.99, reveal=0.01)) == (
        "P: 3 of 1,000 rows (0.30 %) make 98.00 % of triggered images go where the attacker wants; "
        "reveal leaves 1.00 %, and costs 2.0 points of accuracy."
    )


def test_nothing_is_said_of_defences_where_the_attack_fails():
    assert simulation.sentence(row(0.1, reveal=0.0)).endswith("so that the attack does not work here.")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--rates=0"], "--rates=0: must be numbers in (0, 1]"),
        (["--poison=BadNets(.1, 0)"], "must have {rate} where the rate goes"),
        (["--poison=BadNet({rate}, 0)"], "BadNets"),
        (["--poison=BadNets({rate}, 12)"], "target must be one of the classes 0 to 9, got 12"),
    ],
)
def test_bad_flags_are_one_line(flags, message, data_dir, tmp_path, capsys):
    words = ["simulate", "mnist_5k", f"--out={tmp_path}/out", f"--data_dir={data_dir}", *flags]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line and not (tmp_path / "out").exists()
