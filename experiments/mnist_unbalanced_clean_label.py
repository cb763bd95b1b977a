"""The clean-label backdoor on unbalanced MNIST: what becomes of the rare class? (table T4)

500 zeros, 5,000 of each other digit. The report gives 0 % accuracy on zeros with the trigger after standard
training and 92.65 % after 80 epochs of adversarial training. All else is as in mnist_clean_label.

    python launch.py --experiment=mnist_unbalanced_clean_label
    python launch.py --experiment=mnist_unbalanced_clean_label --sweep data.train.minority=100,500,2000,5000
"""

import dataclasses

from poisonjax.data.subsets import Unbalanced
from poisonjax.experiment import Data, Experiment, Reported

from . import mnist_clean_label
from ._scales import mnist


def experiment(scale: str) -> Experiment:
    balanced = mnist_clean_label.experiment("paper")
    paper = dataclasses.replace(
        balanced,
        name="mnist_unbalanced_clean_label",
        title="A clean-label backdoor on MNIST with few zeros, with and without PGD adversarial training.",
        paper_table="T4",
        data=Data("mnist", Unbalanced(minority=500, majority=5000)),
        train=dataclasses.replace(balanced.train, epochs=80),
        arms=mnist_clean_label.arms(scale),
        reported=(
            Reported("T4", "standard", "clean_accuracy", 0.9745),
            Reported("T4", "standard", "clean_accuracy", 0.9857, label=0),
            Reported("T4", "standard", "triggered_accuracy", 0.0, label=0),
            Reported("T4", "pgd_at_as_reported", "clean_accuracy", 0.9418, label=0),
            Reported("T4", "pgd_at_as_reported", "triggered_accuracy", 0.9265, label=0),
        ),
        caveats=balanced.caveats[:2],
    )
    return mnist(paper, scale, Unbalanced(minority=40, majority=400), Unbalanced(minority=10, majority=30))
