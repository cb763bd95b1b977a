"""Networks that no poison touches are trained once and shared, bit for bit."""

import dataclasses
import threading

import jax
import numpy as np
import pytest

from experiments import mnist_badnets
from poisonjax.defences import Reveal
from poisonjax.experiment import Arm
from poisonjax.overrides import override
from poisonjax.runs import runner, shared
from poisonjax.runs.job import Run
from poisonjax.training import Interrupted, Standard


def job(workdir, data_dir, kept, *assignments, **settings):
    """The standard arm and its control, trained for a few steps."""
    plan = mnist_badnets.experiment("smoke")
    plan = dataclasses.replace(plan, arms=(plan.arms[0], plan.arms[-1]), reported=())
    for assignment in ("train.epochs=1", *assignments):
        plan = override(plan, assignment)
    return Run(plan, runner.load(plan, data_dir), workdir, "smoke", shared=kept, **settings)


def shared_names(kept):
    return sorted(path.name for path in kept.iterdir())


def numbers(record):
    clock = {"seconds", "train_images_per_second"}
    return {arm: {n: v for n, v in of.items() if n not in clock} for arm, of in record["arms"].items()}


def test_control_is_taken_by_another_experiment_and_gives_the_same_record(data_dir, tmp_path, capsys):
    kept = tmp_path / "kept"
    runner.run(job(tmp_path / "first", data_dir, kept))
    capsys.readouterr()
    taken = runner.run(job(tmp_path / "second", data_dir, kept, "poison.rate=.2"))
    assert "standard_clean_data: trained before" in capsys.readouterr().err and len(shared_names(kept)) == 1
    alone = runner.run(job(tmp_path / "third", data_dir, None, "poison.rate=.2"))
    assert numbers(taken) == numbers(alone)


@pytest.mark.parametrize(
    "change", ["train.batch=32", "model.hidden=12", "arms.standard_clean_data.objective=Standard(2)"]
)
def test_other_settings_are_another_network(change, data_dir, tmp_path):
    kept = tmp_path / "kept"
    runner.run(job(tmp_path / "first", data_dir, kept))
    runner.run(job(tmp_path / "second", data_dir, kept, change))
    assert len(shared_names(kept)) == 2


def test_other_seeds_rows_and_code_are_another_network(data_dir, tmp_path, monkeypatch):
    asked = job(tmp_path, data_dir, None)
    plan, arm = asked.experiment, asked.experiment.arms[-1]

    def name(asked=asked, seed=0):
        return shared.digest(asked, seed, plan.model, arm.objective, plan.train, "")

    fewer = dataclasses.replace(asked.dataset, train=jax.tree.map(lambda field: field[:200], asked.dataset.train))
    names = [name(), name(seed=1), name(dataclasses.replace(asked, dataset=fewer))]
    monkeypatch.setattr(shared, "_code", lambda: "changed")
    assert len({*names, name()}) == 4


def test_types_of_others_are_not_shared(data_dir, tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Own(type(mnist_badnets.experiment("smoke").arms[0].objective)):
        """An objective whose code has no digest."""

    asked = job(tmp_path, data_dir, None)
    plan = asked.experiment
    assert shared.digest(asked, 0, plan.model, Own(), plan.train, "") is None


def test_defences_of_a_run_share_the_network_on_the_poisoned_data(data_dir, tmp_path, capsys):
    asked = job(tmp_path, data_dir, None)
    standard, clean = asked.experiment.arms
    judged = Arm("judged", objective=Standard(2.0), defence=Reveal((Standard(),)))
    plan = dataclasses.replace(asked.experiment, arms=(standard, clean, judged))
    record = runner.run(dataclasses.replace(asked, experiment=plan))
    said = capsys.readouterr().err
    assert said.count("trained before") == 1 and "seed 0 judged/judge0: trained before" in said
    assert record["arms"]["judged"]["poisoned_rows_removed"]["denominator"] == [30]


def test_second_run_waits_for_the_first(data_dir, tmp_path, capsys):
    """Two runs at once train the network once."""
    kept, records = tmp_path / "kept", {}

    def one(name):
        records[name] = runner.run(job(tmp_path / name, data_dir, kept))

    threads = [threading.Thread(target=one, args=(name,)) for name in ("first", "second")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert numbers(records["first"]) == numbers(records["second"]) and len(shared_names(kept)) == 1
    assert "trained before" in capsys.readouterr().err


def test_waiting_can_be_stopped(data_dir, tmp_path):
    asked = job(tmp_path / "first", data_dir, tmp_path / "kept", stop_requested=lambda: True)
    patient, folder = dataclasses.replace(asked, stop_requested=lambda: False), tmp_path / "kept" / "x"
    with (
        shared._locked(patient, folder, "x"),
        pytest.raises(Interrupted, match="waiting for x"),
        shared._locked(asked, folder, "x"),
    ):
        pass


def test_damaged_shared_network_is_trained_again(data_dir, tmp_path, capsys):
    kept = tmp_path / "kept"
    first = runner.run(job(tmp_path / "first", data_dir, kept))
    for path in kept.rglob("*"):
        if path.is_file() and path.stat().st_size > 1000:
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(bytes(content))
    second = runner.run(job(tmp_path / "second", data_dir, kept))
    assert "damaged" in capsys.readouterr().err
    assert numbers(first) == numbers(second)
    np.testing.assert_equal(len(shared_names(kept)), 1)
