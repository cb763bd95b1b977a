"""How large must a network be for PGD adversarial training on MNIST? (figure 6)

The report says that too small a network predicts one class only. Madry et al. 2018 (figure 4) found the same: their
smallest networks collapse, larger ones fit. Their network from a sixteenth of its filters to twice as many.

    python launch.py --experiment=mnist_capacity
"""

import dataclasses

from poisonjax.experiment import Experiment
from poisonjax.models import MadryCNN, WongCNN
from poisonjax.models.network import Network

from . import mnist_baseline
from ._scales import arms_by_size, mnist


def networks(scale: str) -> dict[str, Network]:
    """By size."""
    if scale == "paper":
        return {f"x{n}": MadryCNN((2 * n, 4 * n), 64 * n) for n in (1, 2, 4, 8, 16, 32)}
    return {f"x{n}": WongCNN((n, 2 * n), 6 * n) for n in ((1, 2, 4, 8, 16) if scale != "smoke" else (1, 2, 3))}


def experiment(scale: str) -> Experiment:
    paper = dataclasses.replace(
        mnist_baseline.experiment("paper"),
        name="mnist_capacity",
        title="Networks of several sizes on clean MNIST, with and without PGD adversarial training.",
        paper_table="figure 6",
        arms=arms_by_size(networks(scale), mnist_baseline.PGD_AT),
        reported=(),
        caveats=(),
    )
    return mnist(paper, scale)
