"""A defence on a run that is done: from the command line to an arm of its record, and what is refused."""

import dataclasses
import json

import pytest

from experiments import mnist_badnets
from poisonjax.cli import main
from poisonjax.data.subsets import Stratified
from poisonjax.defences import ActivationClustering, RepeatedPatch
from poisonjax.runs import start
from poisonjax.runs.defend import with_defence


@pytest.fixture(scope="module")
def victim(data_dir, tmp_path_factory):
    """The workdir of a run of one arm, hardly trained."""
    plan = mnist_badnets.experiment("smoke")
    plan = dataclasses.replace(
        plan,
        arms=plan.arms[:1],
        reported=(),
        train=dataclasses.replace(plan.train, max_steps=1),
        data=dataclasses.replace(plan.data, test=Stratified(10)),
    )
    workdir = tmp_path_factory.mktemp("victim")
    start.run(plan, workdir, data_dir=data_dir, scale="smoke", changed=["train.max_steps=1"])
    return workdir


def command(victim, data_dir, *flags):
    return main(["defend", f"--victim={victim}", f"--data_dir={data_dir}", *flags])


def test_a_defence_becomes_an_arm_of_the_run(victim, data_dir, capsys):
    before = (victim / "seed0/standard/result.json").read_bytes()
    assert command(victim, data_dir, "--defence=RepeatedPatch()") == 0
    assert "repeated_patch" in capsys.readouterr().out
    record = json.loads((victim / "record.json").read_bytes())
    assert list(record["arms"]) == ["standard", "repeated_patch"] and record["changed"] == ["train.max_steps=1"]
    assert record["arms"]["repeated_patch"]["poisoned_rows_removed"]["numerator"] == [30]
    assert (victim / "seed0/standard/result.json").read_bytes() == before
    assert command(victim, data_dir, "--defence=RepeatedPatch()") == 0


def test_the_new_arm_is_named_after_the_defence_and_the_training_it_defends():
    plan = mnist_badnets.experiment("smoke")
    assert with_defence(plan, ActivationClustering(), "pgd_at").arms[-1].name == "activation_clustering_pgd_at"
    assert with_defence(plan, RepeatedPatch(), "standard", "mine").arms[-1].name == "mine"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--defence=RepeatedPath()"], "RepeatedPatch"),
        (["--defence=RepeatedPatch(size=0)"], "size must be at least 1, got 0"),
        (["--defence=STRIP()"], "needs clean data; set data.clean"),
        (["--defence=RepeatedPatch()", "--arm=pgd"], "unknown arm 'pgd'; the run has standard"),
        (["--defence=RepeatedPatch(size=4)", "--name=standard"], "another arm 'standard'; give this one a name"),
    ],
)
def test_what_does_not_fit_is_one_line(flags, message, victim, data_dir, capsys):
    assert command(victim, data_dir, *flags) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line


def test_a_folder_without_a_run_is_refused(tmp_path, data_dir, capsys):
    assert command(tmp_path, data_dir, "--defence=RepeatedPatch()") == 2
    assert "has no record of a run that is done" in capsys.readouterr().err
