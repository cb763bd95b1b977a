"""A few images as they are and under attack, with what a network says of them: the report's figure 1."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from poisonjax.attacks import PGD
from poisonjax.evaluation.victim import Network, Victim
from poisonjax.runtime import distributed
from poisonjax.training import TrainState
from poisonjax.training.step import row_keys
from poisonjax.types import Array, Attack, Examples, take, to_unit


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


@distributed.cached
def attacked(victim: Victim, attack: Attack) -> Callable:
    """over_rows program (examples, batch, state, key) -> images, under attack, and the probabilities of both."""

    def show(examples: Examples, state: Any, key: Array) -> tuple:
        x, logits_fn = to_unit(examples.image), victim(state)
        x_adv = attack(logits_fn, x, examples.label, row_keys(key, examples.index, 0))
        return x, x_adv, *(jax.nn.softmax(logits_fn(images).astype(jnp.float32)) for images in (x, x_adv))

    return distributed.over_rows(show)


def collect(
    model: nn.Module, state: TrainState, examples: Examples, attack: PGD, key: Array, settings: AdversarialExample
) -> Shown:
    """The first images of examples [n]; state and key are those that `distributed.replicate` gave."""
    few = take(examples, slice(settings.images))
    return Shown(*attacked(Network(model), attack)(few, len(few.label), state, key), np.asarray(few.label))
