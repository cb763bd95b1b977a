"""Several triggers on one image."""

import dataclasses

from poisonjax.poisons.triggers import BrightSquare, Tile, Trigger
from poisonjax.types import Array


@dataclasses.dataclass(frozen=True)
class Together(Trigger):
    """Several triggers, put on one after another; a defence that finds one of them has not found the others.

    triggers: at least one. ValueError without any.
    """

    triggers: tuple[Trigger, ...] = (BrightSquare(3), Tile("upper_left"))

    def __post_init__(self):
        if not self.triggers:
            raise ValueError("triggers must hold at least one trigger, such as BrightSquare(3)")

    def __call__(self, image: Array) -> Array:
        for trigger in self.triggers:
            image = trigger(image)
        return image
