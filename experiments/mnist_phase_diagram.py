"""Removed, revealed or neither: trigger amplitude against the budget of adversarial training (beside table T6)

BadNets to one class on MNIST with a square of 3 x 3 pixels. Adversarial training at three budgets, and the training
rows that each of these networks reveals as poisoned; sweep the trigger's amplitude, its size or the poison rate.

    python launch.py --experiment=mnist_phase_diagram --sweep poison.trigger.amplitude=.1,.2,.3,.45,.6,.8,1
    python launch.py --experiment=mnist_phase_diagram --sweep poison.rate=.01,.1 --sweep poison.trigger.size=2,3,4
"""

import dataclasses

from poisonjax.defences import Reveal
from poisonjax.experiment import Arm, Experiment

from . import mnist_removes_or_reveals
from ._scales import judges


def experiment(scale: str) -> Experiment:
    plan, ladder = mnist_removes_or_reveals.experiment(scale), judges(scale)
    budgets = {f"{round(100 * judge.attack.ball.eps):02d}": judge for judge in ladder}
    return dataclasses.replace(
        plan,
        name="mnist_phase_diagram",
        title="Trigger amplitude against the budget of adversarial training: removed, revealed, or neither.",
        arms=(
            Arm("standard"),
            *(Arm(f"pgd_at_{eps}", judge) for eps, judge in budgets.items()),
            *(Arm(f"reveal_{eps}", defence=Reveal((judge,))) for eps, judge in budgets.items()),
            Arm("reveal_ladder", defence=Reveal(ladder)),
            Arm("standard_clean_data", poisoned=False),
        ),
        evaluation=dataclasses.replace(plan.evaluation, attack=ladder[-1].attack, autoattack=None),
    )
