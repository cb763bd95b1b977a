"""Why does adversarial training remove a backdoor that its budget covers, and reveal others? (beside T6)

The losses of poisoned and of clean training rows, epoch by epoch, in standard training and in adversarial training
against Linf .3, which does not cover the four bright pixels of the report's trigger, and an L2 ball of 2, which does.

    python launch.py --experiment=mnist_loss_paths
    python launch.py --experiment=mnist_loss_paths --sweep 'poison=BadNets(.1,0),BadNets(.1),CleanLabel()'
"""

import dataclasses

from poisonjax.analyses import LossPaths
from poisonjax.experiment import Experiment
from poisonjax.poisons import BadNets

from . import mnist_covering_budgets
from ._scales import mnist

ARMS = ("standard", "pgd_at", "pgd_at_l2_2", "standard_clean_data")


def experiment(scale: str) -> Experiment:
    covering = mnist_covering_budgets.experiment("paper")
    paper = dataclasses.replace(
        covering.only(ARMS),
        name="mnist_loss_paths",
        title="A backdoor on MNIST, and the losses of poisoned and clean training rows, epoch by epoch.",
        poison=BadNets(rate=0.1, target=0),
        paper_table="beside T6",
        analyses=(LossPaths(rows=20 if scale == "smoke" else 500),),
    )
    return mnist(paper, scale)
