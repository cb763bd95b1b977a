"""Experiments on data of one's own, through the command line: run, resumed, evaluated, refused once the data change."""

import dataclasses
import json
import pathlib
import re
import shutil

import numpy as np
import own_files
import pytest

from poisonjax import data, poisons
from poisonjax.attacks import DLR, PGD, AutoAttack, Linf
from poisonjax.cli import main
from poisonjax.data.subsets import All, AtMost, Stratified, Unbalanced
from poisonjax.experiment import Data
from poisonjax.models import ReportCNN, WongCNN
from poisonjax.overrides import to_json
from poisonjax.runs import experiments, job
from poisonjax.types import Examples

SHORT = ["--scale=smoke", "--set=train.max_steps=2", '--set=arms=(Arm("standard"),)']
CLASSES = ("ant", "bee", "<i>cat", "dog$", "e|l")


@pytest.fixture(scope="module")
def digits(data_dir, tmp_path_factory):
    """A folder of real images, 60 of each of five classes with names that a page must escape, and a broken file."""
    root, whole = tmp_path_factory.mktemp("own") / "digits", data.load("mnist_5k", data_dir).train
    for label, name in enumerate(CLASSES):
        for row in np.flatnonzero(whole.label == label)[:60]:
            own_files.write(root / name / f"{row}.png", own_files.encoded(whole.image[row, ..., 0]))
    own_files.write(root / "ant" / "broken.png")
    return root


def command(digits, workdir, *more):
    """A short run on the folder."""
    flags = ["--experiment=mnist_badnets", f"--data=folder:{digits}", f"--data_dir={digits.parent / 'kept'}"]
    return ["run", *flags, *SHORT, f"--workdir={workdir}", *map(str, more)]


@pytest.fixture(scope="module")
def run(digits):
    """The workdir of a finished run."""
    workdir = digits.parent / "run"
    assert main(command(digits, workdir, "--skip_broken")) == 0
    return workdir


def test_a_run_takes_classes_and_images_from_the_folder(run, digits):
    record = json.loads((run / "record.json").read_text())
    dataset, config = record["dataset"], record["config"]
    assert dataset["name"] == f"folder:{digits}" and (dataset["train"], dataset["test"]) == (241, 59)
    assert dataset["label_names"] == sorted(CLASSES)
    assert dataset["facts"]["left out"] == 1 and "0.2 of each class" in dataset["facts"]["split"]
    assert dataset["facts"]["images"] == "28 x 28 x 1, as they are"
    assert config["model"]["classes"] == config["poison"]["classes"] == 5
    assert config["data"]["train"] == {"type": "AtMost", "rows": 300}
    assert record["poison"][0] == {"rows": 24, "of": 241} and not record["comparison"]
    assert record["arms"]["standard"]["clean_accuracy"]["denominator"] == [59]
    assert record["changed"][:2] == [f"data.name=folder:{digits}", "data.reading=Reading(skip_broken=true)"]


def test_the_report_says_how_the_data_were_read_and_escapes_names(run):
    report = (run / "report.md").read_text()
    assert "Images: 28 x 28 x 1, as they are; split: 0.2 of each class" in report and "left out: 1." in report
    assert "| &lt;i&gt;cat |" in report and "| e\\|l |" in report


def test_the_command_of_the_record_is_the_same_run(run, capsys):
    record = json.loads((run / "record.json").read_text())
    words = [word for each in record["changed"] for word in ("--set", each)]
    flags = ["--experiment=mnist_badnets", "--scale=smoke", f"--workdir={run}", f"--data_dir={run.parent / 'kept'}"]
    assert main(["run", *flags, *words]) == 0
    assert "already done" in capsys.readouterr().err


def test_the_network_is_evaluated_on_the_test_images_of_the_folder(run, capsys):
    flags = [f"--victim={run}", "--arm=standard", "--attack=fgsm", "--eps=.1", f"--data_dir={run.parent / 'kept'}"]
    assert main(["evaluate", *flags, "--images=50"]) == 0
    assert "robust accuracy" in capsys.readouterr().out


def test_a_run_whose_data_changed_is_neither_resumed_nor_evaluated(run, digits, tmp_path, capsys):
    copied = shutil.copytree(digits, tmp_path / "digits")
    own_files.write(copied / "ant" / "broken.png", own_files.encoded(own_files.gray(9)))
    config = run / "config.json"
    moved = shutil.copytree(run, tmp_path / "run")
    (moved / "config.json").write_text(config.read_text().replace(str(digits), str(copied)))
    capsys.readouterr()
    assert main(command(copied, moved, "--skip_broken")) == 2
    line = capsys.readouterr().err
    assert 'dataset.sha256 is "' in line and "choose another folder" in line and line.count("\n") == 1
    flags = [f"--victim={moved}", "--arm=standard", "--attack=fgsm", "--eps=.1"]
    assert main(["evaluate", *flags]) == 2
    line = capsys.readouterr().err
    assert "is no longer what the run was trained on" in line and line.count("\n") == 1


def test_rows_of_the_host_feed_the_same_run(run, digits, tmp_path):
    assert main(command(digits, tmp_path / "w", "--skip_broken", "--stream", "--shared_networks=none")) == 0
    streamed, resident = (json.loads((at / "record.json").read_text())["arms"] for at in (tmp_path / "w", run))
    for name in ("clean_accuracy", "attack_success_rate"):
        assert streamed["standard"][name]["numerator"] == resident["standard"][name]["numerator"]


PAGE = pathlib.Path(__file__).parents[2] / "docs" / "data.md"
(RECIPE,) = re.findall(r"```python\n# checkers_file\.py\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_a_users_own_kind_is_found_in_the_file_of_the_experiment(tmp_path, data_dir):
    (tmp_path / "checkers_file.py").write_text(RECIPE)
    flags = [f"--experiment={tmp_path / 'checkers_file.py'}", "--data=checkers:16", f"--data_dir={data_dir}"]
    assert main(["run", *flags, *SHORT, f"--workdir={tmp_path / 'w'}"]) == 0
    record = json.loads((tmp_path / "w" / "record.json").read_text())
    assert record["config"]["poison"]["classes"] == 4 and record["dataset"]["name"] == "checkers:16"


def whole(classes: int, rows: int = 40) -> data.Dataset:
    """A data set of noise."""
    label = np.arange(rows) % classes
    image = np.random.default_rng(0).integers(0, 256, (rows, 8, 8, 1), np.uint8)
    return data.from_arrays("npz:own", (image, label), (image, label))


@pytest.mark.parametrize("name", experiments.names())
@pytest.mark.parametrize("classes", [4, 20])
def test_every_experiment_takes_the_classes_of_other_data(name, classes):
    classes_of = {"target": "0", "source": "none"}  # which other data may not have
    poison = experiments.build(name, "small").poison
    fitting = [f"poison.{field}={value}" for field, value in classes_of.items() if hasattr(poison, field)]
    setting = ["data.name=npz:own", *fitting]
    plan = experiments.configured(name, "small", setting, lambda _: whole(classes))
    models = {plan.model_of(arm).classes for arm in plan.arms}
    assert models == {classes} == {plan.poison.classes} and not plan.reported and plan.data.name == "npz:own"
    assert "npz:own" in plan.title and plan.name == name


def test_settings_are_of_the_experiment_with_the_new_classes():
    setting = ["poison.target=15", "data.name=npz:own", "data.train=Stratified(40)"]
    plan = experiments.configured("mnist_badnets", "smoke", setting, lambda _: whole(20))
    assert plan.poison.target == 15 and plan.data.train == Stratified(40) and plan.data.test == AtMost(100)


def test_a_target_may_be_set_that_the_data_need():
    setting = ["data.name=npz:own", "data.train=Stratified(40)", "poison.target=3"]
    plan = experiments.configured("mnist_clean_label", "smoke", setting, lambda _: whole(4))
    assert (plan.poison.target, plan.poison.classes, plan.data.train) == (3, 4, Stratified(40))


def test_known_data_sets_leave_the_experiment_as_it_is():
    usual = experiments.configured("mnist_badnets", "small", [])
    plan = experiments.configured("mnist_badnets", "small", ["data.name=mnist"], lambda _: pytest.fail("loaded"))
    assert plan == dataclasses.replace(usual, data=Data("mnist", usual.data.train))


def test_only_a_data_set_without_an_official_digest_has_it_in_the_config(data_dir):
    plan, known = experiments.build("mnist_badnets", "small"), data.load("mnist_5k", data_dir)
    assert job.identity(plan, "small", known) == {"scale": "small", **to_json(plan)}
    changed = dataclasses.replace(known, sha256="0" * 64)
    assert job.identity(plan, "small", changed)["dataset"] == {"sha256": "0" * 64}


def test_at_most_takes_what_there_is_of_each_class():
    label = np.repeat([0, 1, 2], [1, 5, 9]).astype(np.int32)
    index = np.arange(15, dtype=np.int32)
    examples = Examples(np.zeros((15, 1, 1, 1), np.uint8), label, index)
    assert np.bincount(AtMost(7)(examples).label).tolist() == [1, 3, 3]
    assert np.bincount(AtMost(1000)(examples).label).tolist() == [1, 5, 9]
    assert AtMost(7)(Examples(*(field[:0] for field in examples))).index.size == 0
    assert (All().fitted(), Stratified(30).fitted(), Unbalanced().fitted()) == (All(), AtMost(30), Unbalanced())


def test_attacks_say_how_few_classes_they_can_do_with():
    ball = Linf(0.1)
    attacks = PGD(ball), PGD(ball, loss=DLR()), AutoAttack(ball), AutoAttack(ball, "rand")
    assert [attack.fewest_classes for attack in attacks] == [2, 3, 4, 3]


def test_networks_say_which_images_they_cannot_take():
    WongCNN(classes=2).check((4, 4, 3))
    with pytest.raises(ValueError, match=r"^ReportCNN cannot take images of 4 x 4 x 1: "):
        ReportCNN(classes=2).check((4, 4, 1))


def test_clean_rows_are_named_too(digits):
    made = data.load(f"folder:{digits}", reading=data.Reading(skip_broken=True))
    used = Data(f"folder:{digits}", Stratified(50), clean=Stratified(25)).used(made)
    for part in (used.train, used.clean):
        for index, label in zip(part.index, part.label, strict=True):
            assert used.names[index].startswith(f"{made.label_names[label]}/")
    assert poisons.BadNets(classes=5).classes == made.classes
