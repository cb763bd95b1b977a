"""An audit of a folder with planted poison, and of one without, from the command line to every file."""

import csv
import json

import numpy as np
import pytest
import tiny_folder

from poisonjax.cli import main
from poisonjax.poisons import BadNets, NoPoison
from poisonjax.runs import audit

ROWS = 600


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    """Networks that are hardly trained; the filter that trains none finds a fixed patch on its own."""
    monkeypatch.setattr(audit, "IMAGES", 1)
    monkeypatch.setattr(audit, "EPOCHS", (1, 1))
    monkeypatch.setattr(audit, "STEPS", 1)


@pytest.fixture(scope="module")
def poisoned_folder(data_dir, tmp_path_factory):
    return tiny_folder.write(tmp_path_factory.mktemp("poisoned"), data_dir, BadNets(0.1, 4), ROWS)


def run(folder, out, data_dir, *flags):
    return main(["audit", "data", f"folder:{folder}", f"--out={out}", f"--data_dir={data_dir}", "--budgets=.2", *flags])


def test_planted_rows_are_named_in_every_file(poisoned_folder, data_dir, tmp_path, capsys):
    folder, files = poisoned_folder
    assert run(folder, tmp_path / "out", data_dir) == 3
    assert "of 600 training rows look poisoned" in capsys.readouterr().out
    made = json.loads((tmp_path / "out" / "audit.json").read_text())
    alarm = next(found for found in made["findings"] if found["filter"] == "repeated_patch")
    assert made["suspicious"] and alarm["rows"] == alarm["patch"]["rows"] == 60
    assert (alarm["patch"]["top"], alarm["patch"]["left"]) >= (22, 22)
    rows = list(csv.DictReader((tmp_path / "out" / "suspicious.csv").open()))
    assert {row["file"] for row in rows if row["filter"] == "repeated_patch"} == files
    assert (~np.load(tmp_path / "out" / "keep.npy")).sum() >= 60
    (log,) = json.loads((tmp_path / "out" / "audit.sarif").read_text())["runs"]
    results = [result for result in log["results"] if result["ruleId"] == "repeated_patch"]
    places = {result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for result in results}
    assert places == {name.replace(" ", "%20") for name in files}
    page = (tmp_path / "out" / "audit.html").read_text()
    assert "look poisoned" in page and "row 25, column 25" in page and page.count("data:image/png") > 24
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()}
    assert len(before) == 5 and run(folder, tmp_path / "out", data_dir) == 3
    assert before == {path: path.read_bytes() for path in before}  # resumed, to the same bytes


def test_clean_rows_raise_no_alarm(data_dir, tmp_path, capsys):
    folder, _ = tiny_folder.write(tmp_path / "clean", data_dir, NoPoison(), ROWS)
    assert run(folder, tmp_path / "out", data_dir, "--power=.1") == 0
    said = capsys.readouterr().out
    assert "Nothing was found in 600 training rows." in said and "of its rows in 2 of 2 tests." in said
    made = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert not made["suspicious"] and any("fewer than 30 rows (5.00%)" in line for line in made["limits"])
    assert np.load(tmp_path / "out" / "keep.npy").all()
    patch, blend = made["planted"]
    assert patch["poison"] == "BadNets(0.1, 0, BrightSquare(3))" and blend["poison"] == "BadNets(0.1, 0, Blend(.2))"
    assert (patch["rows"], patch["named"]["repeated_patch"], patch["found"]) == (60, 60, True)
    assert blend["rows"] == 60 and blend["named"]["repeated_patch"] >= 54  # on a black margin a blend is a patch


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--budgets=0"], "--budgets=0: must be numbers in (0, 1]"),
        (["--budgets=.1,x"], "--budgets=.1,x: must be numbers in (0, 1]"),
        (["--power=2"], "--power=2: must be numbers in (0, 1]"),
        (["--channels=2"], "channels must be 1 or 3, got 2"),
    ],
)
def test_bad_flags_are_one_line(flags, message, poisoned_folder, data_dir, tmp_path, capsys):
    assert run(poisoned_folder[0], tmp_path / "out", data_dir, *flags) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line and not (tmp_path / "out").exists()


def test_the_data_and_a_place_for_the_report_are_required(capsys):
    assert main(["audit", "data"]) == 2
    assert "--out, source are required" in capsys.readouterr().err


def test_rows_of_features_are_refused(tmp_path, capsys):
    assert main(["audit", "data", "phishing", f"--out={tmp_path}/out"]) == 2
    assert "phishing: has rows of features; an audit is for images" in capsys.readouterr().err


def test_unknown_data_are_refused_with_what_is_allowed(tmp_path, capsys):
    assert main(["audit", "data", "foldr:x", f"--out={tmp_path}/out"]) == 2
    assert (
        "allowed are mnist, cifar10, mnist_5k, phishing, spambase, ember:PATH, folder:PATH" in capsys.readouterr().err
    )
