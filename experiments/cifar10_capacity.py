"""How large must a network be for PGD adversarial training on CIFAR-10? (figure 6)

The report says that too small a network predicts one class only, and did not finish ResNet-18. ResNet-18 from a
sixteenth of its filters to all of them, against 8/255 as Madry et al. 2018 (figure 4) have it.

    python launch.py --experiment=cifar10_capacity
"""

import dataclasses

from poisonjax.experiment import Experiment
from poisonjax.models import ResNet18, WongCNN
from poisonjax.models.network import Network

from . import cifar10_badnets, cifar10_baseline
from ._scales import arms_by_size, cifar10


def networks(scale: str) -> dict[str, Network]:
    """By size."""
    if scale == "paper":
        return {f"x{n}": ResNet18(n, dtype="bfloat16") for n in (4, 8, 16, 32, 64)}
    return {f"x{n}": WongCNN((n, 2 * n), 4 * n) for n in ((1, 4, 16, 32) if scale != "smoke" else (1, 2, 3))}


def experiment(scale: str) -> Experiment:
    paper = dataclasses.replace(
        cifar10_baseline.experiment("paper"),
        name="cifar10_capacity",
        title="Networks of several sizes on clean CIFAR-10, with and without PGD adversarial training.",
        paper_table="figure 6",
        arms=arms_by_size(networks(scale), cifar10_badnets.PGD_AT),
        reported=(),
        caveats=(),
    )
    return cifar10(paper, scale)
