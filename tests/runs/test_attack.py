"""One network under one attack: what is accepted and refused, what is measured, and what is kept."""

import contextlib
import dataclasses
import json
import shutil

import fsspec
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import launch
import poisonjax.runs.attack as command
from experiments import mnist_badnets
from poisonjax.attacks import L2, PGD, AutoAttack, Linf
from poisonjax.evaluation import attack_run, robustness
from poisonjax.evaluation.robustness import evaluate
from poisonjax.evaluation.victim import Fixed
from poisonjax.experiment import Arm, Experiment
from poisonjax.overrides import from_json, override, to_json
from poisonjax.runs import runner
from poisonjax.runtime.workdir import claim
from tests.attacks.references import victim

KEY = jax.random.key(0)
ATTACK = PGD(Linf(0.1), step=0.02, steps=10)
# Without a sign, which rounding errors, and so processors and sizes of batches, turn over where a gradient is near 0.
SMOOTH = PGD(L2(1.0), step=0.2, steps=10)


# What is given.


@pytest.fixture(scope="module")
def expected():
    net = victim()
    return evaluate(net.logits_fn, net.x, net.y, ATTACK, KEY, 32)


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_the_size_of_a_batch_changes_nothing(batch):
    net = victim()
    made = evaluate(net.logits_fn, net.x[:9], net.y[:9], SMOOTH, KEY, batch)
    whole = evaluate(net.logits_fn, net.x, net.y, SMOOTH, KEY, 32)
    np.testing.assert_allclose(made.tried.adversarial, whole.tried.adversarial[:9], atol=1e-4)
    assert made.measured["robust"] == [int(np.sum(whole.tried.after[:9] == net.y[:9])), 9]


def test_what_is_measured_is_what_the_attack_does(expected):
    net = victim()
    left = np.argmax(net.logits_fn(expected.tried.adversarial), -1) == net.y
    assert expected.measured["robust"] == [left.sum(), 32] and expected.measured["clean"] == [32, 32]
    assert 0 < left.sum() < 32
    assert expected.measured["median_linf"] == pytest.approx(0.1, rel=1e-4)
    assert (expected.measured["gradients"], expected.measured["queries"]) == (10, 0)


def test_bytes_are_the_images_that_they_stand_for():
    net = victim()
    raw = np.round(np.asarray(net.x) * 255).astype(np.uint8)
    made, same = (evaluate(net.logits_fn, x, net.y, SMOOTH, KEY) for x in (raw, raw.astype(np.float64) / 255))
    np.testing.assert_allclose(made.tried.adversarial, same.tried.adversarial, atol=1e-4)


def plain(shape, classes=3):
    """A linear network for images of a shape, and images."""
    rng = np.random.default_rng(0)
    weights = jnp.asarray(rng.normal(size=(int(np.prod(shape)), classes)), jnp.float32)
    x = rng.random((5, *shape), np.float32)
    return (
        (lambda images: images.reshape(len(images), -1) @ weights),
        x,
        np.argmax(x.reshape(5, -1) @ np.asarray(weights), -1),
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_colour_images_and_no_room_to_move(channels):
    logits_fn, x, y = plain((6, 5, channels))
    moved = evaluate(logits_fn, x, y, PGD(Linf(0.3), 0.1, 5), KEY, 2)
    assert moved.measured["robust"][0] < moved.measured["clean"][0] == 5
    still = evaluate(logits_fn, x, y, PGD(Linf(0.0), 0.1, 5), KEY, 2)
    np.testing.assert_array_equal(still.tried.adversarial, x)
    assert still.measured["robust"] == [5, 5] and still.measured["median_l2"] is None


LOGITS, X, Y = plain((4, 4, 1))
REFUSED = {
    "no batch": (LOGITS, X[0], Y, "x must be images of shape [n h w c], got shape [4, 4, 1]"),
    "no images": (LOGITS, X[:0], Y[:0], "x must be images of shape [n h w c], got shape [0, 4, 4, 1]"),
    "numbers of 0 to 255": (LOGITS, X * 255, Y, "x must be uint8 or lie in [0, 1], got values from"),
    "numbers of -1 to 1": (LOGITS, X * 2 - 1, Y, "x must be uint8 or lie in [0, 1], got values from -"),
    "nan images": (LOGITS, np.where(X > 0.5, np.nan, X), Y, "x must be uint8 or lie in [0, 1], got values from nan"),
    "whole numbers": (LOGITS, X.astype(np.int32), Y, "x must be uint8 or floating, got int32"),
    "float labels": (LOGITS, X, Y.astype(float), "y must be whole numbers, got float64"),
    "one-hot labels": (LOGITS, X, np.eye(3, dtype=int)[Y], "y must be 5 labels, one an image, got shape [5, 3]"),
    "few labels": (LOGITS, X, Y[:4], "y must be 5 labels, one an image, got shape [4]"),
    "negative label": (LOGITS, X, Y - 3, "y must be labels from 0, got -"),
    "large label": (LOGITS, X, Y + 3, "y must be labels from 0 to 2, got "),
    "probabilities": (lambda x: jax.nn.softmax(LOGITS(x)), X, Y, "must give logits, before the softmax, got prob"),
    "nan logits": (lambda x: jnp.log(LOGITS(x) - 1e3), X, Y, "must give numbers, got NaN or infinity for 5 of 5"),
    "one number an image": (lambda x: LOGITS(x)[:, 0], X, Y, "must give logits of shape [b k], got [1] for 1 image"),
    "no array": (lambda x: (LOGITS(x), x), X, Y, "must give logits of shape [b k], got tuple for 1 image"),
    "other images": (LOGITS, X[:, :3], Y, "the network cannot take images of shape [3, 4, 1]: "),
}


@pytest.mark.parametrize("case", REFUSED)
def test_input_that_cannot_be_meant_is_one_line(case):
    logits_fn, x, y, message = REFUSED[case]
    with pytest.raises(ValueError) as caught:
        evaluate(logits_fn, x, y, ATTACK, KEY)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_no_batch_is_refused():
    with pytest.raises(ValueError, match="batch must be at least 1, got 0"):
        evaluate(LOGITS, X, Y, ATTACK, KEY, 0)


def test_logits_that_only_look_like_probabilities_pass():
    """One row that sums to 1 is chance; and rows of sum 1 may be negative."""
    shifted = lambda x: LOGITS(x) + (1 - LOGITS(x).sum(-1, keepdims=True)) / 3  # noqa: E731
    evaluate(shifted, X, Y, PGD(Linf(0.1), 0.1, 1), KEY)


def test_who_looks_on_is_told_of_every_image_of_every_stage():
    logits_fn, x, y = plain((6, 5, 1), classes=4)
    told = {}

    @contextlib.contextmanager
    def follow(stage, images):
        done = []
        yield done.append
        told[stage] = images, sum(done)

    attacks = PGD(Linf(0.001), 0.001, 2), AutoAttack(Linf(0.001), steps=2, targets=2, queries=5)
    for attack in attacks:
        attack_run.attempt(Fixed(logits_fn), (), robustness.check(x, y), attack, KEY, 2, follow=follow)
    assert told.pop("") == (5, 5)
    assert told == dict.fromkeys(["apgd_ce", "apgd_t", "fab_t", "square"], (6, 6))  # full batches of those left


def test_a_stage_is_compiled_once_whatever_is_left():
    plain_logits, x, y = plain((6, 5, 1), classes=4)
    attack, counts = AutoAttack(Linf(0.001), steps=2, targets=2, queries=5), []
    for rows in (2, 5):
        traced = []

        def logits_fn(images, traced=traced):
            traced.append(1)
            return plain_logits(images)

        attack_run.attempt(Fixed(logits_fn), (), robustness.check(x[:rows], y[:rows]), attack, KEY, 2)
        counts.append(len(traced))
    assert counts[0] == counts[1]


# The command.


@pytest.fixture(scope="module")
def run(tmp_path_factory, data_dir):
    """The workdir of a run with little training."""
    folder = tmp_path_factory.mktemp("run")
    plan = dataclasses.replace(mnist_badnets.experiment("smoke"), arms=(Arm("standard"),), reported=())
    plan = override(override(plan, "poison.rate=.2"), "train.epochs=12")
    claim(folder, runner.identity(plan, "smoke"))
    runner.run(runner.Run(plan, runner.load(plan, data_dir), folder, "smoke"))
    return folder


def evaluated(*words):
    """The command with these flags; its exit status."""
    try:
        return command.main(["evaluate", *map(str, words)])
    finally:
        for flag in command.FLAGS:
            command.FLAGS[flag].unparse()


@pytest.fixture
def asked(run, data_dir):
    return [f"--victim={run}", "--arm=standard", f"--data_dir={data_dir}", "--batch=50"]


AUTO = ["--attack=autoattack", "--eps=.05", "--set=attack.steps=2", "--set=attack.targets=2", "--set=attack.queries=5"]


def test_the_network_of_the_run_is_judged_on_its_test_images(run, asked, capsys):
    assert evaluated(*asked, "--attack=pgd", "--eps=.05") == 0
    out = run / "evaluations" / "standard_seed0_pgd_Linf_0.05"
    made, whole = json.loads((out / "evaluation.json").read_text()), json.loads((run / "record.json").read_text())
    clean = whole["arms"]["standard"]["clean_accuracy"]
    assert made["clean"] == [clean["numerator"][0], clean["denominator"][0]] == [made["clean"][0], 100]
    assert 0 < made["robust"][0] < made["clean"][0] and made["gradients"] == 41
    assert made["run"]["poison"]["rate"] == 0.2 and made["attack"]["ball"] == {"type": "Linf", "eps": 0.05}
    reported = capsys.readouterr().out
    assert f"({made['robust'][0]}/100) |" in reported and reported.strip().endswith("report.md")
    report = (out / "report.md").read_text()
    assert "| robust accuracy |" in report and made["command"] in report


def test_a_victim_in_a_bucket_is_judged_as_in_a_folder_and_its_run_is_left_alone(run, asked, capsys):
    store, url = fsspec.filesystem("memory"), "memory://b/victim"
    store.put(f"{run}/", url, recursive=True)
    before = {path for path in store.find(url) if "/evaluations/" not in path}
    words = [word.replace(str(run), url) for word in asked] + ["--attack=fgsm", "--eps=.05"]
    assert evaluated(*words) == 0
    assert capsys.readouterr().out.endswith(f"\n{url}/evaluations/standard_seed0_fgsm_Linf_0.05/report.md\n")
    in_bucket = json.loads(store.cat(f"{url}/evaluations/standard_seed0_fgsm_Linf_0.05/evaluation.json"))
    assert evaluated(*asked, "--attack=fgsm", "--eps=.05") == 0
    in_folder = json.loads((run / "evaluations/standard_seed0_fgsm_Linf_0.05/evaluation.json").read_text())
    assert in_bucket["robust"] == in_folder["robust"]
    assert {path for path in store.find(url) if "/evaluations/" not in path} == before


def test_a_stopped_autoattack_goes_on_after_the_last_stage_that_is_done(asked, tmp_path, capsys, monkeypatch):
    words, whole, parts = [*asked, *AUTO], tmp_path / "whole", tmp_path / "parts"
    assert evaluated(*words, f"--out={whole}") == 0
    save = command.save_arrays
    with monkeypatch.context() as patch:
        patch.setattr(command, "save_arrays", lambda path, of: stop() if path.stem == "fab_t" else save(path, of))
        assert evaluated(*words, f"--out={parts}") == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert {path.stem for path in parts.glob("*.npz")} == {"apgd_ce", "apgd_t"}
    assert evaluated(*words, f"--out={parts}") == 0
    said = capsys.readouterr().err.split("\n")
    assert said[:4] == ["apgd_ce is done already", "apgd_t is done already", "fab_t", "square"]
    one, two = (json.loads((folder / "evaluation.json").read_text()) for folder in (whole, parts))
    for name in ("clean", "robust", "stages", "median_l2", "median_linf"):
        assert one[name] == two[name]
    assert list(one["stages"]) == ["apgd_ce", "apgd_t", "fab_t", "square"] and one["stages"]["square"] < 1
    assert evaluated(*words, f"--out={parts}") == 0 and not capsys.readouterr().err  # nothing is left to do
    (parts / "apgd_t.npz").write_bytes(b"PK\x03\x04 and no more")
    (parts / "result.json").unlink()
    assert evaluated(*words, f"--out={parts}") == 0
    assert "apgd_t.npz is damaged (BadZipFile): made again" in capsys.readouterr().err
    assert evaluated(*asked, "--attack=pgd", "--eps=.1", f"--out={parts}") == 2
    assert "belongs to a different run (attack." in (line := capsys.readouterr().err) and "another folder" in line


def stop():
    raise KeyboardInterrupt


def test_an_attack_that_seeks_the_smallest_change(asked, tmp_path):
    words = ["--attack=fab", "--norm=L2", "--images=8", "--set=attack.steps=3", "--set=attack.targets=2"]
    assert evaluated(*asked, *words, f"--out={tmp_path}/out") == 0
    made = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert made["attack"]["norm"] == "L2" and made["images"] == 8 and made["median_l2"] > 0


BAD = {
    "no victim": (["--victim=", "--attack=pgd", "--eps=.1"], "has no config.json, so it is no workdir of a run"),
    "no attack": ([], "--attack is required"),
    "no eps": (["--attack=pgd"], "--eps is required"),
    "unknown attack": (["--attack=deepfool"], "--attack=deepfool: value should be one of <fgsm|bim|pgd|"),
    "eps 8": (["--attack=pgd", "--eps=8"], "--eps=8.0: eps must lie in [0, 1] for images in [0, 1]"),
    "eps 0": (["--attack=pgd", "--eps=0"], "--eps=0.0: must be above 0"),
    "L2 eps 100": (["--attack=pgd", "--eps=100", "--norm=L2"], "--eps=100: must be at most 28 for images of shape"),
    "eps where none is": (["--attack=lbfgs", "--eps=.1"], "--eps=0.1: lbfgs seeks the smallest change and takes no"),
    "norm where none is": (["--attack=boundary", "--norm=Linf"], "--norm=Linf: boundary is for L2 only"),
    "unknown arm": (["--arm=pgd", "--attack=pgd", "--eps=.1"], "--arm=pgd: the run has standard"),
    "unknown seed": (["--seed=3", "--attack=pgd", "--eps=.1"], "--seed=3: the run has 0"),
    "unknown field": (["--attack=pgd", "--eps=.1", "--set=attack.queries=3"], "attack has no field 'queries'; it has"),
    "no field": (["--attack=pgd", "--eps=.1", "--set=steps=3"], "an evaluation has no field 'steps'; it has attack"),
    "wrong value": (["--attack=pgd", "--eps=.1", "--set=attack.steps=0"], "attack: steps must be at least 1, got 0"),
    "many images": (["--attack=pgd", "--eps=.1", "--images=101"], "--images=101: the test split has 100"),
    "unknown flag": (["--atack=pgd"], "atack"),
    "no flag": (["pgd"], "'pgd' is no flag; flags start with --"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_status_two(case, asked, tmp_path, capsys):
    words, message = BAD[case]
    assert evaluated(*asked, f"--out={tmp_path / 'out'}", *words) == 2
    reported = capsys.readouterr()
    assert message in reported.err and reported.err.count("\n") == 1 and not reported.out
    assert not (tmp_path / "out").exists()


def test_a_network_that_is_not_trained_to_the_end_is_refused(asked, run, tmp_path, capsys):
    copy = tmp_path / "run"
    (copy / "seed0" / "standard").mkdir(parents=True)
    (copy / "config.json").write_text((run / "config.json").read_text())
    words = ["--attack=pgd", "--eps=.1", f"--victim={copy}", f"--out={tmp_path / 'out'}"]
    assert evaluated(*asked, *words) == 2
    assert "training is at step 0 of 60; it must come to its end" in capsys.readouterr().err
    shutil.copytree(run / "seed0", copy / "seed0", dirs_exist_ok=True)
    (copy / "config.json").write_text((run / "config.json").read_text().replace('"epochs": 12', '"epochs": 13'))
    assert evaluated(*asked, *words) == 2
    assert "training is at step 60 of 65; it must come to its end" in capsys.readouterr().err
    newer = (run / "config.json").read_text().replace('"rate": 0.2', '"speed": 0.2')
    (copy / "config.json").write_text(newer)
    assert evaluated(*asked, *words) == 2
    line = capsys.readouterr().err
    assert "its config.json is not of this version of poisonjax: BadNets has no field 'speed'" in line


def test_a_network_of_no_numbers_is_refused_and_nothing_is_written(asked, tmp_path, capsys, monkeypatch):
    broken = command.restored
    lost = lambda *args: jax.tree.map(lambda leaf: np.full(np.shape(leaf), np.nan, np.float32), broken(*args))  # noqa: E731
    monkeypatch.setattr(command, "restored", lost)
    assert evaluated(*asked, "--attack=pgd", "--eps=.1", f"--out={tmp_path / 'out'}") == 2
    assert "got NaN or infinity for 100 of 100 images" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", launch.names())
def test_a_configuration_comes_back_from_json(name):
    for scale in ("smoke", "paper"):
        plan = launch.module(name).experiment(scale)
        assert from_json(json.loads(json.dumps(to_json(plan))), Experiment) == plan


def test_the_command_and_the_library_are_one():
    assert command.evaluate is robustness.evaluate
