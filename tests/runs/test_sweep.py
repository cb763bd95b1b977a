"""Sweeps: what --sweep means and refuses, what a grid leaves, and that one point's end is not that of the others."""

import itertools
import json
import os
import re
import signal
from types import SimpleNamespace

import jax
import pytest

from experiments import mnist_badnets
from poisonjax.reports.table import GATED, MARKS, VOID
from poisonjax.runs import runner, sweep
from tests.reports import records as synthetic
from tests.test_launch import start


@pytest.mark.parametrize(
    ("text", "path", "values"),
    [
        ("poison.rate=.01", "poison.rate", [".01"]),
        ("poison.rate=.01,.05, .1", "poison.rate", [".01", ".05", ".1"]),
        ("poison.target=none,0", "poison.target", ["none", "0"]),
        ("evaluation.attack.ball.eps=8/255,16/255", "evaluation.attack.ball.eps", ["8/255", "16/255"]),
        ("evaluation.attack.ball=Linf(.1),L2(2)", "evaluation.attack.ball", ["Linf(.1)", "L2(2)"]),
        ("poison.trigger=FourPixels(),BrightSquare(4, .5)", "poison.trigger", ["FourPixels()", "BrightSquare(4, .5)"]),
        ("evaluation.attack=PGD(L2(2), .5, 3),PGD(Linf(eps=.1), .1, 2)", "evaluation.attack", None),
    ],
)
def test_values_are_split_at_commas_outside_brackets(text, path, values):
    assert sweep.parse(text) == (path, values or ["PGD(L2(2), .5, 3)", "PGD(Linf(eps=.1), .1, 2)"])


FORM = "must have the form section.field=value,value"
REFUSED = {
    "no value": (["poison.rate"], FORM),
    "nothing after =": (["poison.rate="], FORM),
    "no path": (["=.1,.2"], FORM),
    "empty value": (["poison.rate=.1,,.2"], "--sweep poison.rate=.1,,.2: has an empty value"),
    "comma at the end": (["poison.rate=.1,"], "has an empty value"),
    "same text twice": (["poison.rate=.1,.2,.1"], "--sweep poison.rate=.1,.2,.1: has .1 twice"),
    "same number twice": (["poison.rate=.1,0.10"], "--sweep poison.rate=.1 and --sweep poison.rate=0.10 are the same"),
    "open bracket": (["poison.trigger=Square(4,.5"], "has brackets that do not match"),
    "closed bracket": (["poison.trigger=Square)4(,FourPixels()"], "has brackets that do not match"),
    "path twice": (["poison.rate=.1", "poison.rate=.2"], "--sweep poison.rate=.2: poison.rate is swept twice"),
    "lost value": (["poison.trigger.amplitude=.5,1", "poison.trigger=FourPixels()"], "are the same run"),
    "also set": (["train.max_steps=1,2"], "--set train.max_steps=1 would be lost; train.max_steps may be swept or set"),
    "unknown path": (["poison.rat=.1,.2"], "--sweep poison.rat=.1: poison has no field 'rat'; it has rate"),
    "wrong type": (["poison.rate=.1,x"], "--sweep poison.rate=x: poison.rate must be a number, got 'x'"),
    "impossible": (["poison.rate=.1,1.5"], "--sweep poison.rate=1.5: poison: rate must lie in (0, 1], got 1.5"),
    "too large for the data": (
        ["poison.rate=.1,.2", "train.batch=64,5000"],
        "--sweep poison.rate=.1 --sweep train.batch=5000: train.batch must be at most the 300 training rows, got 5000",
    ),
    "not with each other": (
        ["poison.target=none,0", "poison.rate=.1,1"],
        "--sweep poison.target=0 --sweep poison.rate=1: 300 rows are to be poisoned, but only 270",
    ),
    "unknown data": (["data.name=mnist_5k,svhn"], "--sweep data.name=svhn: unknown data set 'svhn': allowed are mnist"),
}


def swept(workdir, data_dir, *flags):
    """The exit status of a sweep of short runs."""
    fixed = ["--experiment=mnist_badnets", "--scale=smoke", "--set=train.max_steps=1"]
    return start(*fixed, f"--workdir={workdir}", f"--data_dir={data_dir}", *flags)


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_line_and_status_two_before_anything_is_written(case, tmp_path, data_dir, capsys):
    sweeps, message = REFUSED[case]
    assert swept(tmp_path / "w", data_dir, *(f"--sweep={text}" for text in sweeps)) == 2
    reported = capsys.readouterr()
    assert message in reported.err and reported.err.count("\n") == 1 and not reported.out
    assert reported.err.startswith("launch.py: --sweep ")
    assert not (tmp_path / "w").exists()


def test_a_part_may_be_set_where_the_whole_is_not_swept():
    assert sweep.axes(["poison.trigger.size=3,4"], ["poison.trigger=BrightSquare()"])
    with pytest.raises(ValueError, match=r"--set poison.trigger.size=3 would be lost"):
        sweep.axes(["poison.trigger=FourPixels(),BrightSquare()"], ["poison.trigger.size=3"])


def test_the_grid_is_every_combination_in_the_order_given_and_rows_are_kept_once():
    axes = sweep.axes(["poison.target=3,none", "poison.rate=.2,.1,.05", "data.name=mnist_5k,mnist"], [])
    points = sweep.grid(mnist_badnets.experiment("smoke"), axes, lambda plan: [plan.data.name])
    got = [(point.experiment.poison.target, point.experiment.poison.rate, *point.dataset) for point in points]
    assert got == list(itertools.product([3, None], [0.2, 0.1, 0.05], ["mnist_5k", "mnist"]))
    assert points[1].settings == {"poison.target": "3", "poison.rate": ".2", "data.name": "mnist"}
    assert len({id(point.dataset) for point in points}) == 2


def test_a_folder_is_named_by_its_settings_alone():
    assert sweep.folder({"poison.rate": ".01"}) == "poison.rate=0.01"
    one = sweep.folder({"evaluation.attack.ball.eps": ".10", "poison.rate": "1e-2"})
    assert one == sweep.folder({"poison.rate": "0.01", "evaluation.attack.ball.eps": "0.1"})
    assert one == "evaluation.attack.ball.eps=0.1,poison.rate=0.01"
    assert sweep.folder({"poison.trigger": "Square( 4,.5)"}) == sweep.folder({"poison.trigger": "Square(4, 0.5)"})


def test_folder_names_are_safe_short_readable_and_distinct():
    values = ["8/255", "8-255", "Square(4)", "Square(4,)", "Square((4))", "Square(4,.5)", "Square(4.5)", "Square[4]"]
    values += ["../../etc", "a b", "a  b", "ab", "x" * 300, "x" * 299 + "y", "-1", "1", "é", "none", "~", "$HOME", "*"]
    named = {value: sweep.folder({"poison.trigger": value}) for value in values}
    named |= {
        (a, b): sweep.folder({"x": a, "y": b}) for a, b in itertools.product(("1", "f(1,2)", "x" * 200), repeat=2)
    }
    same = {named["Square(4)"], named["Square(4,)"], named["Square((4))"]}
    assert len(same) == 1 and len(set(named.values())) == len(named) - 2
    assert all(re.fullmatch(r"[A-Za-z0-9_.,=+~-]{1,150}", name) for name in named.values())
    assert named["8/255"].startswith("poison.trigger=8-255~")
    assert named["Square(4,.5)"].startswith("poison.trigger=Square-4-0.5~")


@pytest.mark.parametrize("paths", [["poison.rate=.1"], ["poison.rate=.1", "train.batch=8"], ["train.batch=8"]])
def test_sweeps_over_other_paths_have_another_home(paths):
    plan = mnist_badnets.experiment("smoke")
    points = sweep.grid(plan, sweep.axes(paths, []), lambda plan: None)
    named = ",".join(text.split("=")[0] for text in paths)
    assert sweep.home(plan, "smoke", points) == f"runs/mnist_badnets/smoke-sweep/{named}"


# One real sweep

RATES = "--sweep=poison.rate=.1,.2"
FOLDERS = ["poison.rate=0.1", "poison.rate=0.2"]


def state(workdir):
    """sweep.json."""
    return json.loads((workdir / "sweep.json").read_text())


def statuses(workdir):
    """What sweep.json says of the points, in order."""
    return [point["status"] for point in state(workdir)["points"]]


@pytest.fixture(scope="module")
def stopped_and_finished(tmp_path_factory, data_dir):
    """A sweep that SIGTERM hit in its second point and that was begun again: workdir, first status and sweep.json."""
    workdir, real = tmp_path_factory.mktemp("sweep") / "w", runner.run

    def hit(job):
        if job.workdir.name == FOLDERS[1]:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(job)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "run", hit)
        status = swept(workdir, data_dir, RATES)
    between = state(workdir)
    assert swept(workdir, data_dir, RATES) == 0
    return workdir, status, between


def test_stop_ends_the_sweep_and_the_same_command_resumes_it(stopped_and_finished):
    workdir, status, between = stopped_and_finished
    assert status == 130
    assert [(point["status"], point["error"]) for point in between["points"]] == [("done", None), ("missing", None)]
    assert statuses(workdir) == ["done", "done"]


def test_every_point_is_an_ordinary_run_of_its_settings(stopped_and_finished, data_dir):
    workdir, _, _ = stopped_and_finished
    for name, rate in zip(FOLDERS, (0.1, 0.2), strict=True):
        record = json.loads((workdir / name / "record.json").read_text())
        assert record["config"]["poison"]["rate"] == rate and record["poison"][0]["rows"] == 300 * rate
        assert record["config"]["train"]["max_steps"] == 1
        assert record["changed"] == ["train.max_steps=1", f"poison.rate={str(rate)[1:]}"]
        assert (workdir / name / "report.md").exists() and list((workdir / name / "figures").glob("*.png"))
    before = (workdir / FOLDERS[0] / "record.json").read_text()
    assert swept(workdir / FOLDERS[0], data_dir, "--set=poison.rate=.1") == 0  # alone
    assert (workdir / FOLDERS[0] / "record.json").read_text() == before


def test_sweep_json_says_what_was_asked_for_and_where_it_is(stopped_and_finished):
    workdir, _, _ = stopped_and_finished
    assert state(workdir) == {
        "format": 1,
        "experiment": "mnist_badnets",
        "scale": "smoke",
        "set": ["train.max_steps=1"],
        "axes": {"poison.rate": [".1", ".2"]},
        "points": [
            {"settings": {"poison.rate": rate}, "folder": name, "status": "done", "error": None}
            for rate, name in zip((".1", ".2"), FOLDERS, strict=True)
        ],
    }


def test_the_same_command_again_trains_nothing_and_shows_the_results(
    stopped_and_finished, data_dir, monkeypatch, capsys
):
    workdir, _, _ = stopped_and_finished
    files = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    monkeypatch.setattr(runner, "run", None)
    assert swept(workdir, data_dir, RATES) == 0
    assert {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()} == files
    reported = capsys.readouterr()
    assert "point 1 of 2: poison.rate=.1 is done already\n" in reported.err
    *lines, count, path = [line for line in reported.out.splitlines() if line[:1] not in MARKS]
    assert count == "2 of 2 points done, 0 failed" and path == str(workdir / "sweep.json")
    arms = json.loads((workdir / FOLDERS[1] / "record.json").read_text())["arms"]
    for line, (arm, metrics) in zip(lines[-len(arms) :], arms.items(), strict=True):
        names = ("clean_accuracy", "triggered_accuracy", "attack_success_rate", "robust_accuracy")
        assert line.replace(VOID, "").replace(GATED, "").split() == [
            ".2",
            arm,
            *(f"{100 * metrics[name]['mean']:.2f}" for name in names),
        ]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([RATES, "--set=train.epochs=1"], 'set is ["train.max_steps=1"] there, ["train.max_steps=1", "train.epochs'),
        (["--sweep=train.epochs=1"], 'sweep is ["poison.rate"] there, ["train.epochs"] here'),
        ([RATES, "--experiment=mnist_clean_label"], 'experiment is "mnist_badnets" there, "mnist_clean_label" here'),
        ([], "belongs to a different run"),
    ],
)
def test_the_workdir_of_another_sweep_is_refused(stopped_and_finished, data_dir, monkeypatch, capsys, flags, message):
    workdir, _, _ = stopped_and_finished
    monkeypatch.setattr(runner, "run", None)
    assert swept(workdir, data_dir, *flags) == 2
    line = capsys.readouterr().err
    assert message in line and "choose another folder" in line and line.count("\n") == 1
    assert statuses(workdir) == ["done", "done"]


# The table


def sweep_point(rate: str) -> sweep.Point:
    return sweep.Point({"poison.rate": rate}, None, None)


def test_cells_of_collapsed_networks_and_failed_attacks_are_marked_and_explained():
    sound, void, gated = (synthetic.record(rates={"standard": {}, "pgd_at": {}}) for _ in range(3))
    void["warnings"] = ["pgd_at, seed 0: collapsed: every clean test image is predicted as class 3"]
    gated["attack_gate"] = synthetic.gate(0.4, 0.1)
    points = [sweep_point(rate) for rate in (".1", ".2", ".3", ".4")]
    header, *lines = sweep.summary(points, [sound, void, None, gated]).splitlines()
    assert [name.strip() for name in header.split("%")[1:3]] == ["triggered accuracy", "attack success rate"]
    table, notes = lines[:-2], lines[-2:]
    assert [line.split()[:2] for line in table] == [[rate, arm] for rate in (".1", ".2", ".4") for arm in sound["arms"]]
    counts = [[line.count(sign) for sign in (VOID, GATED)] for line in table]
    assert counts == [[0, 0], [0, 0], [0, 0], [4, 0], [0, 2], [0, 2]]
    assert re.search(rf"\d\d\.\d\d {GATED} +\d\d\.\d\d {GATED} +\d\d\.\d\d$", table[-1]), "those of the backdoor"
    assert notes == [f"{sign} {meaning}" for sign, meaning in MARKS.items()]


def test_sound_points_need_no_explanation():
    text = sweep.summary([sweep_point(".1")], [synthetic.record(rates={"standard": {}})])
    assert len(text.splitlines()) == 2 and not any(sign in text for sign in MARKS)


# Sweeps whose points take no time


@pytest.fixture
def ran(monkeypatch):
    """runner.run in no time. calls: of which folders and with how many seeds. ends: what happens before the record."""
    calls, ends = [], {}

    def run(job):
        calls.append((job.workdir.name, job.seeds))
        ends.get(job.workdir.name, lambda: None)()
        (job.workdir / "record.json").write_text(
            json.dumps({"seeds": list(range(job.seeds)), "arms": {arm.name: {} for arm in job.experiment.arms}})
        )

    rows = SimpleNamespace(name="rows", sha256="0", train=SimpleNamespace(label=range(300)))
    monkeypatch.setattr(runner, "load", lambda plan, **_: rows)
    monkeypatch.setattr(runner, "run", run)
    run.calls, run.ends = calls, ends
    return run


def raising(error):
    """A function that raises it."""

    def end():
        raise error

    return end


THREE = ["--sweep=poison.rate=.1,.2,.3"]
NAMES = ["poison.rate=0.1", "poison.rate=0.2", "poison.rate=0.3"]


@pytest.mark.parametrize(
    ("error", "line", "explains_itself"),
    [
        (OSError(28, "No space left on device", "x"), "[Errno 28] No space left on device: 'x'", True),
        (ValueError("bad"), "ValueError: bad", False),
        (
            RuntimeError("RESOURCE_EXHAUSTED:\n  out of memory"),
            "RuntimeError: RESOURCE_EXHAUSTED: out of memory",
            False,
        ),
        (KeyError("arm"), "KeyError: 'arm'", False),
    ],
)
def test_one_failure_is_told_noted_and_tried_again_but_stops_no_other(
    error, line, explains_itself, ran, tmp_path, data_dir, capsys
):
    ran.ends[NAMES[1]] = raising(error)
    assert swept(tmp_path, data_dir, *THREE) == 1
    reported = capsys.readouterr()
    assert f"point 2 of 3: poison.rate=.2 failed: {line}\n" in reported.err and "Traceback" not in reported.err
    assert "2 of 3 points done, 1 failed\n" in reported.out
    assert statuses(tmp_path) == ["done", "failed", "done"] and state(tmp_path)["points"][1]["error"] == line
    traced = tmp_path / NAMES[1] / "error.txt"
    assert traced.exists() != explains_itself
    assert explains_itself or re.search("(?s)Traceback.*raise error", traced.read_text())

    ran.ends.clear()
    assert swept(tmp_path, data_dir, *THREE) == 0
    assert [name for name, _ in ran.calls] == [*NAMES, NAMES[1]]
    assert statuses(tmp_path) == ["done"] * 3 and state(tmp_path)["points"][1]["error"] is None
    assert not traced.exists()


def test_a_folder_that_is_in_the_way_fails_its_point_and_is_left_alone(ran, tmp_path, data_dir, capsys):
    (tmp_path / "w").mkdir()
    assert swept(tmp_path / "w", data_dir, "--sweep=poison.rate=.1") == 0
    foreign = tmp_path / "w" / NAMES[1] / "thesis.tex"
    foreign.parent.mkdir()
    foreign.write_text("mine")
    assert swept(tmp_path / "w", data_dir, *THREE) == 1
    assert statuses(tmp_path / "w") == ["done", "failed", "done"]
    assert "is not empty (thesis.tex)" in capsys.readouterr().err
    assert sorted(path.name for path in foreign.parent.iterdir()) == [".lock", "thesis.tex"]


def test_stop_between_points_names_the_next_point(ran, tmp_path, data_dir, capsys):
    ran.ends[NAMES[0]] = lambda: os.kill(os.getpid(), signal.SIGINT)  # and the run ends before it looks
    assert swept(tmp_path, data_dir, *THREE) == 130
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.endswith("stopped before point 2 of 3: poison.rate=.2; run the same command again to resume")
    assert statuses(tmp_path) == ["done", "missing", "missing"]
    assert swept(tmp_path, data_dir, *THREE) == 0
    assert [name for name, _ in ran.calls] == NAMES


def test_programs_do_not_pile_up(ran, tmp_path, data_dir):
    compiled = []
    program = jax.jit(lambda x: compiled.append(x) or x + 1)
    ran.ends.update(dict.fromkeys(NAMES, lambda: program(1)))
    assert swept(tmp_path, data_dir, *THREE) == 0
    assert len(compiled) == 3


def test_points_that_are_done_are_kept_when_values_come_or_are_spelled_otherwise(ran, tmp_path, data_dir):
    assert swept(tmp_path, data_dir, "--sweep=poison.rate=.1,.3") == 0
    assert swept(tmp_path, data_dir, "--sweep=poison.rate=0.30,.2,0.1") == 0
    assert [name for name, _ in ran.calls] == [NAMES[0], NAMES[2], NAMES[1]]
    assert state(tmp_path)["axes"] == {"poison.rate": ["0.30", ".2", "0.1"]}


def test_a_point_is_done_only_with_a_whole_record_of_all_seeds(ran, tmp_path, data_dir):
    assert swept(tmp_path, data_dir, *THREE) == 0
    (tmp_path / NAMES[1] / "record.json").write_text('{"seeds": [0')
    assert swept(tmp_path, data_dir, *THREE) == 0
    assert ran.calls[3:] == [(NAMES[1], 1)]
    assert swept(tmp_path, data_dir, *THREE, "--seeds=2") == 0
    assert ran.calls[4:] == [(name, 2) for name in NAMES]
    assert swept(tmp_path, data_dir, *THREE) == 0
    assert len(ran.calls) == 7
