"""BadNets on unbalanced MNIST, 500 zeros and 5,000 of each other digit: what becomes of the rare class? (beside T4)

Not reported; the clean-label experiment on the same images is mnist_unbalanced_clean_label.

    python launch.py --experiment=mnist_unbalanced_badnets
    python launch.py --experiment=mnist_unbalanced_badnets --sweep data.train.minority=100,500,2000,5000
"""

import dataclasses

from poisonjax.data.subsets import Unbalanced
from poisonjax.experiment import Data, Experiment

from . import mnist_badnets
from ._scales import mnist


def experiment(scale: str) -> Experiment:
    balanced = mnist_badnets.experiment("paper")
    paper = dataclasses.replace(
        balanced,
        name="mnist_unbalanced_badnets",
        title="An all-to-all BadNets backdoor on MNIST with few zeros, with and without PGD adversarial training.",
        paper_table="beside T4",
        data=Data("mnist", Unbalanced(minority=500, majority=5000)),
        train=dataclasses.replace(balanced.train, epochs=80),
        arms=mnist_badnets.arms(scale),
        reported=(),
        caveats=(),
    )
    return mnist(paper, scale, Unbalanced(minority=40, majority=400), Unbalanced(minority=10, majority=30))
