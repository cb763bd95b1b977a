"""Signs that a network hides its gradient from attacks instead of being robust."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from poisonjax.attacks import Attack, Ball
from poisonjax.evaluation.attack_run import CleanOutputs

MARGIN = 0.05  # of the images: how much less an attack must leave than it should, for `masking` to report it


class AttackOutcome(NamedTuple):
    """An attack, or a stage of one, and robust: the share of the images still classified as labelled after it."""

    name: str
    attack: Attack
    robust: float


def outcomes(name: str, attack: Attack, numbers: dict) -> list[AttackOutcome]:
    """The outcome of an attack with these `attack_run.numbers`; for an ensemble, one after each stage."""
    if attack.stages:
        return [AttackOutcome(f"{name} {stage}", part, numbers["stages"][stage]) for stage, part in attack.stages]
    hits, images = numbers["robust"]
    return [AttackOutcome(name, attack, hits / images)]


def masking(attacks: Iterable[AttackOutcome], outputs: CleanOutputs) -> list[str]:
    """Signs of gradient masking, one line each.

    Three of those that Athalye et al. 2018, section 3.1, and Carlini et al. 2019 name, each with a margin of more than
    5 points of the images, so that chance seldom gives one:
    - the gradient with respect to the image is zero everywhere, or not a number, for so many of the images;
    - an attack without gradients leaves so many fewer images than the best iterative gradient attack in the same ball;
    - so does a single step along the gradient.
    Iterative gradient attacks are those that are untargeted, take several steps and can reach the ball's edge
    (`Attack.climbs`). Signs two and three compare attacks on the same images; with a single attack only the first
    applies. No sign does not prove that nothing is hidden, and a sign is a reason to try `adaptive.bpda` or
    `adaptive.eot`, not a proof either.
    """
    lines, attacks = [], list(attacks)
    if outputs.slope is not None and (flat := float(np.mean(~(outputs.slope > 0)))) > MARGIN:
        lines.append(f"gradient masking: the gradient of {flat:.1%} of the images is zero or not a number")
    for ball in dict.fromkeys(outcome.attack.ball for outcome in attacks if outcome.attack.ball is not None):
        inside = [outcome for outcome in attacks if outcome.attack.ball == ball]
        if climbing := [outcome for outcome in inside if outcome.attack.climbs]:
            best = min(climbing, key=lambda outcome: outcome.robust)
            lines += [_beaten(outcome, best, ball) for outcome in inside if _suspicious(outcome, best)]
    return lines


def _suspicious(outcome: AttackOutcome, best: AttackOutcome) -> bool:
    weak = outcome.attack.single_step or not outcome.attack.cost.gradients
    return weak and best.robust - outcome.robust > MARGIN


def _beaten(outcome: AttackOutcome, best: AttackOutcome, ball: Ball) -> str:
    means = "a single step" if outcome.attack.cost.gradients else "without gradients"
    return (
        f"gradient masking: {outcome.name}, {means}, leaves {outcome.robust:.1%} of the images, and {best.name}, which "
        f"climbs the gradient, {best.robust:.1%} in the same ball, {ball}"
    )
