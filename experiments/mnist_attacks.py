"""How robust are networks against each of the test-time attacks that the report cites? (beside table T1)

Every attack of poisonjax on a network after standard training and on one after PGD adversarial training (Madry et al.
2018): the bounded ones with eps .3, the others as far as they must go.

    python launch.py --experiment=mnist_attacks
"""

import dataclasses

from poisonjax.analyses.attack_suite import AttackSuite, NamedAttack
from poisonjax.attacks import (
    DLR,
    L0,
    L1,
    L2,
    LBFGS,
    PGD,
    AutoAttack,
    Boundary,
    CarliniWagner,
    CarliniWagnerLinf,
    HopSkipJump,
    Linf,
    Patch,
    PatchAttack,
    bim,
    fgsm,
    mi_fgsm,
)
from poisonjax.experiment import Arm, Experiment

from . import mnist_baseline
from ._scales import at, mnist

EPS = Linf(0.3)


def suite(scale: str) -> AttackSuite:
    """Published budgets at paper scale, a share of them below, where Adam takes steps the larger for it."""
    share = {"paper": 1, "full": 1, "small": 5, "smoke": 500}[scale]

    def few(steps: int, least: int = 2) -> int:
        return max(least, steps // share)

    trials = {
        "fgsm": fgsm(EPS),
        "bim": bim(EPS, 0.01, few(100)),
        "mi_fgsm": mi_fgsm(EPS, few(50)),
        "pgd": PGD(EPS, 0.01, few(200), restarts=2, keep_best=True),
        "pgd_dlr": PGD(EPS, 0.01, few(200), loss=DLR(), keep_best=True),
        "pgd_l2": PGD(L2(2.0), 0.1, few(200), keep_best=True),
        "pgd_l1": PGD(L1(10.0), 1.0, few(200), keep_best=True),
        "pgd_l0": PGD(L0(20), 5.0, few(200), keep_best=True),
        "autoattack": AutoAttack(EPS, steps=few(100), targets=2 if scale == "smoke" else 9, queries=few(5000)),
        "patch": PatchAttack(8, search=PGD(Linf(1.0), 0.05, few(100), keep_best=True)),
        "universal_patch": Patch(8, steps=few(1000, 10), learning_rate=0.1),
        "carlini_wagner": CarliniWagner(steps=few(1000), learning_rate=0.01 * min(share, 5)),
        "carlini_wagner_linf": CarliniWagnerLinf(steps=few(1000), learning_rate=0.005 * min(share, 5)),
        "lbfgs": LBFGS(steps=few(150)),
        "boundary": Boundary(queries=few(25_000, 150)),
        "hop_skip_jump": HopSkipJump(queries=few(25_000, 400)),
    }
    images, batch = {"paper": (1000, 250), "full": (500, 250), "small": (200, 100), "smoke": (4, 4)}[scale]
    return AttackSuite(tuple(NamedAttack(name, attack) for name, attack in trials.items()), images, batch)


def experiment(scale: str) -> Experiment:
    paper = dataclasses.replace(
        mnist_baseline.experiment("paper"),
        name="mnist_attacks",
        title="Test-time attacks on MNIST networks, with and without PGD adversarial training.",
        paper_table="cited attacks",
        arms=(Arm("standard"), Arm("pgd_at", at(mnist_baseline.PGD_AT))),
        reported=(),
        caveats=(),
        analyses=(suite(scale),),
    )
    return mnist(paper, scale)
