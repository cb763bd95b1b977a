"""Test-time attacks: each a pure function (logits_fn, x, y, key) -> x_adv."""

from poisonjax.attacks import presets
from poisonjax.attacks.adaptive import bpda, eot, evade, scaled, transfer, with_rejection
from poisonjax.attacks.apgd import APGD, TargetedAPGD
from poisonjax.attacks.autoattack import AutoAttack
from poisonjax.attacks.balls import L0, L1, L2, Ball, Linf
from poisonjax.attacks.base import Attack, LossAttack
from poisonjax.attacks.boundary import Boundary
from poisonjax.attacks.carlini_wagner import CarliniWagner, CarliniWagnerLinf
from poisonjax.attacks.checks import check_inputs
from poisonjax.attacks.fab import FAB
from poisonjax.attacks.gradient import PGD, bim, fgsm, mi_fgsm
from poisonjax.attacks.hop_skip_jump import HopSkipJump
from poisonjax.attacks.lbfgs import LBFGS
from poisonjax.attacks.losses import DLR, CrossEntropy, KLDivergence, Loss, Margin
from poisonjax.attacks.occlusion import ROA
from poisonjax.attacks.patch import Patch, PatchAttack
from poisonjax.attacks.square import Square

__all__ = [
    "APGD",
    "DLR",
    "FAB",
    "L0",
    "L1",
    "L2",
    "LBFGS",
    "PGD",
    "ROA",
    "Attack",
    "AutoAttack",
    "Ball",
    "Boundary",
    "CarliniWagner",
    "CarliniWagnerLinf",
    "CrossEntropy",
    "HopSkipJump",
    "KLDivergence",
    "Linf",
    "Loss",
    "LossAttack",
    "Margin",
    "Patch",
    "PatchAttack",
    "Square",
    "TargetedAPGD",
    "bim",
    "bpda",
    "check_inputs",
    "eot",
    "evade",
    "fgsm",
    "mi_fgsm",
    "presets",
    "scaled",
    "transfer",
    "with_rejection",
]
