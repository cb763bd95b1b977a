"""Does adversarial training remove a backdoor once its budget covers the trigger? (beside T6)

The report's trigger is four bright pixels: more than .3 in each, 2 in L2, and within a patch of 5 x 5. Trained against
Linf .3, as in the report; against L2 balls shorter than, as long as and longer than the trigger; and against the worst
patch anywhere.

    python launch.py --experiment=mnist_covering_budgets
    python launch.py --experiment=mnist_covering_budgets --sweep 'poison=BadNets(.1),BadNets(.1,0),CleanLabel()'
"""

import dataclasses

from poisonjax.attacks import L2, PGD, ROA
from poisonjax.experiment import Arm, Experiment

from . import mnist_badnets, mnist_clean_label
from ._scales import at, judges, mnist

SMOKE = ("standard", "patch_at", "standard_clean_data")  # to save time


def experiment(scale: str) -> Experiment:
    badnets = mnist_badnets.experiment("paper")
    lengths = {f"pgd_at_l2_{radius}": at(PGD(L2(float(radius)), steps=20)) for radius in (1, 2, 3)}
    patches = at(ROA(5, steps=10))
    arms = (
        Arm("standard"),
        Arm("pgd_at", judges("full")[-1]),
        *(Arm(name, objective) for name, objective in lengths.items()),
        Arm("patch_at", patches),
        Arm("pgd_at_l2_2_clean_data", lengths["pgd_at_l2_2"], poisoned=False),
        Arm("patch_at_clean_data", patches, poisoned=False),
        Arm("standard_clean_data", poisoned=False),
    )
    paper = dataclasses.replace(
        badnets,
        name="mnist_covering_budgets",
        title="A backdoor on MNIST, and adversarial training whose budget covers its trigger, or does not.",
        paper_table="beside T6",
        surrogate=mnist_clean_label.experiment("paper").surrogate,
        arms=tuple(arm for arm in arms if scale != "smoke" or arm.name in SMOKE),
        reported=(),
        caveats=(),
    )
    return mnist(paper, scale)
