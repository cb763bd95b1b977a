"""WaNet: a smooth warp of the image as a trigger, which adds nothing to it."""

import dataclasses

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from poisonjax.attacks.settings import check_positive
from poisonjax.keys import image_keys
from poisonjax.poisons.triggers import Trigger
from poisonjax.types import Array


@dataclasses.dataclass(frozen=True)
class Warp(Trigger):
    """Pixels taken from places that a random smooth field moves (Nguyen & Tran 2021, section 3.2).

    The paper's attacker controls the training, with noise rows too, which are warped otherwise and keep their label:
    they are the cover rows of `WithCover(BadNets(trigger=Warp()), trigger=NoisyWarp())`. grid: control points a side,
    at least 2; 4 in the paper. strength: mean size of their moves, as a share of half the image times its side, above
    0; .5 in the paper. seed: of the field. ValueError for impossible values.
    """

    grid: int = 4
    strength: float = 0.5
    seed: int = 0

    def __post_init__(self):
        if self.grid < 2:
            raise ValueError(f"grid must be at least 2 points a side, got {self.grid}")
        check_positive(self, "strength")

    def __call__(self, image: Array) -> Array:
        return jax.vmap(warped, (0, None))(image, self.field(*image.shape[1:3]))

    def field(self, height: int, width: int) -> Array:
        """Moves of each pixel down and across, in units of half the image divided by its height: [2 h w]."""
        moves = jax.random.uniform(jax.random.key(self.seed), (2, self.grid, self.grid), minval=-1)
        moves = moves / jnp.abs(moves).mean()
        return jax.image.resize(moves, (2, height, width), "cubic") * self.strength


@dataclasses.dataclass(frozen=True)
class NoisyWarp(Warp):
    """The warp with a uniform random move of each pixel on top, drawn anew for each image from its bytes.

    What noise rows show (Nguyen & Tran 2021): a network that tells it from `Warp` has to know that field.
    noise: largest extra move, in the unit of `strength`, above 0. ValueError for impossible values.
    """

    noise: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "noise")

    def __call__(self, image: Array) -> Array:
        shape = (2, *image.shape[1:3])

        def noisy(pixels: Array, key: Array) -> Array:
            moves = self.noise * jax.random.uniform(key, shape, minval=-1)
            return warped(pixels, self.field(*shape[1:]) + moves)

        return jax.vmap(noisy)(image, image_keys(image, self.seed))


def warped(image: Array, field: Array) -> Array:
    """An image [h w c] in [0, 1], each pixel taken from where the field [2 h w] moves it; see `Warp.field`."""
    (height, width), (rows, columns) = image.shape[:2], jnp.mgrid[: image.shape[0], : image.shape[1]]
    # The paper's places lie in [-1, 1]: a move of strength / side there is so many pixels.
    down = jnp.clip(rows + field[0] / height * (height - 1) / 2, 0, height - 1)
    across = jnp.clip(columns + field[1] / height * (width - 1) / 2, 0, width - 1)

    def channel(pixels: Array) -> Array:
        return map_coordinates(pixels, (down, across), order=1, mode="nearest")

    return jnp.clip(jax.vmap(channel, -1, -1)(image), 0.0, 1.0)
