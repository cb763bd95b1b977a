"""Adversarial patches: pixels of any value in one place of the image (Brown et al. 2017)."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax
from jax.scipy.ndimage import map_coordinates

from poisonjax.attacks.balls import Linf
from poisonjax.attacks.base import Attack, LossAttack
from poisonjax.attacks.checks import check_inputs
from poisonjax.attacks.gradient import PGD
from poisonjax.attacks.losses import CrossEntropy, Loss
from poisonjax.attacks.settings import check_counts, check_instance, check_numbers, check_positive
from poisonjax.types import Array, Cost, LogitsFn


def _check_patch(settings: "Patch | PatchAttack") -> None:
    check_counts(settings, "size")
    if settings.shape not in ("disk", "square"):
        raise ValueError(f"shape must be disk or square, got {settings.shape!r}")


@dataclasses.dataclass(frozen=True)
class Patch(Attack):
    """One patch for all images, optimised over random images and places of it (Brown et al. 2017, section 2).

    size: its diameter or side in pixels. shape: "disk" or "square". rotation: up to how many degrees it is turned,
    either way. scale: the smallest and the largest factor of its size. steps, batch, learning_rate: of Adam, a batch
    of random images a step. targeted: y are the classes to reach. ValueError for an impossible setting.
    """

    size: int
    shape: str = "disk"
    rotation: float = 22.5
    scale: tuple[float, float] = (0.8, 1.2)
    steps: int = 500
    batch: int = 32
    learning_rate: float = 0.05
    loss: Loss = CrossEntropy()
    targeted: bool = False

    needs_images: ClassVar[bool] = True

    def __post_init__(self):
        _check_patch(self)
        check_instance(self, "loss", Loss, example="CrossEntropy()")
        check_counts(self, "steps", "batch")
        check_positive(self, "learning_rate")
        check_numbers(self, "rotation")
        if not 0 <= self.rotation <= 180:
            raise ValueError(f"rotation is in degrees and must lie in [0, 180], got {self.rotation}")
        if not (len(self.scale) == 2 and 0 < self.scale[0] <= self.scale[1]):
            raise ValueError(f"scale must be a smallest and a largest factor above 0, got {self.scale}")

    def __call__(self, logits_fn: LogitsFn, x: Array, y: Array, key: Array) -> Array:
        """x [b h w c] in [0, 1], y [b], one key or one per row -> x_adv [b h w c] in [0, 1], all with the one patch.

        Crafted on x itself, so that a row depends on all of them; see `craft` and `apply` for images not yet seen.
        """
        x, y, keys = check_inputs(x, y, key, self.loss, spatial=True)
        return self.apply(self.craft(logits_fn, x, y, keys[0]), x, keys)

    @property
    def cost(self) -> Cost:
        """For the patch, however many images it is for."""
        return Cost(gradients=self.steps * self.batch)

    def craft(self, logits_fn: LogitsFn, x: Array, y: Array, key: Array) -> Array:
        """x [n h w c] in [0, 1], y [n], one key -> patch [s s c] in [0, 1]. ValueError if larger than an image."""
        adam = optax.adam(self.learning_rate)

        def falls(patch: Array, rows: Array, keys: Array) -> Array:
            loss = self.loss(logits_fn(self.apply(patch, x[rows], keys)), y[rows]).mean()
            return loss if self.targeted else -loss

        def step(i: Array, state: tuple[Array, optax.OptState]) -> tuple[Array, optax.OptState]:
            patch, moments = state
            which, where = jax.random.split(jax.random.fold_in(key, i))
            rows = jax.random.randint(which, (self.batch,), 0, len(x))
            gradient = jax.grad(falls)(patch, rows, jax.random.split(where, self.batch))
            update, moments = adam.update(gradient, moments)
            return jnp.clip(optax.apply_updates(patch, update), 0.0, 1.0), moments

        grey = jnp.full((self.size, self.size, x.shape[-1]), 0.5)
        return jax.lax.fori_loop(0, self.steps, step, (grey, adam.init(grey)))[0]

    def apply(self, patch: Array, x: Array, keys: Array) -> Array:
        """The patch [s s c] at a random place of each of x [b h w c], which each of keys [b] draws -> [b h w c].

        The place is whole within the image before the patch is turned. ValueError if there is none.
        """
        return jax.vmap(self._paste, (None, 0, 0))(patch, x, keys)

    def _paste(self, patch: Array, x: Array, key: Array) -> Array:
        at = self._place(x.shape, key)
        pixels = at + (self.size - 1) / 2
        pasted = jax.vmap(lambda channel: map_coordinates(channel, pixels, order=1, mode="nearest"), -1, -1)(patch)
        return jnp.where(_covers(self.shape, self.size, at), pasted, x)

    def _place(self, shape: tuple[int, ...], key: Array) -> Array:
        """Coordinates in the patch, from its centre, of each pixel of an image [h w c]; at a random place: [2 h w]."""
        _check_fit(self.size * self.scale[1], shape)
        turn, zoom, corner = jax.random.split(key, 3)
        angle = jax.random.uniform(turn, minval=-1.0, maxval=1.0) * math.radians(self.rotation)
        scale = jax.random.uniform(zoom, minval=self.scale[0], maxval=self.scale[1])
        row, column = _from_centre(self.size * scale, shape, corner)
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        return jnp.stack([cos * row - sin * column, sin * row + cos * column]) / scale


@dataclasses.dataclass(frozen=True)
class PatchAttack(Attack):
    """A patch of its own for each image, at a random place where it stays (Brown et al. 2017; Karmon et al. 2018).

    size: its diameter or side in pixels. shape: "disk" or "square". search: how its pixels are found; the other
    pixels do not change. ValueError for an impossible setting.
    """

    size: int
    shape: str = "square"
    search: LossAttack = PGD(Linf(1.0), step=0.05, steps=100, keep_best=True)

    needs_images: ClassVar[bool] = True

    def __post_init__(self):
        _check_patch(self)
        check_instance(self, "search", LossAttack, example="PGD(Linf(1.0), step=0.05)")

    def __call__(self, logits_fn: LogitsFn, x: Array, y: Array, key: Array) -> Array:
        """x [b h w c] in [0, 1], y [b], one key or one per row -> x_adv [b h w c] in [0, 1].

        ValueError for a patch that is larger than an image.
        """
        x, y, keys = check_inputs(x, y, key, self.search.loss, spatial=True)
        _check_fit(self.size, x.shape[1:])
        corner, start = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
        at = jax.vmap(lambda key: _from_centre(self.size, x.shape[1:], key))(corner)
        covered = jax.vmap(lambda at: _covers(self.shape, self.size, at))(at)

        def patched(other: Array) -> Array:
            return jnp.where(covered, other, x)

        return patched(self.search(lambda other: logits_fn(patched(other)), x, y, start))

    @property
    def cost(self) -> Cost:
        """For one image."""
        return self.search.cost


def _from_centre(side: Array, shape: tuple[int, ...], key: Array) -> Array:
    """The rows and columns of an image [h w c], from the centre of a random square of that side in it: [2 h w]."""
    height, width, _ = shape
    corner = jax.random.randint(key, (2, 1, 1), 0, jnp.floor(jnp.array([[[height]], [[width]]]) - side) + 1)
    return jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")) - corner - (side - 1) / 2


def _covers(shape: str, size: int, at: Array) -> Array:
    """True where a patch covers points at [2 h w] from its centre, [h w 1] bool."""
    distance = jnp.hypot(*at) if shape == "disk" else jnp.max(jnp.abs(at), 0)
    return (distance <= size / 2)[..., None]


def _check_fit(side: float, shape: tuple[int, ...]) -> None:
    if side > min(shape[:2]):
        raise ValueError(f"a patch of up to {side:g} pixels does not fit images of shape {shape}")
