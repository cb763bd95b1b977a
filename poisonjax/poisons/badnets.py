"""BadNets: stamp a trigger on some training rows and change their labels."""

import dataclasses

import jax.numpy as jnp

from poisonjax.poisons.apply import choose, count
from poisonjax.poisons.base import Poison
from poisonjax.poisons.triggers import FourPixels, Trigger, stamp
from poisonjax.types import Array, Examples, to_bytes, to_unit


@dataclasses.dataclass(frozen=True)
class BadNets(Poison):
    """Trigger and wrong label on round(rate * n) rows (Gu et al. 2019, section 4.1).

    rate: share of all training rows. target: the class that every trigger leads to, drawn from the other
    classes; None is all-to-all, class i to i + 1 mod classes. ValueError for an impossible value.
    """

    rate: float = 0.1
    target: int | None = None
    trigger: Trigger = FourPixels()
    classes: int = 10

    def __post_init__(self):
        if not 0 < self.rate <= 1:
            raise ValueError(f"rate must lie in (0, 1], got {self.rate}")
        if self.target is not None and not 0 <= self.target < self.classes:
            raise ValueError(f"target must be one of the classes 0 to {self.classes - 1}, got {self.target}")

    def select(self, labels: Array, key: Array) -> Array:
        """labels [n] -> mask [n] with round(rate * n) rows. ValueError if too few are of another class."""
        return choose(self.target_labels(labels) != labels, count(self.rate, len(labels)), key)

    def apply(self, examples: Examples) -> Examples:
        """Every given row with the trigger and the label that the attacker wants."""
        image = to_bytes(stamp(self.trigger, to_unit(examples.image)))
        return Examples(image, self.target_labels(examples.label), examples.index)

    def apply_trigger(self, image: Array) -> Array:
        """Images [b h w c] in [0, 1] as the attacker shows them at test time."""
        return stamp(self.trigger, image)

    def target_labels(self, labels: Array) -> Array:
        """The class that the attacker wants for images of each class, [b]."""
        return (labels + 1) % self.classes if self.target is None else jnp.full_like(labels, self.target)
