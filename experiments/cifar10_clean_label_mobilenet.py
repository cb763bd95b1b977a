"""A clean-label backdoor on CIFAR-10 in MobileNet: does PGD adversarial training remove it? (beside T9)

Not reported. All but the network and its optimiser is as in cifar10_clean_label.

    python launch.py --experiment=cifar10_clean_label_mobilenet
"""

import dataclasses

from poisonjax.experiment import Experiment
from poisonjax.models import MobileNet
from poisonjax.training import SGD

from . import cifar10_clean_label
from ._scales import cifar10


def experiment(scale: str) -> Experiment:
    base = cifar10_clean_label.experiment("paper")
    paper = dataclasses.replace(
        base,
        name="cifar10_clean_label_mobilenet",
        title="A clean-label backdoor on CIFAR-10 in MobileNet, with and without PGD adversarial training.",
        paper_table="beside T9",
        model=MobileNet(),
        train=dataclasses.replace(base.train, optimizer=SGD(0.1)),
        surrogate=dataclasses.replace(
            base.surrogate, train=dataclasses.replace(base.surrogate.train, optimizer=SGD(0.1))
        ),
        reported=(),
    )
    return cifar10(paper, scale, MobileNet(alpha=0.25))
