"""Does adversarial training remove the triggers that its budget covers, and reveal the others? (beside table T6)

BadNets to one class on a tenth of MNIST. Adversarially trained networks set the poisoned rows apart from the rest of
their class, so that they can be dropped without any clean data; see docs/removes_or_reveals.md.

    python launch.py --experiment=mnist_removes_or_reveals
    python launch.py --experiment=mnist_removes_or_reveals --sweep poison.trigger.amplitude=.15,.3,.45,.6,1
"""

import dataclasses

from poisonjax.attacks import PGD, Linf
from poisonjax.defences import Reveal
from poisonjax.experiment import Arm, Experiment
from poisonjax.poisons import BadNets, BrightSquare
from poisonjax.training import AdversarialTraining

from . import mnist_badnets
from ._scales import at, mnist

BUDGETS = (0.1, 0.2, 0.3)


def judges(scale: str) -> tuple[AdversarialTraining, ...]:
    """Adversarial training at each budget; at smoke scale only as `pgd_at` is trained there."""
    if scale == "smoke":
        return (at(PGD(Linf(0.3), step=0.2, steps=2)),)
    return tuple(at(PGD(Linf(eps), step=eps / 15, steps=20)) for eps in BUDGETS)


def experiment(scale: str) -> Experiment:
    badnets = mnist_badnets.experiment("paper")
    pgd_at, reveal = at(mnist_badnets.PGD_AT), Reveal(judges(scale))
    paper = dataclasses.replace(
        badnets,
        name="mnist_removes_or_reveals",
        title="A BadNets backdoor on MNIST, and what adversarial training does to it: remove, reveal, or neither.",
        paper_table="beside T6",
        poison=BadNets(rate=0.1, target=0, trigger=BrightSquare(3)),
        arms=(
            Arm("standard"),
            Arm("pgd_at", pgd_at),
            Arm("reveal", defence=reveal),
            Arm("reveal_pgd_at", pgd_at, defence=reveal),
            Arm("pgd_at_clean_data", pgd_at, poisoned=False),
            Arm("standard_clean_data", poisoned=False),
            Arm("reveal_clean_data", poisoned=False, defence=reveal),
        ),
        reported=(),
        caveats=(),
    )
    return mnist(paper, scale)
