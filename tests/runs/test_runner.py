"""A run on real images: each arm learns from its own data, and a request to stop is obeyed."""

import dataclasses
import shutil

import numpy as np
import pytest

from experiments import _scales, mnist_badnets, mnist_clean_label
from poisonjax.attacks import PGD, Linf
from poisonjax.defences import RepeatedPatch
from poisonjax.experiment import Arm
from poisonjax.keys import stream_key
from poisonjax.overrides import override
from poisonjax.runs import runner, start
from poisonjax.runs.job import Run
from poisonjax.runs.pictures import Shown, shown
from poisonjax.runs.training import Rows
from poisonjax.runtime.workdir import load_arrays
from poisonjax.training import Interrupted

WEAK = PGD(Linf(0.1), step=0.05, steps=3)  # a network of the smoke scale is too small for more


def job(module, workdir, data_dir, *assignments, **settings):
    """The smoke scale with overrides, and the arms that every experiment on poison has."""
    standard, _, pgd_at, control, clean = _scales.report_arms(WEAK, WEAK)
    plan = dataclasses.replace(module.experiment("smoke"), arms=(standard, pgd_at, control, clean), reported=())
    for assignment in assignments:
        plan = override(plan, assignment)
    return Run(plan, runner.load(plan, data_dir), workdir, "smoke", **settings)


@pytest.fixture(scope="module")
def loud(data_dir, tmp_path_factory):
    """A backdoor that nobody could miss."""
    settings = ["poison.target=0", "poison.rate=.3", "poison.trigger=BrightSquare(6)", "train.epochs=25"]
    settings += ["evaluation.attack=PGD(Linf(.1), step=.05, steps=3)"]
    asked = job(mnist_badnets, tmp_path_factory.mktemp("loud"), data_dir, *settings)
    return asked, runner.run(asked)


def test_poisoned_arms_have_the_backdoor_and_the_control_has_not(loud):
    rates = {arm: metrics["attack_success_rate"]["mean"] for arm, metrics in loud[1]["arms"].items()}
    assert rates["standard"] > 0.9 and rates["pgd_at"] > 0.9
    assert rates["pgd_at_as_reported_clean_data"] < 0.3 and rates["standard_clean_data"] < 0.3
    assert loud[1]["attack_gate"]["passed"] and "the backdoor survives pgd_at" in loud[1]["finding"]


def test_adversarial_arms_are_more_robust(loud):
    robust = {arm: metrics["robust_accuracy"]["mean"] for arm, metrics in loud[1]["arms"].items()}
    assert min(robust["pgd_at"], robust["pgd_at_as_reported_clean_data"]) > robust["standard"] + 0.1


def test_curves_end_at_the_final_metrics(loud):
    for metrics in loud[1]["arms"].values():
        (history,) = metrics["history"]
        assert [row["epoch"] for row in history] == list(range(1, 26))
        for name in ("clean_accuracy", "attack_success_rate"):
            assert history[-1][name] == metrics[name]["mean"]


def test_the_picture_shows_poisoned_rows(loud):
    asked, record = loud
    images = shown(asked, runner.poison_data(asked, 0))
    changed = np.abs(images.poisoned - images.clean).max((1, 2, 3))
    assert (changed > 0).all() and (images.poisoned_label == 0).all()
    assert (images.triggered[:, -6:, -6:] == 1).all()
    assert (images.target == 0).all() and (images.test_label != 0).all()
    kept = load_arrays(asked.workdir / "shown.npz", Shown)
    assert all(np.array_equal(a, b) for a, b in zip(kept, images, strict=True))
    says = {arm: metrics["says"] for arm, metrics in record["arms"].items()}
    assert says["standard"]["triggered"] == [0, 0, 0, 0] and 0 not in says["standard_clean_data"]["clean"]


def test_seeds_differ_and_arms_share_a_start(data_dir, tmp_path):
    asked = job(mnist_clean_label, tmp_path, data_dir)
    first, other = (stream_key(seed, name) for seed, name in ((0, "poison"), (1, "poison")))
    assert (first != other) and (stream_key(0, "network") != first)
    rows = [runner.poison_data(asked, seed).rows for seed in (0, 1)]
    assert len(rows[0]) == len(rows[1]) == 10 and set(rows[0]) != set(rows[1])


def test_a_seed_that_is_done_is_neither_crafted_nor_drawn_again(data_dir, tmp_path, monkeypatch):
    asked = job(mnist_clean_label, tmp_path, data_dir, "train.max_steps=1", "surrogate.train.max_steps=1")
    before = runner.run(asked)
    picture = (tmp_path / "figures" / "images.png").read_bytes()
    for checkpoints in [*tmp_path.rglob("checkpoints")]:
        shutil.rmtree(checkpoints)
    crafted, craft = [], runner.craft
    monkeypatch.setattr(runner, "craft", lambda job, seed, rows: crafted.append(seed) or craft(job, seed, rows))
    after = runner.run(dataclasses.replace(asked, seeds=2))
    assert crafted == [1] and after["poison"][0] == before["poison"][0]
    assert (tmp_path / "figures" / "images.png").read_bytes() == picture
    assert "](figures/images.png)" in (tmp_path / "report.md").read_text()


def test_stop_while_judging_keeps_nothing_half_done(data_dir, tmp_path):
    asked = job(mnist_badnets, tmp_path, data_dir, "train.max_steps=1")
    stopping = dataclasses.replace(asked, stop_requested=lambda: True)
    with pytest.raises(Interrupted, match="seed 0 standard test, which starts again"):
        runner.run(stopping)
    assert not list(tmp_path.rglob("result.json")) and not (tmp_path / "record.json").exists()
    assert runner.run(asked)["arms"]["standard"]["clean_accuracy"]["denominator"] == [100]


def test_gate_is_relative_to_the_same_training_on_clean_data(loud):
    gate, arms = loud[1]["attack_gate"], loud[1]["arms"]
    asr, control = (arms[arm]["attack_success_rate"]["mean"] for arm in ("standard", "standard_clean_data"))
    assert gate["excess"] == pytest.approx((asr - control) / (1 - control)) and gate["passed"]


def test_an_arm_that_is_added_leaves_the_others_and_keeps_the_rows_of_its_defence(data_dir, tmp_path):
    brief = ["train.max_steps=1", "data.test=Stratified(10)"]
    whole = job(mnist_badnets, tmp_path, data_dir, *brief).experiment
    fewer = dataclasses.replace(whole, arms=whole.arms[:1])
    start.run(fewer, tmp_path, data_dir=data_dir)
    before = (tmp_path / "seed0/standard/result.json").read_bytes()
    more = dataclasses.replace(whole, arms=(*fewer.arms, Arm("filtered", defence=RepeatedPatch())))
    record = start.run(more, tmp_path, data_dir=data_dir)
    assert list(record["arms"]) == ["standard", "filtered"]
    assert (tmp_path / "seed0/standard/result.json").read_bytes() == before
    rows = load_arrays(tmp_path / "seed0/filtered/rows.npz", Rows)
    removed = record["arms"]["filtered"]["poisoned_rows_removed"]["numerator"]
    assert (~rows.kept).sum() == removed[0] and (rows.suspicion[~rows.kept] > 0).all()
    with pytest.raises(ValueError, match="arms is"):
        start.run(fewer, tmp_path, data_dir=data_dir)
