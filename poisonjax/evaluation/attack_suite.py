"""Many test-time attacks on one network."""

import dataclasses
from typing import NamedTuple

import numpy as np

from poisonjax.attacks import AnyAttack


@dataclasses.dataclass(frozen=True)
class NamedAttack:
    """An attack and what it is called."""

    name: str
    attack: AnyAttack


@dataclasses.dataclass(frozen=True)
class AttackSuite:
    """Which attacks, on how many images, the first of the test split, and how many at a time.

    shown: images in the picture. ValueError for an impossible value or a name that comes twice.
    """

    trials: tuple[NamedAttack, ...]
    images: int = 200
    batch: int = 100
    shown: int = 4

    def __post_init__(self):
        for field in ("images", "batch", "shown"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, got {getattr(self, field)}")
        names = [trial.name for trial in self.trials]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"trials must have names of their own, got {twice[0]} twice")


class Pictures(NamedTuple):
    """adversarial: a few images [n h w c]. after: the classes predicted for them [n]."""

    adversarial: np.ndarray
    after: np.ndarray
