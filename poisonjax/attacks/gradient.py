"""FGSM, BIM, PGD and MI-FGSM: one loop of projected gradient ascent."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from poisonjax.attacks.balls import Ball, ascent_direction, project
from poisonjax.attacks.base import LossAttack
from poisonjax.attacks.blocks import where_rows
from poisonjax.attacks.checks import check_inputs
from poisonjax.attacks.losses import CrossEntropy, Loss
from poisonjax.attacks.rows import fold_in, total
from poisonjax.attacks.settings import check_counts, check_instance, check_nonnegative, check_positive
from poisonjax.types import Array, Cost, LogitsFn


class _Best(NamedTuple):
    """The image of the highest loss so far, [b ...], and that loss, [b]."""

    image: Array
    loss: Array

    def or_better(self, image: Array, loss: Array) -> "_Best":
        return where_rows(loss > self.loss, _Best(image, loss), self)


class _Run(NamedTuple):
    """x: the iterate. velocity: the accumulated gradients. best: of all iterates that count. None: not needed."""

    x: Array
    velocity: Array | None
    best: _Best | None


Ascent = Callable[[Array], tuple[Array, Array]]  # images [b ...] -> gradient of what rises [b ...], its value [b]


@dataclasses.dataclass(frozen=True)
class PGD(LossAttack):
    """Projected gradient ascent on the loss (Madry et al. 2018, section 2.1).

    ball: where it may go. step: length of one move, in the ball's norm (for L0 in that of L1), pixels in [0, 1]; None
    for `ball.usual_step(steps)`, 2.5 eps / steps. steps: moves of one run; 40 as in its section 5 for MNIST.
    random_start: begin at a uniform draw from the ball instead of at x. restarts: runs, all but the first from such a
    draw in any case; a row keeps that of the highest loss. keep_best: return the iterate of the highest loss instead of
    the last. targeted: y are the classes to reach, and the loss falls. momentum: the decay factor of the accumulated
    gradients (Dong et al. 2018, algorithm 1). ValueError for an impossible setting.
    """

    ball: Ball
    step: float | None = None
    steps: int = 40
    random_start: bool = True
    loss: Loss = CrossEntropy()
    restarts: int = 1
    keep_best: bool = False
    targeted: bool = False
    momentum: float = 0.0

    def __post_init__(self):
        check_instance(self, "ball", Ball, example="Linf(8/255)")
        check_instance(self, "loss", Loss, example="CrossEntropy()")
        check_counts(self, "steps", "restarts")
        check_nonnegative(self, "momentum")
        if self.step is None:
            self.ball.usual_step(self.steps)  # raises for a ball without a usual step
        else:
            check_positive(self, "step")

    def __call__(
        self,
        logits_fn: LogitsFn,
        x: Array,
        y: Array,
        key: Array,
        scale: Array | float = 1.0,
        begin: Array | None = None,
    ) -> Array:
        """x [b ...] in [0, 1], y [b], one key or one per row -> x_adv [b ...] in the ball and in [0, 1].

        scale in [0, 1] shrinks ball and step together: the eps warm-up of adversarial training. begin: images [b ...]
        in the ball that the first run starts at.
        """
        x, y, keys = check_inputs(x, y, key, self.loss)

        def rises(x_adv: Array) -> tuple[Array, Array]:
            loss = self.loss(logits_fn(x_adv), y)
            rows = -loss if self.targeted else loss
            return rows.sum(), rows

        move = functools.partial(self._move, jax.grad(rises, has_aux=True), x, scale)

        def run(number: int | Array, best: _Best | None) -> _Run:
            start = self._start(x, keys, scale, number)
            if begin is not None:
                start = jnp.where(number > 0, start, begin)
            first = _Run(start, jnp.zeros_like(x) if self.momentum else None, best)
            return jax.lax.fori_loop(0, self._evaluations, move, first)

        if not self._judges:
            return run(0, None).x
        none_yet = _Best(x, jnp.full(len(x), -jnp.inf))
        return jax.lax.fori_loop(0, self.restarts, lambda number, best: run(number, best).best, none_yet).image

    @property
    def _judges(self) -> bool:
        """True if losses are compared; training needs none, and pays for none."""
        return self.keep_best or self.restarts > 1

    @property
    def _evaluations(self) -> int:
        """Gradients of a run: one for each move, and one that judges the last iterate."""
        return self.steps + self._judges

    def _start(self, x: Array, keys: Array, scale: Array | float, number: int | Array) -> Array:
        """The first iterate of the run of that number."""
        if self.restarts == 1 and not self.random_start:
            return jnp.clip(x, 0.0, 1.0)
        radius = self.ball.eps * scale
        if self.restarts > 1:
            keys = jnp.where(number > 0, fold_in(keys, number), keys)
        noise = self.ball.sample(keys, x.shape[1:])
        if not self.random_start:
            noise = jnp.where(number > 0, noise, 0.0)
        return project(self.ball, x, x + radius * noise, radius)

    def _move(self, ascent: Ascent, x: Array, scale: Array | float, i: Array, run: _Run) -> _Run:
        """One move from the iterate, which is compared with the best so far if it counts."""
        (gradient, loss), best, velocity = ascent(run.x), run.best, None
        if self._judges:
            best = best.or_better(run.x, loss if self.keep_best else jnp.where(i == self.steps, loss, -jnp.inf))
        if self.momentum:
            length = total(jnp.abs(gradient))
            gradient = velocity = self.momentum * run.velocity + gradient / jnp.where(length > 0, length, 1.0)
        ahead = run.x + self.step_size * scale * ascent_direction(self.ball, run.x, gradient)
        return _Run(project(self.ball, x, ahead, self.ball.eps * scale), velocity, best)

    @property
    def step_size(self) -> float:
        """The length of one move. `step` stays None, so that this follows when ball or steps are replaced."""
        return self.ball.usual_step(self.steps) if self.step is None else self.step

    @property
    def max_distance(self) -> float:
        """The largest distance from x that the result can have, in the ball's norm."""
        if self.random_start or self.restarts > 1 or not self.ball.additive:
            return self.ball.eps
        return min(self.ball.eps, self.step_size * self.steps)

    @property
    def cost(self) -> Cost:
        """For one image."""
        return Cost(gradients=self.restarts * self._evaluations)

    @property
    def climbs(self) -> bool:
        """True if it is not targeted, takes several steps, and their lengths add up to the radius at least."""
        return self.steps > 1 and self.step_size * self.steps >= self.ball.eps and not self.targeted

    @property
    def single_step(self) -> bool:
        """True for one step, however often it is restarted."""
        return self.steps == 1


def fgsm(ball: Ball, loss: Loss = CrossEntropy()) -> PGD:
    """One step to the edge of the ball (Goodfellow et al. 2015, section 4)."""
    return PGD(ball, step=ball.eps, steps=1, random_start=False, loss=loss)


def bim(ball: Ball, step: float | None = None, steps: int = 40, loss: Loss = CrossEntropy()) -> PGD:
    """The basic iterative method: PGD from x itself (Kurakin et al. 2017, section 2.2)."""
    return PGD(ball, step=step, steps=steps, random_start=False, loss=loss)


def mi_fgsm(ball: Ball, steps: int = 10, momentum: float = 1.0, loss: Loss = CrossEntropy()) -> PGD:
    """BIM with momentum, which transfers better to other networks (Dong et al. 2018, algorithm 1)."""
    return PGD(ball, step=ball.eps / steps, steps=steps, random_start=False, loss=loss, momentum=momentum)
