"""Every recipe of docs/extending.md: one short file outside the package that goes the whole way.

The way is launch, --set, an interruption, evaluate and the site.
"""

import contextlib
import importlib
import json
import pathlib
import re
import subprocess
import sys

import pytest

from poisonjax.cli import main
from poisonjax.runs import start

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "extending.md"
RECIPES = {name: text for name, text in re.findall(r"```python\n# (\w+)\.py\n(.*?)```", PAGE.read_text(), re.DOTALL)}
# What --set changes in each, and the arm whose network is evaluated. Types are named with their module, because other
# tests define types of the same names.
CHANGES = {
    "sinus": ("poison.trigger=sinus:Sinus(amplitude=.3)", "pgd_at"),
    "blended": ("poison.alpha=.3", "pgd_at"),
    "random_noise": ("arms.random_noise.objective.attack=random_noise:RandomNoise(Linf(.2))", "random_noise"),
    "mlp": ("model=mlp:MLP(hidden=8)", "standard"),
    "smoothing": ("arms.smoothing.objective.smoothing=.2", "smoothing"),
    "loss_filter": ("arms.loss_filter.defence.share=.2", "loss_filter"),
    "blur": ("arms.blur.defence=blur:Blur(threshold=.9)", "blur"),
    "confidence": ("poison.rate=.2", "standard"),
    "stripes": ("data.rows=300", "standard"),
    "my_table": ("poison.rate=.2", "standard"),
}
EVALUATE = ("--attack=fgsm", "--eps=.1", "--images=20")


def test_every_recipe_is_tried_and_short():
    assert set(RECIPES) == set(CHANGES)
    assert {name: lines for name in RECIPES if (lines := len(RECIPES[name].splitlines()) + 1) > 40} == {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The recipes as files, far from the package."""
    place = tmp_path_factory.mktemp("recipes")
    for name, text in RECIPES.items():
        (place / f"{name}.py").write_text(text)
    return place


def stops_once(monkeypatch) -> None:
    """The next run is asked to stop after its first steps."""
    calls = []

    def stop_requested(*_):
        calls.append(1)
        return len(calls) == 2

    monkeypatch.setattr(start, "_interrupt", lambda _: contextlib.nullcontext(stop_requested))
    monkeypatch.setattr(importlib.import_module("poisonjax.training.fit"), "CALL_SECONDS", 0.0)


@pytest.mark.parametrize("name", CHANGES)
def test_recipe_goes_the_whole_way(name, folder, data_dir, monkeypatch, capsys):
    change, arm = CHANGES[name]
    file, workdir = f"--experiment={folder / name}.py", folder / "runs" / name
    small = ["--scale=smoke", "--set=train.max_steps=3", f"--data_dir={data_dir}", f"--workdir={workdir}"]
    command = ["run", file, *small, f"--shared_networks={folder / 'shared'}", f"--set={change}"]
    with monkeypatch.context() as patch:
        stops_once(patch)
        assert main(command) == 130
    assert main(command) == 0
    config = (workdir / "config.json").read_text()
    record = json.loads((workdir / "record.json").read_text())
    assert record["experiment"] == name and change.partition("=")[0] in "".join(record["changed"])
    if name != "my_table":  # it has no type of its own
        assert f'"{name}:' in config
    assert main(["evaluate", file, f"--victim={workdir}", f"--arm={arm}", f"--data_dir={data_dir}", *EVALUATE]) == 0
    assert "robust accuracy" in capsys.readouterr().out


def test_site_shows_all_of_them(folder):
    """In a process that never imported them."""
    words = ["-m", "poisonjax", "report", "site", f"--records={folder / 'runs'}", f"--out={folder / 'site'}"]
    subprocess.run([sys.executable, *words], check=True, cwd=PAGE.parents[1], capture_output=True)
    pages = " ".join(path.read_text() for path in (folder / "site").rglob("*.html"))
    assert all(name in pages for name in RECIPES)
    assert "Confidence on triggered images" in pages and "blur:Blur" in pages and "loss_filter:LossFilter" in pages


def test_reading_a_config_runs_no_code_of_its_author(folder, capsys):
    """Unless the command names the file."""
    words = ["-m", "poisonjax", "evaluate", f"--victim={folder / 'runs' / 'sinus'}", "--arm=pgd_at", *EVALUATE]
    ended = subprocess.run([sys.executable, *words], cwd=PAGE.parents[1], capture_output=True, text=True)
    assert ended.returncode == 2 and "sinus:Sinus" in ended.stderr and ended.stderr.count("\n") == 1
