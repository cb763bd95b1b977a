"""Defensive distillation: a network that learns a teacher's probabilities at a high temperature hides its gradient.

Falls to the same attacks on the logits divided by the temperature (`attacks.scaled`; Carlini & Wagner 2017, section
VIII), and to losses that no scale of the logits changes: at temperature 1 the logits are so far apart that the gradient
of the cross-entropy is 0 in float32, while the classes are as close as ever.
"""

import dataclasses

import jax
import numpy as np

from poisonjax.defences.base import Context, Defence
from poisonjax.evaluation.victim import Victim
from poisonjax.training.objectives import Objective, Standard
from poisonjax.types import Array, Examples, to_unit


@dataclasses.dataclass(frozen=True)
class Distillation(Defence):
    """Learn the probabilities of a teacher of the same architecture (Papernot et al. 2016, section IV).

    temperature: of the softmax of both while they learn, at least 1; the paper tries 1 to 100. Afterwards it is 1. The
    logits grow in proportion to it, which takes an optimiser that adapts, as Adam, or a longer training. ValueError for
    an impossible temperature.
    """

    temperature: float = 100.0

    def __post_init__(self):
        if not 1 <= self.temperature < np.inf:
            raise ValueError(f"temperature must be at least 1 and finite, got {self.temperature}")

    def select(self, context: Context) -> Examples:
        """All rows, labelled with the teacher's probabilities [n k]. ValueError if they are not all finite."""
        teacher = context.fit("teacher", Standard(self.temperature), context.train)
        soft = context.map(probabilities, teacher, context.train, self.temperature)
        if not np.isfinite(soft).all():
            raise ValueError("the teacher's probabilities are not all finite; train it with a smaller learning rate")
        return context.train._replace(label=soft)

    def objective(self, objective: Objective) -> Objective:
        """Cross-entropy at the temperature. ValueError if the arm has an objective of its own."""
        if objective != Standard():
            raise ValueError(f"Distillation sets the objective itself; leave the arm's at Standard(), got {objective}")
        return Standard(self.temperature)


def probabilities(victim: Victim, examples: Examples, temperature: float) -> Array:
    """The softmax of the logits divided by the temperature, [b k]."""
    return jax.nn.softmax(victim.logits(to_unit(examples.image)) / temperature)
