"""Attacks by name, with their published settings, or the field's usual ones where the paper has none."""

from collections.abc import Callable

from poisonjax.attacks.apgd import APGD, TargetedAPGD
from poisonjax.attacks.autoattack import AutoAttack
from poisonjax.attacks.balls import L2, Ball, Linf
from poisonjax.attacks.base import Attack
from poisonjax.attacks.boundary import Boundary
from poisonjax.attacks.carlini_wagner import CarliniWagner, CarliniWagnerLinf
from poisonjax.attacks.fab import FAB
from poisonjax.attacks.gradient import PGD, bim, fgsm, mi_fgsm
from poisonjax.attacks.hop_skip_jump import HopSkipJump
from poisonjax.attacks.lbfgs import LBFGS
from poisonjax.attacks.square import Square

BALLS: dict[str, type[Ball]] = {"Linf": Linf, "L2": L2}

# Attacks within a ball.
BOUNDED: dict[str, Callable[[Ball], Attack]] = {
    "fgsm": fgsm,
    "bim": lambda ball: bim(ball, ball.eps / 10, 20),
    "pgd": lambda ball: PGD(ball, ball.eps / 16, 40, keep_best=True),
    "mi_fgsm": mi_fgsm,
    "apgd": APGD,
    "apgd_t": TargetedAPGD,
    "autoattack": AutoAttack,
    "square": Square,
}

# Attacks that seek the smallest change, by norm; the first is the default.
MINIMAL: dict[str, dict[str, Attack]] = {
    "fab": {"Linf": FAB(), "L2": FAB("L2")},
    "carlini_wagner": {"L2": CarliniWagner(), "Linf": CarliniWagnerLinf()},
    "lbfgs": {"L2": LBFGS()},
    "boundary": {"L2": Boundary()},
    "hop_skip_jump": {"L2": HopSkipJump(), "Linf": HopSkipJump("Linf")},
}


def bounded(name: str, ball: Ball) -> Attack:
    """The attack of that name within a ball. ValueError for a name that is not in `BOUNDED`."""
    if name not in BOUNDED:
        raise ValueError(f"attack must be one of {', '.join(BOUNDED)}, got {name!r}")
    return BOUNDED[name](ball)


def minimal(name: str, norm: str | None = None) -> Attack:
    """The attack of that name that seeks the smallest change in a norm, by default the first that it is made for.

    ValueError for a name that is not in `MINIMAL`, or a norm that the attack is not made for.
    """
    if name not in MINIMAL:
        raise ValueError(f"attack must be one of {', '.join(MINIMAL)}, got {name!r}")
    norms = MINIMAL[name]
    if norm is not None and norm not in norms:
        raise ValueError(f"norm must be {' or '.join(norms)} for {name}, got {norm!r}")
    return norms[norm or next(iter(norms))]
