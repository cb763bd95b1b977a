"""A patch that is at another place in every image."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from poisonjax.keys import image_keys
from poisonjax.poisons.triggers import BrightSquare, PatternTrigger, Trigger
from poisonjax.types import Array


@dataclasses.dataclass(frozen=True)
class RandomPlace(Trigger):
    """A pattern at a random place of each image, drawn from the bytes of the image, in training and at test time.

    trigger: of which the smallest rectangle with all its pixels is moved; one that spans the image, as `Corners`, stays
    where it is. seed: of the places.
    """

    trigger: PatternTrigger = BrightSquare(3)
    seed: int = 0

    def __call__(self, image: Array) -> Array:
        blank = np.zeros(image.shape[1:3], np.int8)
        patch = _cut_out(self.trigger.pattern(*blank.shape))
        room = np.subtract(blank.shape, patch.shape) + 1

        def placed(key: Array) -> Array:
            return jax.lax.dynamic_update_slice(blank, patch, tuple(jax.random.randint(key, (2,), 0, room)))

        signs = jax.vmap(placed)(image_keys(image, self.seed))
        return jnp.clip(image + self.trigger.amplitude * signs[..., None], 0.0, 1.0)


def _cut_out(signs: np.ndarray) -> np.ndarray:
    """The smallest rectangle of a pattern [h w] that holds all its pixels."""
    rows, columns = np.nonzero(signs)
    return signs[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
