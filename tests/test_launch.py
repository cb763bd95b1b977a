"""The command line: what it accepts, what it refuses in one line, and what a finished run leaves."""

import json

import pytest
from absl.testing import flagsaver

import launch
from poisonjax.experiment import METRICS


def start(*flags):
    """launch.py with these flags, in this process; its exit status."""
    with flagsaver.flagsaver():
        try:
            return launch.main(launch.parse(["launch.py", *map(str, flags)]))
        except SystemExit as stop:
            return stop.code


REFUSED = {
    "no experiment": ([], "--experiment is required; there are mnist_badnets, mnist_clean_label"),
    "unknown experiment": (["--experiment=mnist"], "--experiment=mnist does not exist; there are mnist_badnets"),
    "unknown flag": (["--experimnt=mnist_badnets"], "experimnt"),
    "no flag at all": (["mnist_badnets"], "'mnist_badnets' is no flag"),
    "unknown scale": (["--scale=large"], "--scale=large: value should be one of <auto|smoke|small|paper>"),
    "no seeds": (["--seeds=0"], "--seeds=0"),
    "seeds no number": (["--seeds=two"], "--seeds=two"),
    "unknown field": (["--set=poison.rat=1"], "--set poison.rat=1: poison has no field 'rat'; it has rate"),
    "wrong type": (["--set=poison.rate=x"], "--set poison.rate=x: poison.rate must be a number, got 'x'"),
    "rate 1.5": (["--set=poison.rate=1.5"], "--set poison.rate=1.5: poison: rate must lie in (0, 1], got 1.5"),
    "target 10": (["--set=poison.target=10"], "target must be one of the classes 0 to 9, got 10"),
    "eps 8": (["--set=train.attack.ball.eps=8"], "eps must lie in [0, 1] for images in [0, 1]"),
    "L2 eps 100": (["--set=train.attack.ball=L2(100)"], "train.attack.ball.eps must be at most 28 for images"),
    "seven classes": (["--set=model.classes=7"], "poison.classes is 10, but model.classes is 7"),
    "batch of all": (["--set=train.batch=5000"], "train.batch must be at most the 300 training rows, got 5000"),
    "too many poisons": (["--set=poison.rate=1", "--set=poison.target=0"], "300 rows are to be poisoned, but only 270"),
    "unknown data": (["--set=data.name=svhn"], "unknown data set 'svhn': allowed are mnist, cifar10, mnist_5k"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_line_and_status_two(case, tmp_path, data_dir, capsys):
    flags, message = REFUSED[case]
    named = (
        [] if any("experiment" in flag for flag in flags) or case == "no experiment" else ["--experiment=mnist_badnets"]
    )
    scale = [] if any("scale" in flag for flag in flags) else ["--scale=smoke"]
    status = start(*named, *scale, f"--workdir={tmp_path / 'w'}", f"--data_dir={data_dir}", *flags)
    printed = capsys.readouterr()
    assert status == 2
    assert message in printed.err and printed.err.count("\n") == 1 and not printed.out
    assert not (tmp_path / "w" / "record.json").exists()


def test_list_names_every_experiment_with_its_claim(capsys):
    assert start("--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == launch.names()
    assert all("(table" in line for line in lines)


POISONED = {"mnist_clean_label": 10, "mnist_badnets": 30}  # rows: 33 % of a class of 30, 10 % of 300


@pytest.fixture(scope="module", params=launch.names())
def finished(request, tmp_path_factory, data_dir):
    """Every experiment, run once at smoke scale."""
    workdir = tmp_path_factory.mktemp(request.param) / "run"
    assert (
        start(f"--experiment={request.param}", "--scale=smoke", f"--workdir={workdir}", f"--data_dir={data_dir}") == 0
    )
    return workdir


def test_every_experiment_ends_with_record_report_figures_curves_and_checkpoints(finished):
    record = json.loads((finished / "record.json").read_text())
    report = (finished / "report.md").read_text()
    for name in ("images.png", "curves.png", "bars.png"):
        assert (finished / "figures" / name).read_bytes().startswith(b"\x89PNG") and f"figures/{name}" in report
    for arm in record["arms"]:
        assert list((finished / "tensorboard" / arm / "0").glob("events.out.tfevents.*"))
        assert [path.name for path in (finished / "seed0" / arm / "checkpoints").glob("[0-9]*")]
        assert f"| {arm} |" in report
    assert record["finding"] in report


def test_the_record_has_what_its_schema_promises(finished):
    record = json.loads((finished / "record.json").read_text())
    assert record["scale"] == "smoke" and record["seeds"] == [0]
    assert list(record["arms"]) == [arm["name"] for arm in record["config"]["arms"]]
    assert record["dataset"] | {"sha256": ""} == {
        "name": "mnist_5k",
        "version": "1.0.0",
        "train": 300,
        "test": 100,
        "sha256": "",
    }
    assert len(record["dataset"]["sha256"]) == 64
    for arm in record["arms"].values():
        assert arm["seconds"] > 0 and arm["train_images_per_second"] > 0
        for name in METRICS:
            metric = arm[name]
            hits, of = metric["numerator"][0], metric["denominator"][0]
            assert metric["per_seed"] == [hits / of if of else None] and metric["std"] is None
            assert sum(metric["per_class"]["numerator"][0]) == hits
            assert sum(metric["per_class"]["denominator"][0]) == of
            assert of == 0 or metric["ci95"][0] <= metric["mean"] <= metric["ci95"][1]
        assert arm["clean_accuracy"]["denominator"] == arm["robust_accuracy"]["denominator"] == [100]
    for cells in record["verdict"].values():
        assert set(cells.values()) == {"inconclusive"}  # the smoke scale is not the published setting
    assert record["attack_gate"].keys() >= {"passed", "asr"}
    assert record["environment"].keys() >= {"jax", "jaxlib", "flax", "device", "device_count", "commit"}
    assert record["command"].startswith(f"python launch.py --experiment={record['experiment']} --scale=smoke --seeds=1")
    if record["experiment"] in POISONED:
        assert record["poison"][0]["rows"] == POISONED[record["experiment"]]
    if record["config"]["proxy"] is not None:
        assert 0 <= record["poison"][0]["proxy"]["robust_accuracy"] <= 1


def test_the_same_command_again_changes_nothing_but_more_seeds_are_added(finished, data_dir):
    record = json.loads((finished / "record.json").read_text())
    command = [
        f"--experiment={record['experiment']}",
        "--scale=smoke",
        f"--workdir={finished}",
        f"--data_dir={data_dir}",
    ]
    assert start(*command) == 0
    assert json.loads((finished / "record.json").read_text()) == record
    if record["experiment"] != "mnist_badnets":
        return
    assert start(*command, "--seeds=2") == 0
    both = json.loads((finished / "record.json").read_text())
    for arm, metrics in both["arms"].items():
        for name in METRICS:
            assert metrics[name]["numerator"][0] == record["arms"][arm][name]["numerator"][0]
            assert len(metrics[name]["per_seed"]) == 2
        assert metrics["clean_accuracy"]["std"] is not None


def test_another_configuration_on_the_same_workdir_is_refused(finished, data_dir, capsys):
    record = json.loads((finished / "record.json").read_text())
    status = start(
        f"--experiment={record['experiment']}",
        "--scale=smoke",
        f"--workdir={finished}",
        f"--data_dir={data_dir}",
        "--set=poison.rate=.2",
    )
    line = capsys.readouterr().err
    assert status == 2 and "poison.rate is" in line and "--workdir" in line and line.count("\n") == 1


def test_an_attack_that_cannot_move_to_its_eps_is_warned_of(finished, data_dir, tmp_path, capsys):
    record = json.loads((finished / "record.json").read_text())
    assert any("less than its eps" in line for line in record["warnings"]) == (
        record["config"]["train"]["attack"]["random_start"] is False
        and record["config"]["train"]["attack"]["steps"] * record["config"]["train"]["attack"]["step"] < 0.3
    )
