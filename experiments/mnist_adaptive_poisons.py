"""Poisons of an attacker who knows the filters, against these filters (beside table T6)

Here the adaptive blend of Qi et al. 2023, at about three times its rates, as there are few rows. Sweep the poison for a
table of cover rows, of triggers at random places or without a fixed pattern, and of noisy labels.

    python launch.py --experiment=mnist_adaptive_poisons
    python launch.py --experiment=mnist_adaptive_poisons --sweep 'poison=AdaptivePatch(.03,.06),NoisyLabels()'
    python launch.py --experiment=mnist_adaptive_poisons --sweep 'poison=BadNets(.1,0,RandomPlace()),WithCover()'
"""

import dataclasses

from poisonjax.experiment import Arm, Experiment
from poisonjax.poisons import AdaptiveBlend

from . import mnist_defences, mnist_removes_or_reveals
from ._scales import judges

FILTERS = (
    "reveal",
    "masked_disagreement",
    "reveal_or_masked",
    "repeated_patch",
    "spectral_signatures",
    "activation_clustering",
)


def experiment(scale: str) -> Experiment:
    plan, smoke = mnist_removes_or_reveals.experiment(scale), scale == "smoke"
    ladder = judges(scale)
    filters = mnist_defences.filters(ladder[-1], ladder)
    names = ("activation_clustering",) if smoke else FILTERS
    return dataclasses.replace(
        plan,
        name="mnist_adaptive_poisons",
        title="Poisons made against filters of training rows, on MNIST.",
        poison=AdaptiveBlend(rate=0.01, cover_rate=0.01),
        arms=(
            Arm("standard"),
            *(() if smoke else (Arm("pgd_at", ladder[-1]),)),
            *(Arm(name, defence=filters[name]) for name in names),
            Arm("standard_clean_data", poisoned=False),
        ),
        evaluation=dataclasses.replace(plan.evaluation, autoattack=None),
    )
