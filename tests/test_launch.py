"""The command line: what it accepts, what it refuses in one line, and what a finished run leaves."""

import json

import jax
import numpy as np
import pytest

from poisonjax import data
from poisonjax.cli import main, run
from poisonjax.cli.parser import Parser
from poisonjax.data import Dataset
from poisonjax.overrides import override
from poisonjax.reports.text import results
from poisonjax.runs import estimate, experiments
from poisonjax.runs.experiments import get_experiment
from poisonjax.runs.trained import load_trained
from poisonjax.runtime.compilation import enable_compilation_cache
from poisonjax.runtime.workdir import with_checksum
from poisonjax.types import Examples

ALWAYS = (
    "clean_accuracy",
    "triggered_accuracy",
    "attack_success_rate",
    "attack_success_rate_turner",
    "robust_accuracy",
)


def start(*flags):
    """launch.py with these flags, in this process; its exit status."""
    return run.main(list(map(str, flags)), "launch.py")


AT = "arms.pgd_at.objective.attack"
REFUSED = {
    "no experiment": ([], "--experiment is required; allowed are cifar10_activations, "),
    "unknown experiment": (
        ["--experiment=imagenet"],
        "unknown experiment 'imagenet'; allowed are cifar10_activations, ",
    ),
    "misspelt experiment": (["--experiment=mnist_cleanlabel"], "did you mean mnist_clean_label?"),
    "unknown flag": (["--experimnt=mnist_badnets"], "unknown flag '--experimnt'; did you mean --experiment?"),
    "no flag at all": (["mnist_badnets"], "unexpected argument 'mnist_badnets'; flags start with --"),
    "unknown scale": (
        ["--scale=large"],
        "--scale=large: unknown value 'large'; allowed are auto, smoke, small, full, paper",
    ),
    "no seeds": (["--seeds=0"], "--seeds=0: must be a whole number of at least 1"),
    "seeds no number": (["--seeds=two"], "--seeds=two: must be a whole number of at least 1"),
    "negative interval": (["--save_every=-1"], "--save_every=-1: must be a number of at least 0, such as 0.1 or 8/255"),
    "unknown field": (
        ["--set=poison.rat=1"],
        "has no field 'rat'; it has rate, target, trigger, classes; did you mean rate?",
    ),
    "misspelt type": (["--set=poison.trigger=Brightsqare(4)"], "got 'Brightsqare(4)'; did you mean BrightSquare?"),
    "misspelt arm": (["--set=arms.pgd_a.poisoned=false"], "; did you mean pgd_at?"),
    "arms that are not there": (
        ["--arms=standard,pgd_a"],
        "--arms=standard,pgd_a: unknown arm 'pgd_a'; did you mean pgd",
    ),
    "arms without standard": (["--arms=pgd_at"], "--arms=pgd_at: arms must have standard"),
    "no file": (["--experiment=/nowhere/mine.py"], "there is no file /nowhere/mine.py"),
    "wrong type": (["--set=poison.rate=x"], "--set poison.rate=x: poison.rate must be a number, got 'x'"),
    "rate 1.5": (["--set=poison.rate=1.5"], "--set poison.rate=1.5: poison: rate must lie in (0, 1], got 1.5"),
    "target 10": (["--set=poison.target=10"], "target must be one of the classes 0 to 9, got 10"),
    "eps 8": ([f"--set={AT}.ball.eps=8"], "eps must lie in [0, 1] for images in [0, 1]"),
    "L2 eps 100": ([f"--set={AT}.ball=L2(100)"], f"{AT}.ball.eps must be at most 28 for images"),
    "seven classes": (["--set=model.classes=7"], "poison.classes is 10, but model.classes is 7"),
    "batch of all": (["--set=train.batch=5000"], "train.batch must be at most the 300 training rows, got 5000"),
    "too few images": (
        ["--experiment=mnist_activations", "--set=analyses=(Activations(perplexity=5),)"],
        "per_class must be at most the 10 test images of class 0, got 50",
    ),
    "no trigger": (
        ["--experiment=mnist_baseline", "--set=analyses=(Activations(),)"],
        "activations compare clean with triggered images, and NoPoison has no trigger",
    ),
    "too many poisons": (["--set=poison.rate=1", "--set=poison.target=0"], "300 rows are to be poisoned, but only 270"),
    "unknown data": (
        ["--set=data.name=svhn"],
        "unknown data set 'svhn': allowed are mnist, cifar10, mnist_5k, ",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_line_and_status_two(case, tmp_path, data_dir, capsys):
    flags, message = REFUSED[case]
    own = any("experiment" in flag for flag in flags) or case == "no experiment"
    named = [] if own else ["--experiment=mnist_badnets"]
    scale = [] if any("scale" in flag for flag in flags) else ["--scale=smoke"]
    status = start(*named, *scale, f"--workdir={tmp_path / 'w'}", f"--data_dir={data_dir}", *flags)
    reported = capsys.readouterr()
    assert status == 2
    assert message in reported.err and reported.err.count("\n") == 1 and not reported.out
    assert not (tmp_path / "w" / "record.json").exists()


def test_list_names_every_experiment_with_its_claim(capsys):
    assert start("--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == experiments.names()
    assert all(
        line.endswith(")") and any(at in line for at in ("(table", "(figure", "(section", "(beside")) for line in lines
    )


def test_list_survives_broken_files(tmp_path, monkeypatch, capsys):
    for name, text in {"a_good": '"""Claim."""', "b_broken": "def experiment(:", "c_nulls": "\0"}.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setattr(experiments, "folder", lambda: tmp_path)
    assert main(["--list"]) == 0
    good, broken, nulls = capsys.readouterr().out.splitlines()
    assert good.split() == ["a_good", "Claim."] and "(broken: line 1: " in broken and "(broken: " in nulls


NUMBERS = {"8/255": 8 / 255, ".5/255": 0.5 / 255, "1e-3": 1e-3, "8/0": None, "nan": None, "-1": None}


@pytest.mark.parametrize("given", NUMBERS)
def test_numbers_may_be_fractions(given):
    flag = Parser("test", "A test.")
    flag.number("eps", "a number")
    if NUMBERS[given] is None:
        with pytest.raises(ValueError, match=r"must be a number of at least 0, such as 0\.1 or 8/255"):
            flag.parse([f"--eps={given}"])
    else:
        assert flag.parse([f"--eps={given}"]).eps == NUMBERS[given]


def test_a_forgotten_command_is_named(capsys):
    assert main(["--experiment=mnist_badnets"]) == 2
    assert "as in poisonjax run --experiment=mnist_badnets" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "own", "expected"),
    [(None, None, "CACHE/poisonjax"), ("none", "/mine", None), ("/there", "/mine", "/there"), (None, "/mine", "/mine")],
)
def test_compiled_programs_are_kept_where_the_flag_or_jax_says(flag, own, expected, monkeypatch):
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.setenv("XDG_CACHE_HOME", "CACHE")
    try:
        jax.config.update("jax_compilation_cache_dir", own)
        enable_compilation_cache(flag)
        assert jax.config.jax_compilation_cache_dir == expected
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


POISONED = {  # rows: 33 % of a class of 30, 10 % of 300, 40 % of a class of 10, 4 % of one of 300
    "mnist_clean_label": 10,
    "mnist_badnets": 30,
    "mnist_unbalanced_badnets": 28,
    "cifar10_badnets": 10,
    "tabular_explanation_guided": 12,
    "cifar10_badnets_resnet18": 5,
    "cifar10_clean_label": 4,
}
CURVES_AND_RESULTS = {"curves.png", "results.png"}
FIGURES = {  # beside these two and, where somebody attacks, images.png
    "cifar10_adversarial_example": {"example.png"},
    "cifar10_activations": {"tsne.png"},
    "cifar10_capacity": {"capacity.png"},
    "mnist_activations": {"tsne.png"},
    "mnist_attacks": {"attacks_standard.png", "attacks_pgd_at.png"},
    "mnist_capacity": {"capacity.png"},
    "cifar10_defences": {"certified_rows.png"},
    "mnist_defences": {"certified_rows.png"},
    "mnist_loss_paths": {"loss_paths.png"},
}
TABLES = ("tabular_explanation_guided",)  # experiments on rows of features, of which there are no pictures


def like_cifar10():
    """What looks like CIFAR-10 to the code: 20 + 10 images a class, each class of a colour of its own."""
    rng = np.random.default_rng(0)

    def split(rows):
        label = np.arange(10 * rows, dtype=np.int32) % 10
        colour = rng.integers(0, 256, (10, 1, 1, 3))[label]
        image = np.clip(colour + rng.integers(-60, 60, (10 * rows, 32, 32, 3)), 0, 255).astype(np.uint8)
        return Examples(image, label, np.arange(10 * rows, dtype=np.int32))

    return Dataset("cifar10", "3.0.2", 10, split(20), split(10), "0" * 64)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory, data_dir):
    """name -> the workdir of that experiment at smoke scale, run when first asked for."""
    load, workdirs = data.load, {}

    def run(name):
        if name in TABLES:
            pytest.importorskip("lightgbm", reason="the extra poisonjax[tabular] is not installed")
        if name not in workdirs:
            workdirs[name] = tmp_path_factory.mktemp(name) / "run"
            assert start(*flags_of(name, workdirs[name], data_dir)) == 0
        return workdirs[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "load", lambda name, *more: like_cifar10() if name == "cifar10" else load(name, *more))
        yield run


def flags_of(name, workdir, data_dir):
    return [f"--experiment={name}", "--scale=smoke", f"--workdir={workdir}", f"--data_dir={data_dir}"]


def recorded(workdir):
    return json.loads((workdir / "record.json").read_text())


every_experiment = pytest.mark.parametrize("name", experiments.names())
two_experiments = pytest.mark.parametrize("name", ["mnist_badnets", "mnist_clean_label"])


@every_experiment
def test_every_experiment_ends_with_record_report_figures_curves_and_checkpoints(name, smoke):
    finished, record = smoke(name), recorded(smoke(name))
    report = (finished / "report.md").read_text()
    images = set() if record["attack_gate"] is None or name in TABLES else {"images.png"}
    expected = CURVES_AND_RESULTS | images | FIGURES.get(name, set())
    assert {path.name for path in (finished / "figures").iterdir()} == expected
    for figure in expected:
        assert (finished / "figures" / figure).read_bytes().startswith(b"\x89PNG") and f"figures/{figure}" in report
    for arm in record["arms"]:
        assert list((finished / "tensorboard" / arm / "0").glob("events.out.tfevents.*"))
        assert [path.name for path in (finished / "seed0" / arm / "checkpoints").glob("[0-9]*")]
        assert f"| {arm} |" in report
    assert record["finding"] in report


@every_experiment
def test_the_record_has_what_its_schema_promises(name, smoke):
    record = recorded(smoke(name))
    assert record["scale"] == "smoke" and record["seeds"] == [0]
    assert list(record["arms"]) == [arm["name"] for arm in record["config"]["arms"]]
    train, test = (100, 50) if "cifar10" in name else (280 if "unbalanced" in name else 300, 100)
    dataset = {"name": "cifar10" if "cifar10" in name else "mnist_5k", "train": train, "test": test}
    if name in TABLES:
        dataset, test = {"name": "phishing", "train": 600, "test": 200}, 200
    assert record["dataset"].items() >= dataset.items() and len(record["dataset"]["sha256"]) == 64
    for arm in record["arms"].values():
        assert arm["seconds"] > 0 and arm["train_images_per_second"] > 0 and arm["parameters"] > 100
        for each in ALWAYS:
            metric = arm[each]
            hits, of = metric["numerator"][0], metric["denominator"][0]
            assert metric["per_seed"] == [hits / of if of else None] and metric["std"] is None
            assert sum(metric["per_class"]["numerator"][0]) == hits
            assert sum(metric["per_class"]["denominator"][0]) == of
            assert of == 0 or metric["ci95"][0] <= metric["mean"] <= metric["ci95"][1]
        assert arm["clean_accuracy"]["denominator"] == arm["robust_accuracy"]["denominator"] == [test]
    assert ("activations" in record["analyses"]) == ("activations" in name)
    assert ("attack_suite" in record["analyses"]) == (name == "mnist_attacks")
    for cells in record["verdict"].values():
        assert set(cells.values()) == {"inconclusive"}  # the smoke scale is not the published setting
    assert (record["attack_gate"] is None) == (record["config"]["poison"]["type"] == "NoPoison")
    assert record["environment"].keys() >= {"jax", "jaxlib", "flax", "device", "device_count", "commit"}
    assert record["command"] == f"python launch.py --experiment={name} --scale=smoke --seeds=1"
    if name in POISONED:
        assert record["poison"][0]["rows"] == POISONED[name]
    if get_experiment(name, "smoke").poison.needs_surrogate and name not in TABLES:  # there the attacker explains trees
        assert 0 <= record["poison"][0]["surrogate"]["robust_accuracy"] <= 1


def test_a_network_on_rows_is_loaded_with_the_watermark_of_its_seed(smoke):
    finished = smoke("tabular_explanation_guided")
    trained = load_trained(finished, "isolation_forest")
    assert repr(trained.experiment.poison.trigger) == recorded(finished)["poison"][0]["trigger"]


def test_the_table_of_a_run_fits_a_narrow_terminal(smoke):
    record = recorded(smoke("mnist_clean_label"))
    for width in (80, 60, None):
        lines = results(record, width).split("\n")
        assert max(len(line) for line in lines if line[0] not in "†‡") <= (width or 200)
        assert all(any(line.startswith(arm) for line in lines) for arm in record["arms"])
    assert "ASR %" in results(record, 80)


@two_experiments
def test_the_same_command_again_says_so_and_changes_nothing(name, smoke, data_dir, capsys):
    finished, record = smoke(name), recorded(smoke(name))
    capsys.readouterr()
    assert start(*flags_of(name, finished, data_dir)) == 0
    assert "already done" in capsys.readouterr().err
    assert recorded(finished) == record


def test_more_seeds_are_added_to_those_done(smoke, data_dir):
    finished, record = smoke("mnist_badnets"), recorded(smoke("mnist_badnets"))
    assert start(*flags_of("mnist_badnets", finished, data_dir), f"--seeds={len(record['seeds']) + 1}") == 0
    for arm, metrics in recorded(finished)["arms"].items():
        for name in ALWAYS:
            assert metrics[name]["numerator"][:-1] == record["arms"][arm][name]["numerator"]
        assert metrics["clean_accuracy"]["std"] is not None


def test_some_of_the_arms_are_trained_now_and_others_later(tmp_path, data_dir, capsys):
    flags = [*flags_of("mnist_badnets", tmp_path / "run", data_dir), "--arms=standard,standard_clean_data"]
    assert start(*flags) == 0
    first = recorded(tmp_path / "run")
    assert list(first["arms"]) == ["standard", "standard_clean_data"]
    assert first["command"].endswith(flags[-1]) and not first["warnings"]
    assert {row["arm"] for row in first["comparison"]} == {"standard"}
    kept = tmp_path / "run" / "seed0" / "standard" / "result.json"
    elsewhere = json.loads(kept.read_text())["content"]
    elsewhere["environment"]["jax"] = "0.0.1"
    kept.write_text(json.dumps(with_checksum(elsewhere)))
    flags[-1] += ",pgd_at"
    assert start(*flags) == 0
    then = recorded(tmp_path / "run")
    assert then["environment"] == first["environment"] | {"jax": f"0.0.1, {first['environment']['jax']}"}
    assert list(then["arms"]) == ["standard", "pgd_at", "standard_clean_data"]
    assert all(then["arms"][arm]["seconds"] == of["seconds"] for arm, of in first["arms"].items())


@two_experiments
def test_another_configuration_on_the_same_workdir_is_refused(name, smoke, data_dir, capsys):
    finished = smoke(name)
    capsys.readouterr()
    status = start(*flags_of(name, finished, data_dir), "--set=poison.rate=.2")
    line = capsys.readouterr().err
    assert status == 2 and "poison.rate is" in line and "another folder" in line and line.count("\n") == 1


def test_suspicious_settings_warn():
    plan = experiments.build("mnist_badnets", "paper")
    as_reported = ("arms.pgd_at_as_reported", "arms.pgd_at_as_reported_clean_data")
    assert plan.warnings() == [f"{arm}.objective.attack {RANDOM_START}" for arm in as_reported]
    for change in (f"{AT}.steps=5", f"{AT}.random_start=false", "evaluation.attack.random_start=false"):
        plan = override(plan, change)
    (line,) = plan.warnings()
    assert line.startswith(f"{AT} can move at most 0.05 (5 steps of 0.01 without a random start), less than its")


def test_only_what_flags_bring_about_is_warned_of():
    usual = experiments.build("mnist_badnets", "paper")
    assert usual.warnings() and run.doubts([usual, override(usual, "poison.rate=.2")], usual) == []
    weak = override(override(usual, f"{AT}.steps=5"), f"{AT}.random_start=false")
    assert run.doubts([usual, weak, weak], usual) == [line for line in weak.warnings() if line.startswith(AT + " ")]


RANDOM_START = (
    "starts at the image itself and evaluation.attack at random in the ball: a network may come out robust against the "
    "first only"
)


def test_estimate_says_how_long_the_paper_scale_takes_and_starts_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(estimate, "seconds_per_gradient", lambda *_: 1e-6)
    assert start("--experiment=mnist_badnets", "--estimate", f"--workdir={tmp_path / 'w'}") == 0
    line = capsys.readouterr().out
    assert line.startswith("mnist_badnets: the paper scale would take about ") and line.endswith(" per seed here\n")
    assert not (tmp_path / "w").exists()
