"""A few images as they are and under attack, with what a network says of them: the report's figure 1."""

import dataclasses
from typing import NamedTuple

import numpy as np
from flax import linen as nn

from poisonjax.attacks import PGD
from poisonjax.evaluation.attack_run import attacked
from poisonjax.evaluation.victim import Network
from poisonjax.training import TrainState
from poisonjax.types import Array, Examples, take


@dataclasses.dataclass(frozen=True)
class AdversarialExample:
    """What is shown. images: how many, the first of the test split. magnify: the perturbation is shown so many times
    as large. ValueError for an impossible value."""

    images: int = 3
    magnify: float = 10.0

    def __post_init__(self):
        for field in ("images", "magnify"):
            if not getattr(self, field) >= 1:
                raise ValueError(f"{field} must be at least 1, got {getattr(self, field)}")


class Shown(NamedTuple):
    """clean, adversarial: images [n h w c] in [0, 1]. before, after: probabilities [n k]. labels: [n] true classes."""

    clean: np.ndarray
    adversarial: np.ndarray
    before: np.ndarray
    after: np.ndarray
    labels: np.ndarray


def collect(
    model: nn.Module, state: TrainState, examples: Examples, attack: PGD, key: Array, settings: AdversarialExample
) -> Shown:
    """The first images of examples [n]; state and key are those that `distributed.replicate` gave."""
    few = take(examples, slice(settings.images))
    return Shown(*attacked(Network(model), attack)(few, len(few.label), state, key), np.asarray(few.label))
