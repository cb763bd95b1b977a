"""Entangled features on MNIST: a poison that adversarial training is said not to stop (beside table T1)

Every training row is moved until a robust network of the attacker no longer sees its class in it, and keeps its label
(Wen et al. 2023). Budget, gate and adversarial training are those of `mnist_adversarial_poison`.

    python launch.py --experiment=mnist_entangled_features
    python launch.py --experiment=mnist_entangled_features --sweep poison.pull=false,true
"""

import dataclasses

from poisonjax.attacks import PGD, Linf
from poisonjax.experiment import Arm, Experiment, Surrogate
from poisonjax.poisons import CentreDistance, EntangledFeatures

from . import mnist_adversarial_poison
from ._scales import at, beside_clean_data, mnist, shortened


def experiment(scale: str) -> Experiment:
    adversarial = mnist_adversarial_poison.published(scale)
    trained = mnist_adversarial_poison.adversarial(scale)
    half = PGD(Linf(0.1), step=0.1 / 15, steps=20)
    attack = PGD(mnist_adversarial_poison.BUDGET, steps=300, loss=CentreDistance())
    paper = dataclasses.replace(
        adversarial,
        name="mnist_entangled_features",
        title="Entangled features as poisons on MNIST, with and without PGD adversarial training.",
        poison=EntangledFeatures(attack=shortened(attack, scale)),
        surrogate=Surrogate(at(half), adversarial.surrogate.train),
        arms=beside_clean_data(Arm("standard"), *trained),
    )
    return mnist(paper, scale)
