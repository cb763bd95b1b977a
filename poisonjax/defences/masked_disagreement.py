"""Masked disagreement: rows that are given to another class once a part of them is hidden are taken for poisoned.

Falls to triggers that no mask hides, as one in all four corners or blended over the whole image, and to clean-label
poisons, whose rows are of their class behind any mask; it drops hard clean rows as well.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from poisonjax.defences.base import Context, Defence, Selection
from poisonjax.defences.patch_cleanser import MaskedTraining, behind, check_masks, mask_set
from poisonjax.evaluation.victim import Victim
from poisonjax.training.objectives import Standard
from poisonjax.types import Array, Examples, take, to_unit


@dataclasses.dataclass(frozen=True)
class MaskedDisagreement(Defence):
    """Drop the rows that a network trained on masked images gives to another class behind some mask.

    With the trigger hidden, such a network sees what the row really shows. It learns from the rows that are left and
    looks at all rows again, round by round, so that clean rows come back. No clean data, and nothing about the poison
    is known but that a mask can hide its trigger.

    size, masks: of the `mask_set`, which hides any size x size patch. confidence: a row is dropped if another class is
    more probable than this behind a mask, in [0, 1). rounds: of training and looking. epochs: of a judge's training;
    None for as many as the arm's. ValueError for impossible values.
    """

    size: int = 5
    masks: int = 6
    confidence: float = 0.5
    rounds: int = 3
    epochs: int | None = None

    needs_images: ClassVar[bool] = True

    def __post_init__(self):
        check_masks(self.size, self.masks)
        if not 0 <= self.confidence < 1:
            raise ValueError(f"confidence is a probability and must lie in [0, 1), got {self.confidence}")
        for field in ("rounds", "epochs"):
            value = getattr(self, field)
            if value is not None and value < 1:
                raise ValueError(f"{field} must be at least 1, got {value}")

    def select(self, context: Context) -> Selection:
        """The rows without disagreement. ValueError if none are left of a class, or the image is too small."""
        kept, doubt = context.train, np.zeros(len(context.train.label))
        for number in range(self.rounds):
            doubt = self._look(context, f"judge{number}", kept)
            kept = take(context.train, doubt <= self.confidence)
            _check_classes(context.train, kept, self.confidence)
        return Selection(kept, doubt)

    def _look(self, context: Context, name: str, kept: Examples) -> np.ndarray:
        """The doubt of a judge that learns from the kept rows, about every row [n]."""
        training = dataclasses.replace(context.training, epochs=self.epochs or context.training.epochs)
        judge = context.fit(name, MaskedTraining(Standard(), self.size, self.masks), kept, training=training)
        return context.map(doubts, judge, context.train, self.size, self.masks)


def doubts(victim: Victim, examples: Examples, size: int, masks: int) -> Array:
    """The highest probability of another class than the label behind any mask of the `mask_set`, [b] in [0, 1]."""
    x = to_unit(examples.image)
    shown = jnp.asarray(mask_set(x.shape[1:], size, masks))

    def doubt(mask: Array) -> Array:
        logits = victim.logits(behind(mask, x))
        own = jax.nn.one_hot(examples.label, logits.shape[-1], dtype=bool)
        return jnp.max(jax.nn.softmax(logits), -1, where=~own, initial=0.0)

    return jax.lax.map(doubt, shown).max(0)


def _check_classes(train: Examples, kept: Examples, confidence: float) -> None:
    gone = np.setdiff1d(train.label, kept.label)
    if len(gone):
        raise ValueError(
            f"every row of class {gone[0]} is in doubt at confidence {confidence:g}; raise it, or train longer"
        )
