"""BadNets: a trigger and a wrong label on some training rows."""

import dataclasses

import jax.numpy as jnp

from poisonjax.poisons.apply import choose, count
from poisonjax.poisons.base import Poison
from poisonjax.poisons.triggers import FourPixels, Trigger
from poisonjax.types import Array, Examples, to_bytes, to_unit


@dataclasses.dataclass(frozen=True)
class BadNets(Poison):
    """Trigger and wrong label on round(rate * n) rows (Gu et al. 2019, section 4.1).

    rate: share of all training rows, in (0, 1]. target: the class that every trigger leads to, with rows drawn from the
    other classes; None is all-to-all, class i to i + 1 mod classes. ValueError for an impossible value.
    """

    rate: float = 0.1
    target: int | None = None
    trigger: Trigger = FourPixels()
    classes: int = 10

    def select(self, labels: Array, key: Array) -> Array:
        """labels [n] -> mask [n] with round(rate * n) rows. ValueError if too few are of another class."""
        return choose(self.target_labels(labels) != labels, count(self.rate, len(labels)), key)

    def apply(self, examples: Examples) -> Examples:
        """Every given row with the trigger and the label that the attacker wants."""
        image = to_bytes(self.trigger(to_unit(examples.image)))
        return Examples(image, self.target_labels(examples.label), examples.index)

    def apply_trigger(self, image: Array) -> Array:
        """Images [b h w c] in [0, 1] with the trigger."""
        return self.trigger(image)

    def target_labels(self, labels: Array) -> Array:
        """The class that the attacker wants for images of each class, [b]."""
        return (labels + 1) % self.classes if self.target is None else jnp.full_like(labels, self.target)

    def to_one_class(self) -> "BadNets":
        """All-to-all as all-to-one, to class 0; itself if it has a target."""
        return dataclasses.replace(self, target=0) if self.target is None else self
