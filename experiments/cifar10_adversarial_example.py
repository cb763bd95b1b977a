"""A CIFAR-10 image, its perturbation and the adversarial example, with both predictions (figure 1)

ResNet-18 after standard training and after PGD adversarial training, 8/255.

    python launch.py --experiment=cifar10_adversarial_example
"""

import dataclasses

from poisonjax.analyses.adversarial_example import AdversarialExample
from poisonjax.experiment import Arm, Experiment
from poisonjax.models import ResNet18

from . import cifar10_badnets, cifar10_baseline
from ._scales import at, cifar10


def experiment(scale: str) -> Experiment:
    paper = dataclasses.replace(
        cifar10_baseline.experiment("paper"),
        name="cifar10_adversarial_example",
        title="CIFAR-10 images, clean and adversarial, as two networks see them.",
        paper_table="figure 1",
        arms=(Arm("standard"), Arm("pgd_at", at(cifar10_badnets.PGD_AT))),
        reported=(),
        caveats=(),
        analyses=(AdversarialExample(),),
    )
    return cifar10(paper, scale, ResNet18(filters=8), rows=8000)
