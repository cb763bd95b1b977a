"""Does adversarial training remove the triggers that its budget covers, and reveal the others? (beside T5 and T6)

BadNets to one class on a tenth of MNIST. Adversarially trained networks set the poisoned rows apart from the rest of
their class, so that they can be dropped without any clean data; see docs/removes_or_reveals.md. The sweep has the
report's two poisons beside it, from every class to the next and clean-label.

    python launch.py --experiment=mnist_removes_or_reveals
    python launch.py --experiment=mnist_removes_or_reveals --sweep 'poison=BadNets(.1,0),BadNets(.1),CleanLabel()'
"""

import dataclasses

from poisonjax.defences import RepeatedPatch
from poisonjax.experiment import Arm, Experiment
from poisonjax.poisons import BadNets, BrightSquare

from . import mnist_badnets, mnist_clean_label
from ._scales import judges, mnist, reveal_or_masked

SMOKE = ("standard", "reveal_or_masked", "pgd_at_clean_data")  # to save time


def experiment(scale: str) -> Experiment:
    badnets = mnist_badnets.experiment("paper")
    pgd_at = judges(scale)[-1]
    union = reveal_or_masked(scale)
    reveal, masked = union.filters
    arms = (
        Arm("standard"),
        Arm("pgd_at", pgd_at),
        Arm("repeated_patch", defence=RepeatedPatch()),
        Arm("reveal", defence=reveal),
        Arm("masked_disagreement", defence=masked),
        Arm("reveal_or_masked", defence=union),
        Arm("reveal_or_masked_pgd_at", pgd_at, defence=union),
        Arm("pgd_at_clean_data", pgd_at, poisoned=False),
        Arm("standard_clean_data", poisoned=False),
        Arm("reveal_or_masked_clean_data", poisoned=False, defence=union),
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
