"""Test-time attacks: each a pure function (logits_fn, x, y, key) -> x_adv."""

from poisonjax.attacks.balls import L2, Linf
from poisonjax.attacks.gradient import PGD, bim, fgsm
from poisonjax.attacks.losses import CrossEntropy, Margin

__all__ = ["L2", "PGD", "CrossEntropy", "Linf", "Margin", "bim", "fgsm"]
