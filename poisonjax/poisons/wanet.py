"""WaNet: a smooth warp of the image as a trigger, which adds nothing to it."""

import dataclasses

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from poisonjax.poisons.triggers import Trigger
from poisonjax.types import Array


@dataclasses.dataclass(frozen=True)
class Warp(Trigger):
    """Pixels taken from places that a random smooth field moves (Nguyen & Tran 2021, section 3.2).

    The paper's attacker controls the training, with noise rows too, which are warped otherwise and keep their label;
    here there are none. grid: control points a side, at least 2; 4 in the paper. strength: mean size of their moves, as
    a share of half the image times its side, above 0; .5 in the paper. seed: of the field. ValueError for impossible
    values.
    """

    grid: int = 4
    strength: float = 0.5
    seed: int = 0

    def __post_init__(self):
        if self.grid < 2:
            raise ValueError(f"grid must be at least 2 points a side, got {self.grid}")
        if not self.strength > 0:
            raise ValueError(f"strength must be above 0, got {self.strength}")

    def __call__(self, image: Array) -> Array:
        places = self._places(*image.shape[1:3])

        def channel(pixels: Array) -> Array:
            return map_coordinates(pixels, places, order=1, mode="nearest")

        return jnp.clip(jax.vmap(jax.vmap(channel, -1, -1))(image), 0.0, 1.0)

    def _places(self, height: int, width: int) -> tuple[Array, Array]:
        """Row and column, in pixels, from which each pixel is taken: [h w] each."""
        moves = jax.random.uniform(jax.random.key(self.seed), (2, self.grid, self.grid), minval=-1)
        moves = moves / jnp.abs(moves).mean()
        field = jax.image.resize(moves, (2, height, width), "cubic") * self.strength
        rows, columns = jnp.mgrid[:height, :width]
        # The paper's places lie in [-1, 1]: a move of strength / side there is so many pixels.
        down = rows + field[0] / height * (height - 1) / 2
        across = columns + field[1] / height * (width - 1) / 2
        return jnp.clip(down, 0, height - 1), jnp.clip(across, 0, width - 1)
