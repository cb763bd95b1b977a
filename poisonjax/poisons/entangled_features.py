"""Entangled features: training rows whose features a robust network of the attacker takes for no class, or another."""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import jax.numpy as jnp

from poisonjax.attacks import PGD, Linf, Loss
from poisonjax.poisons.apply import attacked, count, replaced
from poisonjax.poisons.availability import AvailabilityPoison
from poisonjax.poisons.base import Outputs, SurrogatePoison
from poisonjax.types import Array, Examples, LogitsFn, to_unit


@dataclasses.dataclass(frozen=True)
class CentreDistance(Loss):
    """The distance from the centre of the labelled class, where logits are minus the distances from all centres."""

    def __call__(self, logits: Array, labels: Array) -> Array:
        return -jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]


@dataclasses.dataclass(frozen=True)
class EntangledFeatures(AvailabilityPoison, SurrogatePoison):
    """Rows whose features leave the centre of their class, labels kept (Wen et al. 2023).

    Centres are the mean features of the clean training rows of a class, before the last layer of a surrogate that was
    trained adversarially, with half the budget of the poison in the paper, where adversarial training does not stop it.

    rate: share of all training rows, in (0, 1]; all of them in the paper. pull: draw each row to the nearest centre of
    another class, instead of pushing it from its own. attack: 300 steps of .4/255 within 8/255 in the paper on
    CIFAR-10, with the loss `CentreDistance`; pull says whether it is targeted. ValueError for an impossible value.
    """

    rate: float = 1.0
    pull: bool = False
    attack: PGD = PGD(Linf(8 / 255), step=0.4 / 255, steps=300, loss=CentreDistance())
    classes: int = 10
    needs_centres: ClassVar[bool] = True

    def __post_init__(self):
        super().__post_init__()
        if self.attack.targeted:
            raise ValueError("attack.targeted must be left out: pull says whether the attack is targeted")

    def expected_rows(self, rows: int) -> int:
        """The number of training rows, of so many, that are poisoned."""
        return count(self.rate, rows)

    def view(self, outputs: Outputs, centres: Array) -> LogitsFn:
        """Images [b ...] -> minus the distances of their features from the centres [k d], [b k]."""

        def closeness(x: Array) -> Array:
            squared = jnp.sum(jnp.square(outputs(x)[1][:, None] - centres), -1)
            return -jnp.sqrt(squared + 1e-12)

        return closeness

    def perturb(self, logits_fn: LogitsFn, examples: Examples, keys: Array) -> Examples:
        """Rows [b] whose features were moved, in 8 bits, within the ball; keys [b]."""
        attack = dataclasses.replace(self.attack, targeted=self.pull)
        goal = examples.label
        if self.pull:
            own = jnp.arange(self.classes) == examples.label[:, None]
            goal = jnp.argmax(jnp.where(own, -jnp.inf, logits_fn(to_unit(examples.image))), -1)
        return attacked(attack, logits_fn, examples, goal, keys)

    def crafted(self, rows: Examples) -> Callable[[Examples], Examples]:
        """Every given row that was crafted; rows [m] are sorted by index."""
        return replaced(rows)
