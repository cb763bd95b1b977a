"""FGSM, BIM, PGD and MI-FGSM: one loop of projected gradient ascent."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from poisonjax.attacks.balls import L0, Ball, ascent_direction, project
from poisonjax.attacks.losses import CrossEntropy, Loss
from poisonjax.types import Array, Cost, LogitsFn


def row_keys(key: Array, rows: int) -> Array:
    """A key for each row: those given, [rows], or as many split off the single one given."""
    return key if key.ndim else jax.random.split(key, rows)


class _Best(NamedTuple):
    """The image of the highest loss so far, [b h w c], and that loss, [b]."""

    image: Array
    loss: Array

    def or_better(self, image: Array, loss: Array) -> "_Best":
        higher = loss > self.loss
        return _Best(jnp.where(higher[:, None, None, None], image, self.image), jnp.where(higher, loss, self.loss))


class _Run(NamedTuple):
    """x: the iterate. velocity: the accumulated gradients. best: of all iterates that count. None: not needed."""

    x: Array
    velocity: Array | None
    best: _Best | None


Ascent = Callable[[Array], tuple[Array, Array]]  # images [b h w c] -> gradient of what rises [b h w c], its value [b]


@dataclasses.dataclass(frozen=True)
class PGD:
    """Projected gradient ascent on the loss (Madry et al. 2018, section 2.1).

    ball: where it may go. step: length of one move, in the ball's norm (for L0 in that of L1), pixels in [0, 1].
    steps: how many. random_start: begin at a uniform draw from the ball instead of at x. restarts: runs, all but the
    first from such a draw in any case; a row keeps that of the highest loss. keep_best: return the iterate of the
    highest loss instead of the last. targeted: y are the classes to reach, and the loss falls. momentum: the share of
    the gradients so far that a move goes on with (Dong et al. 2018, algorithm 1). ValueError for an impossible setting.
    """

    ball: Ball
    step: float
    steps: int
    random_start: bool = True
    loss: Loss = CrossEntropy()
    restarts: int = 1
    keep_best: bool = False
    targeted: bool = False
    momentum: float = 0.0

    def __post_init__(self):
        for field in ("steps", "restarts"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, got {getattr(self, field)}")
        if not self.step > 0:
            raise ValueError(f"step must be above 0, got {self.step}")
        if not self.momentum >= 0:
            raise ValueError(f"momentum must not be negative, got {self.momentum}")

    def __call__(self, logits_fn: LogitsFn, x: Array, y: Array, key: Array, scale: float = 1.0) -> Array:
        """x [b h w c] in [0, 1], y [b], key one or one a row -> x_adv [b h w c] in the ball and in [0, 1].

        scale in [0, 1] shrinks ball and step together: the eps warm-up of adversarial training.
        """

        def rises(x_adv: Array) -> tuple[Array, Array]:
            loss = self.loss(logits_fn(x_adv), y)
            rows = -loss if self.targeted else loss
            return rows.sum(), rows

        move = functools.partial(self._move, jax.grad(rises, has_aux=True), x, scale)

        def run(number: int | Array, best: _Best | None) -> _Run:
            begin = _Run(self._start(x, key, scale, number), jnp.zeros_like(x) if self.momentum else None, best)
            return jax.lax.fori_loop(0, self._evaluations, move, begin)

        if not self._judges:
            return run(0, None).x
        none_yet = _Best(x, jnp.full(len(x), -jnp.inf))
        return jax.lax.fori_loop(0, self.restarts, lambda number, best: run(number, best).best, none_yet).image

    @property
    def _judges(self) -> bool:
        """Whether losses are compared; training needs none, and pays for none."""
        return self.keep_best or self.restarts > 1

    @property
    def _evaluations(self) -> int:
        """Of a run: one for each move, and one that judges the last iterate."""
        return self.steps + self._judges

    def _start(self, x: Array, key: Array, scale: float, number: int | Array) -> Array:
        """Of the run of that number."""
        if self.restarts == 1 and not self.random_start:
            return jnp.clip(x, 0.0, 1.0)
        radius, keys = self.ball.eps * scale, row_keys(key, len(x))
        if self.restarts > 1:
            keys = jnp.where(number > 0, jax.vmap(jax.random.fold_in, (0, None))(keys, number), keys)
        noise = self.ball.sample(keys, x.shape[1:])
        if not self.random_start:
            noise = jnp.where(number > 0, noise, 0.0)
        return project(self.ball, x, x + radius * noise, radius)

    def _move(self, ascent: Ascent, x: Array, scale: float, i: Array, run: _Run) -> _Run:
        """Judges the iterate, if it counts, and goes on from it."""
        (gradient, loss), best, velocity = ascent(run.x), run.best, None
        if self._judges:
            best = best.or_better(run.x, loss if self.keep_best else jnp.where(i == self.steps, loss, -jnp.inf))
        if self.momentum:
            length = jnp.sum(jnp.abs(gradient), (1, 2, 3), keepdims=True)
            gradient = velocity = self.momentum * run.velocity + gradient / jnp.where(length > 0, length, 1.0)
        ahead = run.x + self.step * scale * ascent_direction(self.ball, run.x, gradient)
        return _Run(project(self.ball, x, ahead, self.ball.eps * scale), velocity, best)

    @property
    def max_distance(self) -> float:
        """The farthest that an image can end from x, in the ball's norm."""
        if self.random_start or self.restarts > 1 or isinstance(self.ball, L0):
            return self.ball.eps
        return min(self.ball.eps, self.step * self.steps)

    @property
    def cost(self) -> Cost:
        """For one image."""
        return Cost(gradients=self.restarts * self._evaluations)


def fgsm(ball: Ball, loss: Loss = CrossEntropy()) -> PGD:
    """One step to the edge of the ball (Goodfellow et al. 2015, section 4)."""
    return PGD(ball, step=ball.eps, steps=1, random_start=False, loss=loss)


def bim(ball: Ball, step: float, steps: int, loss: Loss = CrossEntropy()) -> PGD:
    """The basic iterative method: PGD from x itself (Kurakin et al. 2017, section 2.2)."""
    return PGD(ball, step=step, steps=steps, random_start=False, loss=loss)


def mi_fgsm(ball: Ball, steps: int = 10, momentum: float = 1.0, loss: Loss = CrossEntropy()) -> PGD:
    """BIM with momentum, which transfers better to other networks (Dong et al. 2018, algorithm 1)."""
    return PGD(ball, step=ball.eps / steps, steps=steps, random_start=False, loss=loss, momentum=momentum)
