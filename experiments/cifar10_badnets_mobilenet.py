"""BadNets on CIFAR-10, every class to the next, in MobileNet: does PGD adversarial training remove it? (table T9)

The report gives 5.22 % accuracy on triggered images after standard training, and 29.72 % with an attack success rate
of 10.18 % after adversarial training. All but the network and its optimiser is as in cifar10_badnets.

    python launch.py --experiment=cifar10_badnets_mobilenet
"""

import dataclasses

from poisonjax.experiment import Experiment, Reported
from poisonjax.models import MobileNet
from poisonjax.training import SGD

from . import cifar10_badnets
from ._scales import cifar10


def experiment(scale: str) -> Experiment:
    badnets = cifar10_badnets.experiment("paper")
    paper = dataclasses.replace(
        badnets,
        name="cifar10_badnets_mobilenet",
        title="A BadNets backdoor on CIFAR-10 in MobileNet, with and without PGD adversarial training.",
        paper_table="T9",
        model=MobileNet(),
        train=dataclasses.replace(badnets.train, optimizer=SGD(0.1)),
        reported=(
            Reported("T9", "standard", "triggered_accuracy", 0.0522),
            Reported("T9", "pgd_at_as_reported", "triggered_accuracy", 0.2972),
            Reported("T9", "pgd_at_as_reported", "attack_success_rate", 0.1018),
        ),
    )
    return cifar10(paper, scale, MobileNet(alpha=0.25))
