"""A probability of a backdoor is worth what the audits that it is learnt from tell, and the report says so."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from poisonjax.cli import main
from poisonjax.data import from_arrays
from poisonjax.defences import Inversion, Patches
from poisonjax.reports.audit import calibration, model
from poisonjax.reports.audit.calibration import Statistics

HEADER = "network,anomaly_index,patch_excess,backdoored"
PAGE = (Path(__file__).parents[2] / "docs" / "audit.md").read_text()


def written(folder, rows, header=HEADER):
    path = folder / "known.csv"
    path.write_text("\n".join([header, *rows, ""]))
    return path


def drawn(backdoored, clean, apart, seed=0):
    """Lines of networks whose statistics are apart by so much of their range, or not at all."""
    rng = np.random.default_rng(seed)
    for truth, number in ((1, backdoored), (0, clean)):
        for place in range(number):
            excess = 0.1 + apart * truth + rng.uniform(0, 0.1)
            yield f"n{truth}{place},{1 + 5 * apart * truth + rng.uniform():.3f},{excess:.4f},{truth}"


@pytest.fixture(scope="module")
def telling(tmp_path_factory):
    return calibration.read(written(tmp_path_factory.mktemp("telling"), drawn(10, 10, 0.6)))


def test_audits_that_tell_backdoors_give_high_and_low_probabilities(telling):
    low, middle, high = (telling.probability(Statistics(*each)) for each in ((1.5, 0.15), (2.7, 0.45), (4.5, 0.75)))
    assert low < 0.1 < middle < 0.9 < high
    assert telling.auc == 1 and telling.cross_entropy < 0.2 < telling.prior_cross_entropy == pytest.approx(math.log(2))


def test_either_statistic_tells_on_its_own(telling):
    middle = telling.probability(Statistics(2.7, 0.45))
    assert telling.probability(Statistics(4, 0.45)) > middle + 0.1
    assert telling.probability(Statistics(2.7, 0.7)) > middle + 0.1


def test_audits_that_tell_nothing_give_the_share_of_backdoors(tmp_path):
    known = calibration.read(written(tmp_path, drawn(18, 6, 0)))
    chances = [known.probability(Statistics(*each)) for each in known.statistics]
    assert np.mean(chances) == pytest.approx(0.75, abs=0.01) and np.ptp(chances) < 0.5
    assert known.cross_entropy > 0.95 * known.prior_cross_entropy and known.auc < 0.7


def test_few_networks_leave_more_doubt_than_many(tmp_path):
    few, many = (
        calibration.read(written(tmp_path, drawn(number, number, 0.6))).probability(Statistics(4.5, 0.75))
        for number in (5, 20)
    )
    assert 0.5 < few < many < 1


def test_beyond_the_audits_nothing_is_more_certain(telling):
    ends = Statistics(*telling.statistics.max(0))
    assert telling.probability(Statistics(1e9, 1)) == telling.probability(ends)
    assert telling.covers(ends) and not telling.covers(Statistics(1e9, ends.patch_excess))


def report(known=None, patch=0.9):
    """An audit of three classes, of which the last has a small mask and a patch that turns most images."""
    images, norms = np.zeros((6, 5, 5, 1), np.uint8), np.array([12.0, 10.0, 2.0])
    data = from_arrays("grey", (images, np.arange(6) % 3), (images, np.arange(6) % 3))
    anomaly = np.array([0.5, 0.0, 4.0])
    flagged = np.array([False, False, True])
    inversion = Inversion(np.zeros((3, 5, 5, 1)), np.zeros((3, 5, 5, 1)), norms, np.ones(3), anomaly, flagged)
    patches = Patches(np.zeros((3, 2, 2, 1)), np.zeros((3, 2), int), np.array([0.2, 0.3, patch]), flagged)
    return model.Report("mine", data, 6, 1.0, inversion, patches, None, None, known)


def test_statistics_are_those_of_the_most_suspicious_class():
    assert report().statistics == (4.0, 0.6)
    assert report(patch=0.3).statistics == (4.0, 0.0)
    larger = report()
    assert larger._replace(inversion=larger.inversion._replace(norms=np.array([12.0, 10.0, 50.0]))).statistics == (
        0,
        0.6,
    )


def test_without_a_calibration_there_is_no_probability_and_a_sentence_says_so():
    made = json.loads(model.to_json(report()))
    assert made["probability"] is None and made["calibration"] is None
    assert made["statistics"] == {"anomaly_index": 4.0, "patch_excess": 0.6}
    assert made["probability_basis"].startswith("There is no probability without audits")
    page = model.render(report(), report().dataset.test)
    assert made["probability_basis"] in page and "Probability of" not in page


def test_a_report_says_what_its_probability_rests_on(telling):
    made = json.loads(model.to_json(report(telling)))
    assert made["probability"] == telling.probability(Statistics(4.0, 0.6)) > 0.8
    found = made["calibration"]
    assert (found["file"], found["networks"], found["backdoored"], found["in_range"]) == ("known.csv", 20, 10, True)
    assert (found["auc"], found["cross_entropy"]) == (telling.auc, telling.cross_entropy)
    assert found["range"]["patch_excess"] == [telling.statistics[:, 1].min(), telling.statistics[:, 1].max()]
    assert "like the 20 of known.csv, of which 10 are backdoored" in made["probability_basis"]
    page = model.render(report(telling), report().dataset.test)
    assert f"<strong>Probability of a backdoor: {100 * made['probability']:.0f} %." in page
    assert "outside" in report(telling, patch=0.3).probability_basis


def test_the_page_lists_every_field(telling):
    made = json.loads(model.to_json(report(telling)))
    listed = set(re.findall(r"`(\w+)`", PAGE[PAGE.index("| field of `model_audit.json` |") :]))
    assert {*made, *made["calibration"], *made["statistics"], *made["classes"][0]} <= listed


GOOD = [*drawn(5, 5, 0.6)]


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (GOOD[1:], HEADER, "must have at least 5 backdoored networks, got 4"),
        (GOOD[:-1], HEADER, "must have at least 5 clean networks, got 4"),
        ([], HEADER, "must have at least 5 backdoored networks, got 0"),
        (GOOD, HEADER.replace("patch_", ""), "has no column patch_excess; it must have anomaly_index, patch_excess, b"),
        ([*GOOD, "x,1,.2,maybe"], HEADER, "line 12: backdoored must be 0 or 1, got 'maybe'"),
        ([*GOOD, "x,nan,.2,1"], HEADER, "line 12: anomaly_index must be a number of at least 0, got 'nan'"),
        ([*GOOD, "x,inf,.2,1"], HEADER, "line 12: anomaly_index must be a number of at least 0, got 'inf'"),
        ([*GOOD, "x,1,20,1"], HEADER, "line 12: patch_excess must be a number from 0 to 1, got '20'"),
        ([*GOOD, "x,1"], HEADER, "line 12: patch_excess must be a number from 0 to 1, got None"),
    ],
)
def test_a_bad_file_is_one_line(rows, header, message, tmp_path, capsys):
    path = written(tmp_path, rows, header)
    assert main(["audit", "model", "x.py:f", "--data=mnist_5k", f"--out={tmp_path}/o", f"--calibration={path}"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"{path}: {message}" in line and not (tmp_path / "o").exists()


def test_a_file_that_cannot_be_read_is_one_line(tmp_path):
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    for name, message in (
        ("missing.csv", "No such file or directory"),
        ("bytes.csv", "can't decode"),
        ("", "Is a dir"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            calibration.read(tmp_path / name)
        assert "\n" not in str(caught.value)
