"""The sheet of all poisons: made from every one of the contract table, and complete for those of the package."""

import numpy as np
import pytest

from poisonjax.cli import report
from poisonjax.data import Dataset
from poisonjax.evaluation.victim import Victim
from poisonjax.overrides import members
from poisonjax.poisons import ExplanationGuided, NoPoison, Poison
from poisonjax.reports import figures
from poisonjax.runs import poison_sheet
from poisonjax.types import Examples
from tests.poisons.test_poisons import FOR_FEATURES, POISONS, outputs

IMAGES = {name: poison for name, poison in POISONS.items() if poison.poisons and name not in FOR_FEATURES}


@pytest.fixture(scope="module")
def samples():
    """What each poison of the contract table does to random images."""
    rng = np.random.default_rng(0)
    image, label = rng.integers(60, 190, (103, 12, 14, 1)).astype(np.uint8), np.arange(103, dtype=np.int32) % 10
    rows = Examples(image, label, np.arange(103, dtype=np.int32))
    dataset = Dataset("random", "", 10, rows, rows, "")
    return {name: poison_sheet.sample(poison, dataset, Victim(outputs)) for name, poison in IMAGES.items()}


def test_every_poison_of_images_is_on_the_sheet():
    own = {kind for kind in members(Poison) if kind.__module__.startswith("poisonjax.")}
    assert own - {NoPoison, ExplanationGuided} == set(map(type, poison_sheet.POISONS.values()))


def test_samples_show_the_change_and_the_trigger(samples):
    for name, (shown, cover) in samples.items():
        assert shown.clean.shape == shown.poisoned.shape == (2, 12, 14, 1), name
        assert (shown.clean != shown.poisoned).any((1, 2, 3)).all(), name
        assert (shown.test != shown.triggered).any() == IMAGES[name].has_trigger == shown.has_trigger, name
        assert cover == ("cover_rate" in vars(IMAGES[name])), name
        assert not cover or shown.label[1] == shown.poisoned_label[1], name


def test_the_sheet_is_a_picture_with_a_row_for_each(samples, tmp_path):
    figure = poison_sheet.sheet(samples, "random images")
    texts = [" ".join(text.get_text().split()) for axis in figure.axes for text in axis.texts]
    assert texts == list(samples) and len(figure.axes) == 9 * len(samples)
    figures.save(figure, tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_writes_the_sheet(samples, tmp_path, monkeypatch, capsys):
    one = dict(list(samples.items())[:1])
    monkeypatch.setattr(poison_sheet, "of_package", lambda data_dir: poison_sheet.sheet(one, data_dir))
    assert report.main(["poisons", f"--out={tmp_path}/a.png", "--data_dir=here"], "poisonjax report") == 0
    assert (tmp_path / "a.png").exists() and capsys.readouterr().out == f"{tmp_path}/a.png\n"
