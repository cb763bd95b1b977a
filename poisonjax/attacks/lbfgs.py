"""Szegedy et al. 2014: the closest image that the network takes for a target, by L-BFGS in the box of images."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from poisonjax.attacks.base import Attack
from poisonjax.attacks.blocks import where_rows
from poisonjax.attacks.carlini_wagner import Closest, advantage, bracket, none_yet
from poisonjax.attacks.checks import check_inputs
from poisonjax.attacks.losses import CrossEntropy
from poisonjax.attacks.rows import axes, l2, per_row
from poisonjax.attacks.settings import check_counts, check_positive
from poisonjax.types import Array, Cost, LogitsFn

Slope = Callable[[Array], tuple[Array, tuple[Array, Array]]]  # images -> gradient, (value [b], adversarial [b])


class _Run(NamedTuple):
    """A run of L-BFGS, each field [b ...]. image, value, gradient: where it stands. direction, size: of the move that
    it tries next. memory: of optax. stopped, found: bool."""

    image: Array
    value: Array
    gradient: Array
    direction: Array
    size: Array
    memory: optax.OptState
    stopped: Array
    found: Array
    closest: Closest


@dataclasses.dataclass(frozen=True)
class LBFGS(Attack):
    """Box-constrained L-BFGS (Szegedy et al. 2014, section 4.1): minimises |x_adv - x|^2 + c loss(x_adv, target).

    The paper weighs the distance instead, by 1/c. searches: how many c are tried for each image, by bisection for the
    least that succeeds, from initial_c. steps: gradients for each c; one is spent on each try of a line search, and
    each image has its own. memory: pairs of steps that L-BFGS keeps. targeted: y are the classes to reach; otherwise
    the target is the runner-up at the image, and any wrong class will do. The key is not used. ValueError for an
    impossible setting.
    """

    searches: int = 10
    steps: int = 150
    initial_c: float = 0.1
    memory: int = 10
    targeted: bool = False

    def __post_init__(self):
        check_counts(self, "searches", "steps", "memory")
        check_positive(self, "initial_c")

    def __call__(self, logits_fn: LogitsFn, x: Array, y: Array, key: Array) -> Array:
        """x [b ...] in [0, 1], y [b] -> the closest adversarial image found, in [0, 1]; x where there is none."""
        x, y, _ = check_inputs(x, y, key)
        target = y if self.targeted else _runner_up(logits_fn(x), y)

        def search(_, state):
            weight, closest = state
            run = self._minimise(jax.grad(self._loss(logits_fn, x, y, target, weight.c), has_aux=True), x, closest)
            return weight.halved(run.found), run.closest

        start = bracket(self.initial_c, len(x)), none_yet(x)
        return jax.lax.fori_loop(0, self.searches, search, start)[1].image

    @property
    def cost(self) -> Cost:
        """For one image, at most; the query is for the runner-up."""
        return Cost(gradients=self.searches * self.steps, queries=0 if self.targeted else 1)

    def _loss(self, logits_fn, x, y, target, c):
        def loss(x_adv: Array) -> tuple[Array, tuple[Array, Array]]:
            logits = logits_fn(x_adv)
            rows = jnp.sum(jnp.square(x_adv - x), axes(x)) + c * CrossEntropy()(logits, target)
            return rows.sum(), (rows, advantage(logits, y, self.targeted) > 0)

        return loss

    def _minimise(self, slope: Slope, x: Array, closest: Closest) -> _Run:
        """A run from the images x, row by row until no move lowers the loss."""
        empty, zeros, no = jax.vmap(self._lbfgs.init)(x), jnp.zeros_like(x), jnp.zeros(len(x), bool)

        def move(state: tuple[Array, _Run]) -> tuple[Array, _Run]:
            step, run = state
            image = jnp.clip(run.image + per_row(run.size, x) * run.direction, 0.0, 1.0)
            gradient, (value, adversarial) = slope(image)
            distance = l2(image - x)
            closest = run.closest.or_closer(image, distance, adversarial)
            judged = run._replace(found=run.found | adversarial, closest=closest)
            lower = value <= run.value + 1e-4 * jnp.sum(run.gradient * (image - run.image), axes(x))
            turned = where_rows(lower, self._turned(judged, image, value, gradient, empty), _shortened(judged))
            return step + 1, where_rows(run.stopped, run, turned)

        start = _Run(x, jnp.full(len(x), jnp.inf), zeros, zeros, jnp.ones(len(x)), empty, no, no, closest)
        return jax.lax.while_loop(self._goes_on, move, (jnp.int32(0), start))[1]

    def _goes_on(self, state: tuple[Array, _Run]) -> Array:
        step, run = state
        return (step < self.steps) & ~jnp.all(run.stopped)

    @property
    def _lbfgs(self) -> optax.GradientTransformation:
        """The direction of one row, from what it remembers."""
        return optax.scale_by_lbfgs(self.memory)

    def _turned(self, run: _Run, image: Array, value: Array, gradient: Array, empty: optax.OptState) -> _Run:
        """Stands at the image, and turns to the next direction: within the face of the box that it is pressed to.

        A row forgets what it remembers where the loss is not convex along its last move, as no L-BFGS step follows.
        """
        pressed = jnp.where(gradient > 0, image <= 0, image >= 1)
        free = jnp.where(pressed, 0.0, gradient)
        bend = jnp.sum((image - run.memory.params) * (free - run.memory.updates), axes(image))
        ahead, memory = jax.vmap(self._lbfgs.update)(free, where_rows(bend > 0, run.memory, empty), image)
        return run._replace(
            image=image,
            value=value,
            gradient=gradient,
            direction=jnp.where(pressed, 0.0, -ahead),
            size=jnp.ones_like(run.size),
            memory=memory,
            stopped=~(run.value - value > 1e-6 * value) | (run.closest.distance == 0),
        )


def _shortened(run: _Run) -> _Run:
    """The same move again, half as long; the row stops where that is next to nothing."""
    return run._replace(size=run.size / 2, stopped=run.size < 1e-4)


def _runner_up(logits: Array, y: Array) -> Array:
    """The likeliest class but y [b]."""
    return jnp.argmax(jnp.where(jax.nn.one_hot(y, logits.shape[-1], dtype=bool), -jnp.inf, logits), axis=-1)
