"""Does adversarial training remove the triggers that its budget covers, and reveal the others? (beside T5 and T6)

BadNets to one class on a tenth of MNIST. Adversarially trained networks set the poisoned rows apart from the rest of
their class, so that they can be dropped without any clean data; see docs/removes_or_reveals.md. The sweep has the
report's two poisons beside it, from every class to the next and clean-label.

    python launch.py --experiment=mnist_removes_or_reveals
    python launch.py --experiment=mnist_removes_or_reveals --sweep 'poison=BadNets(.1,0),BadNets(.1),CleanLabel()'
"""

import dataclasses

from poisonjax.attacks import PGD, Linf
from poisonjax.defences import MaskedDisagreement, RepeatedPatch, Reveal, Union
from poisonjax.experiment import Arm, Experiment
from poisonjax.poisons import BadNets, BrightSquare
from poisonjax.training import AdversarialTraining

from . import mnist_badnets, mnist_clean_label
from ._scales import at, mnist

BUDGETS = (0.1, 0.2, 0.3)
SMOKE = ("standard", "reveal_or_masked", "pgd_at_clean_data")  # to save time


def judges(scale: str) -> tuple[AdversarialTraining, ...]:
    """Adversarial training at each budget; at smoke scale only as `pgd_at` is trained there."""
    if scale == "smoke":
        return (at(PGD(Linf(0.3), step=0.2, steps=2)),)
    return tuple(at(PGD(Linf(eps), step=eps / 15, steps=20)) for eps in BUDGETS)


def experiment(scale: str) -> Experiment:
    badnets = mnist_badnets.experiment("paper")
    pgd_at = judges(scale)[-1]
    reveal = Reveal(judges(scale), epochs=3 if scale == "full" else None)
    masked = MaskedDisagreement(rounds=1 if scale == "smoke" else 3)
    reveal_or_masked = Union((reveal, masked))
    arms = (
        Arm("standard"),
        Arm("pgd_at", pgd_at),
        Arm("repeated_patch", defence=RepeatedPatch()),
        Arm("reveal", defence=reveal),
        Arm("masked_disagreement", defence=masked),
        Arm("reveal_or_masked", defence=reveal_or_masked),
        Arm("reveal_or_masked_pgd_at", pgd_at, defence=reveal_or_masked),
        Arm("pgd_at_clean_data", pgd_at, poisoned=False),
        Arm("standard_clean_data", poisoned=False),
        Arm("reveal_or_masked_clean_data", poisoned=False, defence=reveal_or_masked),
    )
    paper = dataclasses.replace(
        badnets,
        name="mnist_removes_or_reveals",
        title="A backdoor on MNIST, and what adversarial training does to it: remove, reveal, or neither.",
        paper_table="beside T5 and T6",
        poison=BadNets(rate=0.1, target=0, trigger=BrightSquare(3)),
        surrogate=mnist_clean_label.experiment("paper").surrogate,
        arms=tuple(arm for arm in arms if scale != "smoke" or arm.name in SMOKE),
        reported=(),
        caveats=(),
    )
    return mnist(paper, scale)
