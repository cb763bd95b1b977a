"""Rectangular occlusion: the pixels of the one window where hiding the image hurts most (Wu et al. 2020)."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from poisonjax.attacks.balls import Linf, project
from poisonjax.attacks.base import LossAttack
from poisonjax.attacks.checks import check_inputs
from poisonjax.attacks.gradient import PGD
from poisonjax.attacks.losses import CrossEntropy, Loss
from poisonjax.attacks.settings import check_counts, check_instance, check_numbers
from poisonjax.types import Array, Cost, LogitsFn


@dataclasses.dataclass(frozen=True)
class ROA(LossAttack):
    """The worst patch of size x size pixels: grey finds its window, PGD its pixels (Wu et al. 2020).

    The window is searched for once and among all on a grid, their exhaustive search; it stays while the pixels change,
    so that a stronger patch may lie elsewhere. `AdversarialTraining(ROA(5))` trains against a patch anywhere. One of
    t x t pixels lies within some window if the windows are at most size - t + 1 pixels apart.

    size: side of a window. places: windows along each side of the image, evenly from edge to edge, so that places^2
    are tried. ball: how far a pixel of the window may move; 1: to any value. step, steps, random_start: of the PGD in
    the window. fill: the grey, in [0, 1]. ValueError for an impossible setting.
    """

    size: int
    places: int = 9
    ball: Linf = Linf(1.0)
    step: float | None = None
    steps: int = 20
    random_start: bool = True
    loss: Loss = CrossEntropy()
    fill: float = 0.5

    needs_images: ClassVar[bool] = True

    def __post_init__(self):
        check_counts(self, "size", "places")
        check_instance(self, "ball", Linf, example="Linf(1.0)")
        check_numbers(self, "fill")
        if not 0 <= self.fill <= 1:
            raise ValueError(f"fill must lie in [0, 1], got {self.fill}")
        self._search()  # checks the other settings

    def __call__(self, logits_fn: LogitsFn, x: Array, y: Array, key: Array, scale: Array | float = 1.0) -> Array:
        """x [b h w c] in [0, 1], y [b], one key or one per row -> x_adv [b h w c] in [0, 1].

        scale in [0, 1] shrinks how far pixels move, not the window. ValueError for a window larger than an image.
        """
        x, y, keys = check_inputs(x, y, key, self.loss, spatial=True)
        place, start = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
        covered = self._worst(logits_fn, x, y, place, scale)

        def patched(other: Array) -> Array:
            return jnp.where(covered, other, x)

        return patched(self._search()(lambda other: logits_fn(patched(other)), x, y, start, scale))

    def windows(self, shape: tuple[int, ...]) -> np.ndarray:
        """True in each window of an image [h w c]: [places^2 h w 1]. ValueError if it is too small."""
        if self.size > min(shape[:2]):
            raise ValueError(f"a window of {self.size} pixels does not fit images of shape {shape}")
        corners = (np.linspace(0, side - self.size, self.places).round()[:, None] for side in shape[:2])
        row, column = (
            (first <= pixel) & (pixel < first + self.size)
            for first, pixel in zip(corners, map(np.arange, shape[:2]), strict=True)
        )
        return (row[:, None, :, None] & column[None, :, None, :]).reshape(-1, *shape[:2], 1)

    def _worst(self, logits_fn: LogitsFn, x: Array, y: Array, keys: Array, scale: Array | float) -> Array:
        """The window of each image in which grey raises the loss most, [b h w 1] bool; of equals the keys' choice."""
        grey = project(self.ball, x, jnp.full_like(x, self.fill), self.ball.eps * scale)
        windows = jnp.asarray(self.windows(x.shape[1:]))
        losses = jax.lax.map(lambda window: self.loss(logits_fn(jnp.where(window, grey, x)), y), windows)
        # A sure network's loss is 0 in float32 behind every window; the first would then always be the corner.
        lots = jax.vmap(lambda key: jax.random.uniform(key, (len(windows),)), out_axes=1)(keys)
        return windows[jnp.argmax(jnp.where(losses == losses.max(0), lots, -1.0), 0)]

    def _search(self) -> PGD:
        return PGD(self.ball, self.step, self.steps, self.random_start, self.loss)

    @property
    def climbs(self) -> bool:
        """False: it can reach a small part of its ball, so other attacks in it are stronger."""
        return False

    @property
    def max_distance(self) -> float:
        """The largest distance from x that the result can have, in the ball's norm."""
        return self._search().max_distance

    @property
    def cost(self) -> Cost:
        """For one image."""
        return Cost(gradients=self.steps, queries=self.places**2)
