"""A trigger that is another in every image."""

import dataclasses

import jax
import jax.numpy as jnp

from poisonjax.keys import image_keys
from poisonjax.poisons.triggers import Trigger
from poisonjax.types import Array


@dataclasses.dataclass(frozen=True)
class SampleSpecific(Trigger):
    """A random sign for each pixel of each image, drawn from the bytes of the image, and added to it.

    No two images share a pattern: only that there is such a grain can be learnt. That of Li et al. 2021 (triggers)
    comes from a network that the attacker trains to hide a string; there is none here, so that this one is less faint
    and says nothing. amplitude: in (0, 1]. seed: of the draw. ValueError for an impossible value.
    """

    amplitude: float = 0.2
    seed: int = 0

    def __post_init__(self):
        if not 0 < self.amplitude <= 1:
            raise ValueError(f"amplitude must lie in (0, 1], got {self.amplitude}")

    def __call__(self, image: Array) -> Array:
        draw = jax.vmap(lambda key: jax.random.rademacher(key, image.shape[1:3], image.dtype))
        return jnp.clip(image + self.amplitude * draw(image_keys(image, self.seed))[..., None], 0.0, 1.0)
