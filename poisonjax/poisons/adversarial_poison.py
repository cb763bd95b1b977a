"""Adversarial examples as poisons: training rows moved towards, or away from, what a network of the attacker sees."""

import dataclasses
from collections.abc import Callable

from poisonjax.attacks import PGD, Linf
from poisonjax.poisons.apply import attacked, count, replaced
from poisonjax.poisons.availability import AvailabilityPoison
from poisonjax.poisons.base import SurrogatePoison
from poisonjax.types import Array, Examples, LogitsFn


@dataclasses.dataclass(frozen=True)
class AdversarialPoison(AvailabilityPoison, SurrogatePoison):
    """Adversarial examples of a network trained on clean data, labels kept (Fowl et al. 2021).

    A network that learns from them takes the features of the wrong class for those of the label. The paper crafts
    through random crops and flips; here the surrogate sees the rows as they are.

    rate: share of all training rows, in (0, 1]; all of them in the paper. shift: rows of class i are made to look like
    class i + shift mod classes, by 1 in the authors' code; 0 raises the loss of their own class instead, which the
    paper calls untargeted. attack: 250 steps and 8 restarts in the paper, within 8/255 on CIFAR-10; shift says whether
    it is targeted. ValueError for an impossible value.
    """

    rate: float = 1.0
    shift: int = 1
    attack: PGD = PGD(Linf(8 / 255), steps=250, restarts=8)
    classes: int = 10

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.shift < self.classes:
            raise ValueError(f"shift must lie in 0 to {self.classes - 1}, got {self.shift}")
        if self.attack.targeted:
            raise ValueError("attack.targeted must be left out: shift says whether the attack is targeted")

    def expected_rows(self, rows: int) -> int:
        """The number of training rows, of so many, that are poisoned."""
        return count(self.rate, rows)

    def perturb(self, logits_fn: LogitsFn, examples: Examples, keys: Array) -> Examples:
        """Rows [b] attacked against the surrogate, in 8 bits, within the ball; keys [b]."""
        attack = dataclasses.replace(self.attack, targeted=self.shift > 0)
        return attacked(attack, logits_fn, examples, (examples.label + self.shift) % self.classes, keys)

    def crafted(self, rows: Examples) -> Callable[[Examples], Examples]:
        """Every given row that was crafted; rows [m] are sorted by index."""
        return replaced(rows)
