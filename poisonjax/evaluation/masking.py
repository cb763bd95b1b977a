"""Signs that a network hides its gradient from attacks instead of being robust."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from poisonjax.attacks import FAB, L2, PGD, AnyAttack, AutoAttack, Linf
from poisonjax.attacks.balls import Ball
from poisonjax.evaluation.attack_run import CleanOutputs
from poisonjax.types import Attack

MARGIN = 0.05  # of the images: how much less an attack must leave than it should, for `masking` to speak of it


class AttackOutcome(NamedTuple):
    """What an attack, or a stage of one, left: robust, the share of the images still classified as labelled."""

    name: str
    attack: Attack
    robust: float


def outcomes(name: str, attack: AnyAttack, measured: dict) -> list[AttackOutcome]:
    """Those of an attack of which `measure` said so; of one with stages, what was left after each."""
    if isinstance(attack, AutoAttack):
        return [AttackOutcome(f"{name} {stage}", of, measured["stages"][stage]) for stage, of in attack.stages]
    hits, of = measured["robust"]
    return [AttackOutcome(name, attack, hits / of)]


def masking(found: Iterable[AttackOutcome], seen: CleanOutputs) -> list[str]:
    """Signs that a network hides its gradient from the attacks instead of being robust, one line each.

    Of those that Athalye et al. 2018, section 3.1, and Carlini et al. 2019 name, these three, each with a margin of
    more than 5 points of the images, so that chance no_progress seldom makes one:
    - the gradient with respect to the image is zero everywhere, or no number, for so many of the images;
    - an attack that takes no gradients leaves so many fewer images than the best one that climbs a gradient in the
      same ball;
    - so does a single step along the gradient.
    An attack climbs if it is not targeted, takes several gradients and can cross the ball. Among attacks that were not
    tried on the same images nothing can be compared, so only the first sign shows where one attack was. No sign is
    no proof that nothing is hidden, and a line is a reason to try `adaptive.bpda` or `adaptive.eot`, no proof either.
    """
    lines, found = [], list(found)
    if seen.slope is not None and (flat := float(np.mean(~(seen.slope > 0)))) > MARGIN:
        lines.append(f"gradient masking: the gradient of {flat:.1%} of the images is zero or no number")
    for ball in dict.fromkeys(_ball(each.attack) for each in found):
        here = [each for each in found if ball is not None and _ball(each.attack) == ball]
        if climbing := [each for each in here if _climbs(each.attack)]:
            best = min(climbing, key=lambda each: each.robust)
            lines += [_beaten(each, best, ball) for each in here if _too_good(each, best)]
    return lines


def _ball(attack: Attack) -> Ball | None:
    """Where it may go; None for one that may go anywhere."""
    if isinstance(attack, FAB):
        return attack.eps and (Linf if attack.norm == "Linf" else L2)(attack.eps)
    return getattr(attack, "ball", None)


def _climbs(attack: Attack) -> bool:
    """Whether a network that hides nothing should withstand it less than it withstands a single step or chance."""
    if isinstance(attack, PGD):
        return attack.steps > 1 and attack.step * attack.steps >= attack.ball.eps and not attack.targeted
    return attack.cost.gradients > 0


def _too_good(each: AttackOutcome, best: AttackOutcome) -> bool:
    single = isinstance(each.attack, PGD) and each.attack.steps == 1
    return (single or not each.attack.cost.gradients) and best.robust - each.robust > MARGIN


def _beaten(each: AttackOutcome, best: AttackOutcome, ball: Ball) -> str:
    means = "a single step" if each.attack.cost.gradients else "without gradients"
    return (
        f"gradient masking: {each.name}, {means}, leaves {each.robust:.1%} of the images, and {best.name}, which "
        f"climbs the gradient, {best.robust:.1%} in the same ball, {ball}"
    )
