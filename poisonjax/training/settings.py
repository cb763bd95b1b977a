"""How long and how fast one network is trained."""

import dataclasses

from poisonjax.attacks import LossAttack
from poisonjax.training.augment import CropFlip
from poisonjax.training.optimizers import Adam, Optimizer


@dataclasses.dataclass(frozen=True)
class Training:
    """The settings that the arms of an experiment share.

    batch: global, over all devices. attack: what adversarial arms train against. warmup: share of the steps, in
    [0, 1], over which its eps and step grow from 0, so that training does not collapse to one class.
    max_steps: stop after so many, to try an experiment out. augment: what happens to the images before an attack
    sees them. ValueError for an impossible value.
    """

    attack: LossAttack
    batch: int = 250
    epochs: int = 20
    optimizer: Optimizer = Adam()
    warmup: float = 0.0
    max_steps: int | None = None
    augment: CropFlip | None = None

    def __post_init__(self):
        for field in ("batch", "epochs", "max_steps"):
            value = getattr(self, field)
            if value is not None and not value > 0:
                raise ValueError(f"{field} must be above 0, got {value}")
        if not 0 <= self.warmup <= 1:
            raise ValueError(f"warmup is a share of the steps and must lie in [0, 1], got {self.warmup}")

    def epoch_steps(self, rows: int) -> int:
        """Steps an epoch over so many rows; the last batch may be short, none is dropped."""
        return -(-rows // self.batch)

    def total_steps(self, rows: int) -> int:
        """Steps in all."""
        steps = self.epochs * self.epoch_steps(rows)
        return steps if self.max_steps is None else min(steps, self.max_steps)
