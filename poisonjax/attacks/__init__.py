"""Test-time attacks: each a pure function (logits_fn, x, y, key) -> x_adv."""

from poisonjax.attacks.apgd import APGD, TargetedAPGD
from poisonjax.attacks.balls import L0, L1, L2, Linf
from poisonjax.attacks.boundary import Boundary
from poisonjax.attacks.carlini_wagner import CarliniWagner, CarliniWagnerLinf
from poisonjax.attacks.fab import FAB
from poisonjax.attacks.gradient import PGD, bim, fgsm, mi_fgsm
from poisonjax.attacks.losses import DLR, CrossEntropy, Margin
from poisonjax.attacks.square import Square

__all__ = [
    "APGD",
    "DLR",
    "FAB",
    "L0",
    "L1",
    "L2",
    "PGD",
    "Boundary",
    "CarliniWagner",
    "CarliniWagnerLinf",
    "CrossEntropy",
    "Linf",
    "Margin",
    "Square",
    "TargetedAPGD",
    "bim",
    "fgsm",
    "mi_fgsm",
]
