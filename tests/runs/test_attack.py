"""`poisonjax evaluate`: a network of a run under one attack; bad input, interruptions, buckets."""

import dataclasses
import json
import shutil

import fsspec
import jax
import numpy as np
import pytest

from experiments import mnist_badnets
from poisonjax.cli import evaluate as command
from poisonjax.experiment import Arm, Experiment
from poisonjax.overrides import from_json, override, to_json
from poisonjax.runs import attack as attacks
from poisonjax.runs import experiments, job, runner, trained
from poisonjax.runtime.workdir import claim


@pytest.fixture(scope="module")
def run(tmp_path_factory, data_dir):
    """The workdir of a run with little training."""
    folder = tmp_path_factory.mktemp("run")
    plan = dataclasses.replace(mnist_badnets.experiment("smoke"), arms=(Arm("standard"),), reported=())
    plan = override(override(plan, "poison.rate=.2"), "train.epochs=12")
    dataset = runner.load(plan, data_dir)
    claim(folder, job.identity(plan, "smoke", dataset))
    runner.run(job.Run(plan, dataset, folder, "smoke"))
    return folder


def evaluated(*words):
    """The command with these flags; its exit status."""
    return command.main(list(map(str, words)), "poisonjax evaluate")


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
    success = whole["arms"]["standard"]["attack_success_rate"]
    assert made["attack_success_rate"] == [success["numerator"][0], success["denominator"][0]]
    assert made["run"]["poison"]["rate"] == 0.2 and made["attack"]["ball"] == {"type": "Linf", "eps": 0.05}
    reported = capsys.readouterr().out
    assert f"({made['robust'][0]}/100)\n" in reported and reported.strip().endswith("report.md")
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


def test_stopped_autoattack_resumes_after_its_last_finished_stage(asked, tmp_path, capsys, monkeypatch):
    words, whole, parts = [*asked, *AUTO], tmp_path / "whole", tmp_path / "parts"
    assert evaluated(*words, f"--out={whole}") == 0
    save = attacks.save_arrays
    with monkeypatch.context() as patch:
        patch.setattr(attacks, "save_arrays", lambda path, of: stop() if path.stem == "fab_t" else save(path, of))
        with pytest.raises(KeyboardInterrupt):
            evaluated(*words, f"--out={parts}")
    capsys.readouterr()
    assert {path.stem for path in parts.glob("*.npz")} == {"apgd_ce", "apgd_t"}
    assert evaluated(*words, f"--out={parts}") == 0
    said = capsys.readouterr().err.split("\n")
    stages = ["1 of 4: apgd_ce, already done", "2 of 4: apgd_t, already done", "3 of 4: fab_t", "4 of 4: square"]
    assert said[:4] == [f"stage {stage}" for stage in stages]
    one, two = (json.loads((folder / "evaluation.json").read_text()) for folder in (whole, parts))
    for name in ("clean", "robust", "stages", "median_l2", "median_linf"):
        assert one[name] == two[name]
    assert list(one["stages"]) == ["apgd_ce", "apgd_t", "fab_t", "square"] and one["stages"]["square"] < 1
    assert evaluated(*words, f"--out={parts}") == 0
    assert capsys.readouterr().err == f"{parts}: already done\n"
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
    "no victim": (["--victim=", "--attack=pgd", "--eps=.1"], ". is not the workdir of a run (no config.json)"),
    "no attack": ([], "--attack is required"),
    "no eps": (["--attack=pgd"], "--eps is required"),
    "capitals": (["--attack=PGD", "--norm=linf", "--eps=8"], "--eps=8: eps must lie in [0, 1] for images in [0, 1]"),
    "unknown attack": (["--attack=deepfool"], "--attack: unknown attack 'deepfool'; allowed are fgsm, bim, pgd, "),
    "misspelt attack": (["--attack=autoatack"], "--attack: unknown attack 'autoatack'; did you mean autoattack?"),
    "eps 8": (["--attack=pgd", "--eps=8"], "--eps=8: eps must lie in [0, 1] for images in [0, 1]"),
    "eps 0": (["--attack=pgd", "--eps=0"], "--eps=0: must be above 0"),
    "eps no number": (["--attack=pgd", "--eps=8/0"], "--eps=8/0: must be a number of at least 0, such as 0.1 or 8/255"),
    "L2 eps 100": (["--attack=pgd", "--eps=100", "--norm=L2"], "eps must be at most 28 for images of shape"),
    "eps where none is": (["--attack=lbfgs", "--eps=.1"], "--eps=0.1: lbfgs seeks the smallest change and takes no"),
    "norm where none is": (["--attack=boundary", "--norm=Linf"], "--norm=Linf: boundary is for L2 only"),
    "unknown norm": (["--attack=pgd", "--eps=.1", "--norm=L0"], "--norm=L0: unknown value 'L0'; allowed are Linf, L2"),
    "unknown arm": (["--arm=pgd", "--attack=pgd", "--eps=.1"], "unknown arm 'pgd'; the run has standard"),
    "unknown seed": (["--seed=3", "--attack=pgd", "--eps=.1"], "unknown seed 3; the run has 0"),
    "unknown field": (["--attack=pgd", "--eps=.1", "--set=attack.queries=3"], "attack has no field 'queries'; it has"),
    "no field": (["--attack=pgd", "--eps=.1", "--set=steps=3"], "--set steps=3: must have the form attack.field=value"),
    "wrong value": (["--attack=pgd", "--eps=.1", "--set=attack.steps=0"], "attack: steps must be at least 1, got 0"),
    "many images": (["--attack=pgd", "--eps=.1", "--images=101"], "images must be at most the 100 of the test split"),
    "unknown flag": (["--atack=pgd", "--attack=pgd"], "unknown flag '--atack'; did you mean --attack?"),
    "no flag": (["pgd", "--attack=pgd"], "unexpected argument 'pgd'; flags start with --"),
}


def test_all_missing_flags_are_named_at_once(capsys):
    assert evaluated() == 2
    assert "--victim, --arm, --attack are required" in capsys.readouterr().err
    assert evaluated("--attack=PGD") == 2
    assert "--victim, --arm, --eps are required" in capsys.readouterr().err
    assert evaluated("--attack=fab", "--arm=pgd_at") == 2
    assert "--victim is required" in capsys.readouterr().err


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
    assert "training is at step 0 of 60; run its command again" in capsys.readouterr().err
    shutil.copytree(run / "seed0", copy / "seed0", dirs_exist_ok=True)
    (copy / "config.json").write_text((run / "config.json").read_text().replace('"epochs": 12', '"epochs": 13'))
    assert evaluated(*asked, *words) == 2
    assert "training is at step 60 of 65; run its command again" in capsys.readouterr().err
    newer = (run / "config.json").read_text().replace('"rate": 0.2', '"speed": 0.2')
    (copy / "config.json").write_text(newer)
    assert evaluated(*asked, *words) == 2
    line = capsys.readouterr().err
    assert f"config.json of {copy}: " in line and "BadNets has no field 'speed'" in line


def test_a_network_of_no_numbers_is_refused_and_nothing_is_written(asked, tmp_path, capsys, monkeypatch):
    broken = trained.restored
    lost = lambda *args: jax.tree.map(lambda leaf: np.full(np.shape(leaf), np.nan, np.float32), broken(*args))  # noqa: E731
    monkeypatch.setattr(trained, "restored", lost)
    assert evaluated(*asked, "--attack=pgd", "--eps=.1", f"--out={tmp_path / 'out'}") == 2
    assert "got NaN or infinity for 100 of 100 images" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", experiments.names())
def test_a_configuration_comes_back_from_json(name):
    for scale in ("smoke", "paper"):
        plan = experiments.build(name, scale)
        assert from_json(json.loads(json.dumps(to_json(plan))), Experiment) == plan
