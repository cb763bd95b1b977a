"""BadNets on CIFAR-10, every class to the next, in ResNet-18: what the report could not finish (section 6.4)

The report forecast 4.5 days for its adversarial training and gave up. Here in bfloat16, with 5 % of the rows poisoned
as in its scripts; all else is as in cifar10_badnets.

    python launch.py --experiment=cifar10_badnets_resnet18
"""

import dataclasses

from poisonjax.experiment import Experiment
from poisonjax.models import ResNet18
from poisonjax.training import SGD, Cyclic

from . import cifar10_badnets
from ._scales import cifar10


def experiment(scale: str) -> Experiment:
    badnets = cifar10_badnets.experiment("paper")
    paper = dataclasses.replace(
        badnets,
        name="cifar10_badnets_resnet18",
        title="A BadNets backdoor on CIFAR-10 in ResNet-18, with and without PGD adversarial training.",
        paper_table="section 6.4",
        model=ResNet18(dtype="bfloat16"),
        poison=dataclasses.replace(badnets.poison, rate=0.05),
        train=dataclasses.replace(badnets.train, batch=128, epochs=30, optimizer=SGD(0.1, schedule=Cyclic())),
        reported=(),
    )
    return cifar10(paper, scale, ResNet18(filters=8), ResNet18(filters=2), rows=8000)
