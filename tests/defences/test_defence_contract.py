"""Contracts of all defences: seeded, of the promised shapes, on the rows that they were given."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from experiments import mnist_badnets, mnist_defences
from poisonjax import defences
from poisonjax.attacks import PGD, Linf
from poisonjax.data.subsets import Stratified
from poisonjax.defences import Defence
from poisonjax.evaluation.victim import REJECTED
from poisonjax.experiment import Arm, Data
from poisonjax.poisons import BadNets, BrightSquare
from poisonjax.runs import runner, training
from poisonjax.runs.job import Run
from poisonjax.training import Adam, AdversarialTraining, Standard, Training

BRIEF = mnist_defences.filters(Standard(), (AdversarialTraining(PGD(Linf(0.3), 0.2, 2)),)) | mnist_defences.shields(
    True
)
DEFENCES = {name: defence for name, defence in BRIEF.items() if not name.endswith("of_pgd_at")}
DEFENCES |= {
    "isolation_forest": defences.IsolationForest(),  # for rows of features, in an experiment of its own
    "spectre": defences.SPECTRE(),
    "pbe": defences.PBE(PGD(Linf(0.3), 0.2, 2), shares=(0.5,), epochs=1),
    "reclassification": defences.ActivationClustering(silhouette=-1, size=0.5, independent=True, reclassification=1.0),
}


def test_every_defence_is_among_them():
    exported = {kind for kind in vars(defences).values() if isinstance(kind, type) and issubclass(kind, Defence)}
    assert exported - {Defence} == set(map(type, DEFENCES.values()))


@pytest.fixture(scope="module")
def job(data_dir, tmp_path_factory):
    plan = dataclasses.replace(
        mnist_badnets.experiment("smoke"),
        data=Data("mnist_5k", Stratified(300), Stratified(50), Stratified(100)),
        model=tiny.TwoLayers(hidden=16),
        poison=BadNets(0.1, 0, BrightSquare(3)),
        train=Training(batch=50, epochs=2, optimizer=Adam(1e-2)),
        arms=(Arm("standard"), *(Arm(name, defence=defence) for name, defence in DEFENCES.items())),
        reported=(),
    )
    return Run(plan, runner.load(plan, data_dir), tmp_path_factory.mktemp("contract"), "smoke")


@pytest.mark.filterwarnings("ignore:Number of distinct clusters", "ignore:FastICA did not converge")
@pytest.mark.parametrize("name", DEFENCES)
def test_a_defence_is_seeded_and_keeps_its_promises(name, job):
    arm, poisoning = Arm(name, defence=DEFENCES[name]), runner.poison_data(job, 0)
    first, second = (training.defended(job, 0, arm, poisoning) for _ in range(2))
    chex.assert_trees_all_equal(first.victim, second.victim)
    assert first.detection == second.detection
    x = jnp.asarray(job.dataset.test.image[:40] / 255, jnp.float32)
    logits = jax.jit(lambda victim, x: victim.logits(x))(first.victim, x)
    chex.assert_shape(logits, (40, 10))
    chex.assert_type(logits, jnp.float32)
    chex.assert_tree_all_finite(logits)
    said = jax.jit(lambda victim, x: victim.classify(x, victim.logits(x)))(first.victim, x)
    chex.assert_shape(said, (40,))
    assert set(np.unique(said)) <= {REJECTED, *range(10)}
    assert first.victim.suspicion is not None or (said != REJECTED).all()
    removed = {kind: (count.numerator, count.denominator) for kind, count in first.removed.items()}
    assert removed["poisoned_rows_removed"][1] == len(poisoning.rows)
    assert sum(of for _, of in removed.values()) == len(job.dataset.train.label)
