"""FGSM, BIM and PGD: one loop of projected gradient ascent."""

import dataclasses

import jax
import jax.numpy as jnp

from poisonjax.attacks.balls import Ball, inside
from poisonjax.attacks.losses import CrossEntropy, Loss
from poisonjax.types import Array, LogitsFn


def row_keys(key: Array, rows: int) -> Array:
    """A key for each row: those given, [rows], or as many split off the single one given."""
    return key if key.ndim else jax.random.split(key, rows)


@dataclasses.dataclass(frozen=True)
class PGD:
    """Projected gradient ascent on the loss (Madry et al. 2018, section 2.1).

    ball: where it may go. step: length of one move, in the ball's norm, pixels in [0, 1]. steps: how many.
    random_start: begin at a uniform draw from the ball instead of at x. ValueError for an impossible step.
    """

    ball: Ball
    step: float
    steps: int
    random_start: bool = True
    loss: Loss = CrossEntropy()

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if not self.step > 0:
            raise ValueError(f"step must be above 0, got {self.step}")

    def __call__(self, logits_fn: LogitsFn, x: Array, y: Array, key: Array, scale: float = 1.0) -> Array:
        """x [b h w c] in [0, 1], y [b], key one or one a row -> x_adv [b h w c] in the ball and in [0, 1].

        scale in [0, 1] shrinks ball and step together: the eps warm-up of adversarial training.
        """
        radius, step = self.ball.eps * scale, self.step * scale
        ascent = jax.grad(lambda x_adv: self.loss(logits_fn(x_adv), y).sum())

        def move(_, x_adv):
            return inside(self.ball, x, x_adv + step * self.ball.steepest(ascent(x_adv)), radius)

        return jax.lax.fori_loop(0, self.steps, move, self._start(x, key, radius))

    def _start(self, x: Array, key: Array, radius: Array) -> Array:
        if not self.random_start:
            return jnp.clip(x, 0.0, 1.0)
        noise = self.ball.sample(row_keys(key, len(x)), x.shape[1:])
        return inside(self.ball, x, x + radius * noise, radius)

    @property
    def reach(self) -> float:
        """The farthest that an image can end from x, in the ball's norm."""
        return self.ball.eps if self.random_start else min(self.ball.eps, self.step * self.steps)


def fgsm(ball: Ball, loss: Loss = CrossEntropy()) -> PGD:
    """One step to the edge of the ball (Goodfellow et al. 2015, section 4)."""
    return PGD(ball, step=ball.eps, steps=1, random_start=False, loss=loss)


def bim(ball: Ball, step: float, steps: int, loss: Loss = CrossEntropy()) -> PGD:
    """The basic iterative method: PGD from x itself (Kurakin et al. 2017, section 2.2)."""
    return PGD(ball, step=step, steps=steps, random_start=False, loss=loss)
