"""Auto-PGD: projected gradient ascent that sets its own step (Croce & Hein 2020, "Reliable evaluation of adversarial
robustness with an ensemble of diverse parameter-free attacks")."""

import dataclasses
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from poisonjax.attacks.balls import Ball, project
from poisonjax.attacks.base import Attack, LossAttack
from poisonjax.attacks.blocks import on_active_rows, where_rows
from poisonjax.attacks.checks import check_inputs
from poisonjax.attacks.losses import CrossEntropy, Loss, targeted_dlr
from poisonjax.attacks.rows import fold_in, full
from poisonjax.attacks.settings import check_counts, check_instance, check_numbers
from poisonjax.types import Array, Cost, LogitsFn


class Point(NamedTuple):
    """An image a row [b ...], the loss there [b], its gradient [b ...], and whether it is misclassified [b]."""

    x: Array
    loss: Array
    gradient: Array
    wrong: Array

    def or_better(self, other: "Point") -> "Point":
        """The first of the two that is misclassified; where none is, the one of higher loss."""
        return where_rows(~self.wrong & (other.wrong | (other.loss > self.loss)), other, self)


def _worst(x: Array, wrong: Array) -> Point:
    """x as a point below every other; for the rows that are already wrong, above."""
    return Point(x, jnp.full(len(x), -jnp.inf), jnp.zeros_like(x), wrong)


class _Climb(NamedTuple):
    """A run after i evaluations. x, before: the next point and the one that the last step left. step: [b 1 ...].

    last: the loss evaluated last, [b]. rises: how many steps raised it since the last checkpoint, [b]. checked,
    halved: the best loss at that checkpoint, and whether the step was halved there, [b].
    """

    i: int | Array
    x: Array
    before: Array
    step: Array
    best: Point
    last: Array
    rises: Array
    checked: Array
    halved: Array


def _begun(start: Array, done: Array, radius: float | Array) -> _Climb:
    """A run that has evaluated nothing yet."""
    best, step = _worst(start, done), full(2.0 * radius, start)
    none = jnp.zeros(len(start), jnp.int32)
    return _Climb(0, start, start, step, best, -best.loss, none, best.loss, halved=none == 0)


Evaluate = Callable[[Array], Point]  # images [b ...] -> what is there
Landscape = Callable[[tuple, Array], Evaluate]  # (what is given of the rows, number of the run) -> Evaluate


@dataclasses.dataclass(frozen=True)
class _AutoPGD(Attack):
    """The search of both attacks. ValueError for an impossible setting."""

    ball: Ball
    steps: int = 100
    rho: float = 0.75

    def __post_init__(self):
        check_instance(self, "ball", Ball, example="Linf(8/255)")
        check_counts(self, "steps")
        check_numbers(self, "rho")
        if not 0 <= self.rho <= 1:
            raise ValueError(f"rho is a fraction and must lie in [0, 1], got {self.rho}")

    def _search(
        self, landscape: Landscape, given: tuple, x: Array, keys: Array, runs: int, wrong: Array, radius: float | Array
    ) -> Array:
        """The best point of several runs, each from a random one. Rows that are wrong [b] are done and stay x."""

        def climb(rows: tuple, found: Point, number: Array) -> Point:
            given, x, keys = rows
            noise = self.ball.sample(fold_in(keys, number), x.shape[1:])
            start = project(self.ball, x, x + radius * noise, radius)
            return found.or_better(self._climb(landscape(given, number), x, start, found.wrong, radius))

        def run(state: tuple[Array, Point]) -> tuple[Array, Point]:
            number, found = state
            return number + 1, on_active_rows(lambda *of: climb(*of, number), rows, found, ~found.wrong)

        def going(state: tuple[Array, Point]) -> Array:
            return (state[0] < runs) & ~jnp.all(state[1].wrong)

        rows = given, x, keys
        if runs == 1:
            return climb(rows, _worst(x, wrong), 0).x
        return jax.lax.while_loop(going, run, (0, _worst(x, wrong)))[1].x

    def _climb(self, evaluate: Evaluate, x: Array, start: Array, done: Array, radius: float | Array) -> Point:
        """The best point of one run (algorithm 1), which ends early when all rows are misclassified or done [b]."""
        windows = jnp.asarray(self._windows())

        def step(state: _Climb) -> _Climb:
            now = evaluate(state.x)
            rises, best = state.rises + (now.loss > state.last), state.best.or_better(now)
            # As in the authors' code, the loss after the first step is compared with 0, not with that before it.
            state = state._replace(best=best, rises=rises, last=jnp.where(state.i == 0, 0.0, now.loss))
            return self._moved(*self._checked(state, now, windows[state.i]), x, radius)

        def going(state: _Climb) -> Array:
            return (state.i <= self.steps) & ~jnp.all(state.best.wrong)

        return jax.lax.while_loop(going, step, _begun(start, done, radius)).best

    def _windows(self) -> np.ndarray:
        """For each evaluation, the steps since the last checkpoint if it is one, or 0 (section 3.1)."""
        window, shortest, shorter = (max(int(share * self.steps), 1) for share in (0.22, 0.06, 0.03))
        windows, at = np.zeros(self.steps + 1, np.int32), window
        while at <= self.steps:
            windows[at] = window
            window = max(window - shorter, shortest)
            at += window
        return windows

    def _checked(self, state: _Climb, now: Point, window: Array) -> tuple[_Climb, Point]:
        """At a checkpoint, rows that make no progress halve their step and go on from their best point."""
        stuck = (state.rises <= self.rho * window) | (~state.halved & (state.checked >= state.best.loss))
        here = window > 0
        kept = state._replace(
            step=where_rows(here & stuck, state.step / 2, state.step),
            rises=jnp.where(here, 0, state.rises),
            checked=jnp.where(here, state.best.loss, state.checked),
            halved=jnp.where(here, stuck, state.halved),
        )
        return kept, where_rows(here & stuck, state.best, now)

    def _moved(self, state: _Climb, now: Point, x: Array, radius: float | Array) -> _Climb:
        """A step uphill from now, with momentum; the very first one has none."""
        share = jnp.where(state.i == 0, 1.0, 0.75)
        uphill = project(self.ball, x, now.x + state.step * self.ball.steepest(now.gradient), radius)
        moved = now.x + share * (uphill - now.x) + (1 - share) * (now.x - state.before)
        return state._replace(i=state.i + 1, x=project(self.ball, x, moved, radius), before=now.x)


def _evaluation(logits_fn: LogitsFn, objective: Callable[[Array], Array], y: Array, stop: bool = True) -> Evaluate:
    """objective: logits [b k] -> what is raised, [b]. Without stop, no point counts as wrong."""

    def total(x: Array) -> tuple[Array, tuple[Array, Array]]:
        logits = logits_fn(x)
        loss = objective(logits)
        return loss.sum(), (loss, (jnp.argmax(logits, -1) != y) & stop)

    def evaluate(x: Array) -> Point:
        gradient, (loss, wrong) = jax.grad(total, has_aux=True)(x)
        return Point(x, loss, gradient, wrong)

    return evaluate


@dataclasses.dataclass(frozen=True)
class APGD(_AutoPGD, LossAttack):
    """Projected gradient ascent with momentum; a row that makes no progress halves its step (section 3, algorithm 1).

    ball: where it may go. steps: of one run. rho: the share of steps between two checkpoints that must raise the loss.
    restarts: runs from random points for a row that none has misclassified. best_loss: run all the steps and
    return the point of the highest loss, as training and poisoning want it. ValueError for an impossible setting.
    """

    loss: Loss = CrossEntropy()
    restarts: int = 1
    best_loss: bool = False

    random_start = True  # each run's, as PGD calls it

    def __post_init__(self):
        super().__post_init__()
        check_instance(self, "loss", Loss, example="CrossEntropy()")
        check_counts(self, "restarts")

    def __call__(self, logits_fn: LogitsFn, x: Array, y: Array, key: Array, scale: Array | float = 1.0) -> Array:
        """x [b ...] in [0, 1], y [b], one key or one per row -> x_adv [b ...] in the ball and in [0, 1].

        The first misclassified point, which may be x itself; where there is none, the point of the highest loss.
        scale in [0, 1] shrinks the ball: the eps warm-up of adversarial training.
        """
        x, y, keys = check_inputs(x, y, key, self.loss)

        def landscape(y: Array, number: Array) -> Evaluate:
            return _evaluation(logits_fn, lambda logits: self.loss(logits, y), _classes(y), stop=not self.best_loss)

        wrong = jnp.zeros(len(x), bool) if self.best_loss else jnp.argmax(logits_fn(x), -1) != _classes(y)
        return self._search(landscape, y, x, keys, self.restarts, wrong, self.ball.eps * scale)

    @property
    def max_distance(self) -> float:
        """The largest distance from x that the result can have, in the ball's norm."""
        return self.ball.eps

    @property
    def cost(self) -> Cost:
        """For one image, at most."""
        return Cost(gradients=self.restarts * (self.steps + 1), queries=1)


@dataclasses.dataclass(frozen=True)
class TargetedAPGD(_AutoPGD):
    """A run of Auto-PGD towards each of the likeliest wrong classes, on the targeted DLR loss (section 4.2).

    targets: how many classes, from the largest wrong logit on; all there are if there are fewer. The other
    settings are those of `APGD`. ValueError for an impossible setting, or for a network of less than 4 classes.
    """

    targets: int = 9

    fewest_classes: ClassVar[int] = 4

    def __post_init__(self):
        super().__post_init__()
        check_counts(self, "targets")

    def __call__(self, logits_fn: LogitsFn, x: Array, y: Array, key: Array) -> Array:
        """x [b ...] in [0, 1], y [b], one key or one per row -> x_adv [b ...] in the ball and in [0, 1].

        The first misclassified point, which may be x itself; where there is none, the point of the highest loss.
        """
        x, y, keys = check_inputs(x, y, key)
        logits = logits_fn(x)
        targets = likeliest(logits, self.targets)

        def landscape(given: tuple[Array, Array], number: Array) -> Evaluate:
            y, targets = given
            return _evaluation(logits_fn, lambda logits: targeted_dlr(logits, y, targets[:, number]), y)

        wrong = jnp.argmax(logits, -1) != y
        return self._search(landscape, (y, targets), x, keys, targets.shape[1], wrong, self.ball.eps)

    @property
    def cost(self) -> Cost:
        """For one image, at most."""
        return Cost(gradients=self.targets * (self.steps + 1), queries=1)


def _classes(y: Array) -> Array:
    """Labels [b], or the likeliest classes of probabilities [b k]: [b]."""
    return y if y.ndim == 1 else jnp.argmax(y, -1)


def likeliest(logits: Array, count: int) -> Array:
    """The classes of the largest logits [b k] but for the first, count or as many as there are: [b count]."""
    return jax.lax.top_k(logits, min(count + 1, logits.shape[-1]))[1][:, 1:]
