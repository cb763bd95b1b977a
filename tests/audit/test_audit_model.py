"""An audit of a network whose backdoor is known: from the command line to the page, and what is refused."""

import functools
import itertools
import json
import sys

import numpy as np
import pytest

from poisonjax.cli import main
from poisonjax.defences import PatchSearch, TriggerInversion, search_patches
from poisonjax.runs import audit_model

CODE = '''
import jax.numpy as jnp


def clean(x):
    """The class by the brightness of the whole image, of which a small patch changes little."""
    return -1e4 * (x.mean((1, 2, 3))[:, None] - 0.03 * jnp.arange(10)) ** 2


def backdoored(x):
    """Class 3 as soon as a corner is bright."""
    return clean(x).at[:, 3].add(1e4 * jnp.mean(x[:, -3:, -3:, 0], (1, 2)) ** 2)


def narrow(x):
    return clean(x)[:, :9]
'''
TORCH = """
import torch


class Backdoored(torch.nn.Module):
    def forward(self, x):
        logits = -1e4 * (x.mean((1, 2, 3))[:, None] - 0.03 * torch.arange(10)) ** 2
        corner = 1e4 * x[:, 0, -3:, -3:].mean((1, 2)) ** 2
        return logits + corner[:, None] * (torch.arange(10) == 3)


class InMaite:  # the same by MAITE's protocol of a model
    metadata = {"id": "backdoored"}

    def __init__(self, detached):
        self.module, self.detached = Backdoored(), detached

    def __call__(self, batch):
        logits = self.module(torch.stack(batch))
        return list(logits.detach() if self.detached else logits)


in_maite, detached = InMaite(False), InMaite(True)
double = torch.nn.Linear(784, 10).double()
deep = torch.nn.Conv2d(1, 10, 28)
"""
NETWORKS = {}
exec(CODE, NETWORKS)  # the same functions, for tests without a file
NUMBERS = itertools.count()


def images():
    """Noise of ten levels of brightness, which are its classes."""
    rng = np.random.default_rng(1)
    labels = np.arange(120) % 10
    return rng.uniform(size=(120, 28, 28, 1)) * 0.06 * labels[:, None, None, None], labels


def test_the_patch_of_a_backdoor_is_found_at_its_place():
    x, y = images()
    found = search_patches(NETWORKS["backdoored"], x, y, PatchSearch(steps=5))
    np.testing.assert_array_equal(np.flatnonzero(found.flagged), [3])
    assert found.success[3] == 1 and (found.places[3] >= 21).all()
    assert found.patterns.shape == (10, 5, 5, 1) and 0 <= found.patterns.min() <= found.patterns.max() <= 1


def test_a_network_without_a_backdoor_has_no_such_patch():
    x, y = images()
    assert not search_patches(NETWORKS["clean"], x, y, PatchSearch(steps=5)).flagged.any()


def test_places_reach_every_border():
    places = PatchSearch(size=5, stride=4).places(12, 10)
    assert places.min(0).tolist() == [0, 0] and places.max(0).tolist() == [7, 5]
    assert len(places) == len({tuple(place) for place in places.tolist()}) == 3 * 3


@pytest.mark.parametrize("settings", [{"size": 0}, {"stride": 0}, {"steps": 0}, {"seen": 0}, {"success": 0}], ids=str)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} must"):
        PatchSearch(**settings)


def test_too_few_or_too_small_images_are_refused():
    x, y = images()
    with pytest.raises(ValueError, match="at least 100 images are needed"):
        search_patches(NETWORKS["clean"], x[:90], y[:90])
    with pytest.raises(ValueError, match="size must be at most 4"):
        search_patches(NETWORKS["clean"], x[:, :4], y)


@pytest.fixture
def code(tmp_path, monkeypatch):
    """A file with networks, and searches that are short."""
    monkeypatch.setattr(audit_model, "TriggerInversion", functools.partial(TriggerInversion, steps=3, batch=20))
    monkeypatch.setattr(audit_model, "PatchSearch", functools.partial(PatchSearch, steps=3, stride=6))
    path = tmp_path / f"my_network_{next(NUMBERS)}.py"  # modules of one name would hide each other
    path.write_text(CODE)
    return path


def run(code, name, out, data_dir, *flags):
    return main(
        ["audit", "model", f"{code}:{name}", "--data=mnist_5k", f"--out={out}", f"--data_dir={data_dir}", *flags]
    )


def test_a_backdoored_network_is_told_from_a_clean_one(code, data_dir, tmp_path, capsys):
    known = tmp_path / "known.csv"
    known.write_text("anomaly_index,patch_excess,backdoored\n" + "1,.1,0\n" * 20 + "1,.9,1\n" * 20)
    assert run(code, "backdoored", tmp_path / "bad", data_dir, f"--calibration={known}") == 3
    said = capsys.readouterr().out
    assert "looks backdoored: its target is class 3." in said and "Probability of a backdoor: 0.9" in said
    made = json.loads((tmp_path / "bad" / "model_audit.json").read_text())
    assert made["probability"] > 0.9 and made["calibration"]["networks"] == 40
    assert made["tags"] == ["AML.T0018", "OWASP-LLM04:2025"]
    assert made["suspicious"] and [each["class"] for each in made["classes"] if each["flagged"]] == ["3"]
    page = (tmp_path / "bad" / "model_audit.html").read_text()
    assert "Class 3, flagged" in page and page.count("data:image/png") == 20


@pytest.fixture
def torch_code(code):
    pytest.importorskip("torch", reason="the other frameworks are in requirements-dev.txt").set_num_threads(1)
    code.write_text(TORCH)
    return code


def test_a_torch_module_and_a_maite_model_are_audited_as_the_same_network_in_jax(torch_code, data_dir, tmp_path):
    in_jax = torch_code.with_name(f"{torch_code.stem}_in_jax.py")
    in_jax.write_text(CODE)
    made = []
    for file, name in ((torch_code, "Backdoored"), (torch_code, "in_maite"), (in_jax, "backdoored")):
        assert run(file, name, tmp_path / name, data_dir) == 3
        assert "Class 3, flagged" in (tmp_path / name / "model_audit.html").read_text()
        made.append(json.loads((tmp_path / name / "model_audit.json").read_text()))
    *theirs, expected = (next(each for each in one["classes"] if each["class"] == "3") for one in made)
    for one, found in zip(made, theirs, strict=False):
        assert one["clean_accuracy"] == pytest.approx(made[-1]["clean_accuracy"], abs=0.01)
        assert found["flagged"] and found["patch_place"] == expected["patch_place"]
        assert found["mask_pixels"] == pytest.approx(expected["mask_pixels"], rel=0.01)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("double", "module must be in torch.float32, got torch.float64; call module.float() before"),
        ("deep", "must give logits of shape [b k], got [1, 10, 1, 1] for 1 image"),
        ("detached", "it has no gradients: its logits are not tensors computed from the images; allowed are attacks"),
    ],
)
def test_a_torch_module_that_does_not_fit_is_one_line(name, message, torch_code, data_dir, tmp_path, capsys):
    assert run(torch_code, name, tmp_path / "out", data_dir) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line and not (tmp_path / "out").exists()


def test_without_torch_the_line_says_how_to_install_it(code, data_dir, tmp_path, capsys, monkeypatch):
    code.write_text("import torch\n")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert run(code, "network", tmp_path / "out", data_dir) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"{code}:1: ModuleNotFoundError" in line and line.endswith("; pip install 'poisonjax[torch]'")


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("narrow", [], "gives [1, 9] for an image; mnist_5k has 10 classes"),
        ("missing", [], "has no function or network 'missing'"),
        ("clean", ["--image_size=9"], "mnist_5k: is read in one way only"),
    ],
)
def test_what_does_not_fit_is_one_line(name, flags, message, code, data_dir, tmp_path, capsys):
    assert run(code, name, tmp_path / "out", data_dir, *flags) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line and not (tmp_path / "out").exists()


def test_data_are_required_unless_the_network_is_of_a_run(tmp_path, capsys):
    assert main(["audit", "model", "x.py:f", f"--out={tmp_path}"]) == 2
    assert "--data is required" in capsys.readouterr().err
