"""Class-wise noise spoils standard training on real images, and adversarial training of its budget restores it."""

import dataclasses

import pytest

from poisonjax.attacks import PGD, Linf
from poisonjax.experiment import Arm
from poisonjax.poisons import ClassNoise
from poisonjax.runs import runner
from poisonjax.training import AdversarialTraining
from tests.defences import tiny

BUDGET = Linf(0.15)


@pytest.fixture(scope="module")
def record(data_dir, tmp_path_factory):
    """Noise on every row; standard and adversarial training, on poisoned and on clean rows."""
    pgd_at = AdversarialTraining(PGD(BUDGET, steps=5), eps_warmup=0.4)
    arms = [Arm("standard"), Arm("pgd_at", pgd_at)]
    arms += [dataclasses.replace(arm, name=f"{arm.name}_clean_data", poisoned=False) for arm in arms]
    asked = tiny.job(tmp_path_factory.mktemp("noise"), data_dir, *arms)
    judge = dataclasses.replace(asked.experiment.evaluation, attack=PGD(BUDGET, steps=2), min_attack_success=0.1)
    plan = dataclasses.replace(asked.experiment, poison=ClassNoise(amplitude=BUDGET.eps, patch=7), evaluation=judge)
    return runner.run(dataclasses.replace(asked, experiment=plan))


def accuracy(record, arm):
    return record["arms"][arm]["clean_accuracy"]["mean"]


def test_class_noise_spoils_standard_training(record):
    assert accuracy(record, "standard") < accuracy(record, "standard_clean_data") - 0.15
    assert record["attack_gate"]["passed"]


def test_adversarial_training_of_the_same_budget_restores_it(record):
    assert accuracy(record, "pgd_at") > accuracy(record, "standard") + 0.1
    assert accuracy(record, "pgd_at") > accuracy(record, "pgd_at_clean_data") - 0.1


def test_the_record_knows_what_the_attacker_wants(record):
    assert record["aim"] == {"metric": "clean_accuracy", "raises": False, "effect": "loss of accuracy"}
    assert record["finding"].startswith("Clean accuracy ") and "loss of accuracy" in record["finding"]
    assert record["arms"]["standard"]["attack_success_rate"]["mean"] is None and record["warnings"] == []
    assert {len(arm["says"]["clean"]) for arm in record["arms"].values()} == {8}
