"""A clean-label backdoor on CIFAR-10 in ResNet-18: what the report could not finish (section 6.4)

The report forecast 4.5 days for its adversarial training and gave up. The attack is that of cifar10_clean_label,
network and training are those of cifar10_badnets_resnet18.

    python launch.py --experiment=cifar10_clean_label_resnet18
"""

import dataclasses

from poisonjax.experiment import Experiment
from poisonjax.models import ResNet18

from . import cifar10_badnets_resnet18, cifar10_clean_label
from ._scales import cifar10


def experiment(scale: str) -> Experiment:
    base, network = cifar10_clean_label.experiment("paper"), cifar10_badnets_resnet18.experiment("paper")
    paper = dataclasses.replace(
        base,
        name="cifar10_clean_label_resnet18",
        title="A clean-label backdoor on CIFAR-10 in ResNet-18, with and without PGD adversarial training.",
        paper_table="section 6.4",
        model=network.model,
        train=network.train,
        surrogate=dataclasses.replace(base.surrogate, train=dataclasses.replace(network.train, epochs=15)),
        reported=(),
    )
    return cifar10(paper, scale, ResNet18(filters=8), rows=7000)
