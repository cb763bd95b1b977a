"""Adversarial examples as poisons on CIFAR-10: does adversarial training restore the accuracy? (beside table T2)

Fowl et al. 2021 and 8/255, as `mnist_adversarial_poison` has it, in the report's CNN.

    python launch.py --experiment=cifar10_adversarial_poison
    python launch.py --experiment=cifar10_adversarial_poison --set 'poison=ClassNoise(patch=4)'
"""

import dataclasses

from poisonjax.attacks import PGD, Linf
from poisonjax.experiment import Arm, Experiment, Surrogate
from poisonjax.poisons import AdversarialPoison
from poisonjax.training import Standard

from . import cifar10_badnets
from ._scales import at, beside_clean_data, cifar10, shortened
from .mnist_adversarial_poison import LOST


def experiment(scale: str) -> Experiment:
    badnets, pgd_at = cifar10_badnets.experiment("paper"), Arm("pgd_at", at(cifar10_badnets.PGD_AT))
    half = () if scale == "smoke" else (Arm("pgd_at_half", at(PGD(Linf(4 / 255), step=1 / 255, steps=7))),)
    paper = dataclasses.replace(
        badnets,
        name="cifar10_adversarial_poison",
        title="Adversarial examples as poisons on CIFAR-10 in the report's CNN, with and without adversarial training.",
        paper_table="beside T2",
        poison=AdversarialPoison(attack=shortened(PGD(Linf(8 / 255), steps=250, restarts=8), scale)),
        surrogate=Surrogate(Standard(), badnets.train),
        evaluation=dataclasses.replace(badnets.evaluation, min_attack_success=LOST),
        arms=beside_clean_data(Arm("standard"), pgd_at, *half),
        reported=(),
        caveats=(),
    )
    return cifar10(paper, scale)
