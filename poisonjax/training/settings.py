"""Training hyperparameters."""

import dataclasses

from poisonjax.training.augment import Augmentation
from poisonjax.training.optimizers import Adam, Optimizer


@dataclasses.dataclass(frozen=True)
class Training:
    """Length, pace and augmentation of training, whatever its objective.

    batch: global, over all devices. epochs: the updates, in passes over the rows; an objective that replays each batch
    makes fewer passes. max_steps: stop after so many, to try an experiment out. augment: what happens to
    the images before an attack sees them. ValueError for an impossible value.
    """

    batch: int = 250
    epochs: int = 20
    optimizer: Optimizer = Adam()
    max_steps: int | None = None
    augment: Augmentation | None = None

    def __post_init__(self):
        for field in ("batch", "epochs", "max_steps"):
            value = getattr(self, field)
            if value is not None and not value > 0:
                raise ValueError(f"{field} must be above 0, got {value}")

    def epoch_steps(self, rows: int) -> int:
        """Steps an epoch over so many rows; the last batch may be short, none is dropped."""
        return -(-rows // self.batch)

    def total_steps(self, rows: int) -> int:
        """Steps in all."""
        steps = self.epochs * self.epoch_steps(rows)
        return steps if self.max_steps is None else min(steps, self.max_steps)
