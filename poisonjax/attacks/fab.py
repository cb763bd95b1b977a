"""FAB: the closest adversarial image, by projections onto the linearised boundary (Croce & Hein 2020, "Minimally
distorted adversarial examples with a fast adaptive boundary attack")."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from poisonjax.attacks.apgd import likeliest
from poisonjax.attacks.balls import L2, Ball, Linf
from poisonjax.attacks.base import Attack
from poisonjax.attacks.blocks import on_active_rows, where_rows
from poisonjax.attacks.checks import check_inputs
from poisonjax.attacks.losses import Margin
from poisonjax.attacks.rows import axes, fold_in, full, l2, linf, per_row, total
from poisonjax.attacks.settings import check_counts, check_nonnegative, check_numbers
from poisonjax.types import Array, Cost, LogitsFn


def length(norm: str, delta: Array) -> Array:
    """Length of each row of delta [b ...], [b]. norm: "Linf" or "L2"."""
    return linf(delta) if norm == "Linf" else l2(delta)


def projection(norm: str, x: Array, normal: Array, gap: Array) -> Array:
    """The shortest delta [b ...] with <normal, delta> = gap [b] and x + delta in [0, 1] (section 2.2, equation 4).

    x in [0, 1]. Where the plane misses the box: the delta to the corner that is nearest to the plane.
    """
    largest = per_row(linf(normal), normal)
    scaled = jnp.abs(normal) / jnp.where(largest > 0, largest, 1.0)
    slope = jnp.where(scaled > 1e-12, scaled, 0.0)  # the square of a smaller one would underflow
    way = jnp.sign(normal) * per_row(jnp.sign(gap), normal)
    room = jnp.where(slope > 0, jnp.where(way > 0, 1 - x, x), 0.0)
    needed = jnp.abs(gap) / jnp.where(largest > 0, largest, 1.0).reshape(-1)
    if norm == "Linf":
        return way * jnp.minimum(_level(slope, room, needed), room)
    cap = room / jnp.where(slope > 0, slope, 1.0)
    return way * slope * jnp.minimum(_level(jnp.square(slope), cap, needed), cap)


def _level(weight: Array, cap: Array, needed: Array) -> Array:
    """The level with sum(weight * min(level, cap)) = needed [b], [b 1 ...]; inf where the sum never gets there.

    The sum is concave and piecewise linear in the level, so Newton's method from 0 ends at the root, exactly.
    """

    def newton(state: tuple[Array, Array]) -> tuple[Array, Array]:
        level, _ = state
        free = cap > level
        slope = total(jnp.where(free, weight, 0.0))
        rest = per_row(needed, weight) - total(jnp.where(free, 0.0, weight * cap))
        root = jnp.where(slope > 0, rest / jnp.where(slope > 0, slope, 1.0), jnp.where(rest > 0, jnp.inf, 0.0))
        return jnp.maximum(level, root), level

    zero = full(0.0, weight)
    return jax.lax.while_loop(lambda state: jnp.any(state[0] > state[1]), newton, (zero, zero - 1))[0]


class _Closest(NamedTuple):
    """The closest adversarial image so far, x where there is none, [b ...]; its distance or inf, [b]."""

    image: Array
    distance: Array


@dataclasses.dataclass(frozen=True)
class FAB(Attack):
    """The targeted version, FAB-T, as in AutoAttack (section 2, algorithm 1; no final search).

    norm: "Linf" or "L2". steps: of one run. targets: classes, from the largest wrong logit on; all there are if there
    are fewer. restarts: runs for each class, all but the first from random points. alpha_max: the most that a step is
    drawn back to x. eta: how far it overshoots the boundary. beta: how much of the way from x is kept after a success.
    eps: a row is done as soon as an image within this distance is found, and stays x otherwise; none for the closest.
    ValueError for an impossible setting.
    """

    norm: str = "Linf"
    steps: int = 100
    targets: int = 9
    restarts: int = 1
    alpha_max: float = 0.1
    eta: float = 1.05
    beta: float = 0.9
    eps: float | None = None

    def __post_init__(self):
        if self.norm not in ("Linf", "L2"):
            raise ValueError(f"norm must be Linf or L2, got {self.norm!r}")
        check_counts(self, "steps", "targets", "restarts")
        check_numbers(self, "alpha_max", "beta", "eta")
        for field in ("alpha_max", "beta"):
            if not 0 <= getattr(self, field) <= 1:
                raise ValueError(f"{field} is a fraction and must lie in [0, 1], got {getattr(self, field)}")
        if not self.eta >= 1:
            raise ValueError(f"eta must be at least 1, got {self.eta}")
        if self.eps is not None:
            check_nonnegative(self, "eps")

    @property
    def ball(self) -> Ball | None:
        """The ball of radius eps; None without one."""
        return None if self.eps is None else (Linf if self.norm == "Linf" else L2)(self.eps)

    def __call__(self, logits_fn: LogitsFn, x: Array, y: Array, key: Array) -> Array:
        """x [b ...] in [0, 1], y [b], one key or one per row -> the closest adversarial image found, or x itself."""
        x, y, keys = check_inputs(x, y, key)
        logits = logits_fn(x)
        targets = likeliest(logits, self.targets)

        def run(state: tuple[Array, _Closest]) -> tuple[Array, _Closest]:
            number, closest = state

            def approach(rows: tuple, closest: _Closest) -> _Closest:
                x, y, keys, targets = rows
                start = self._start(x, keys, number, closest.distance)
                return self._approach(logits_fn, x, y, targets[:, number // self.restarts], start, closest)

            return number + 1, on_active_rows(approach, (x, y, keys, targets), closest, ~self._done(closest))

        def going(state: tuple[Array, _Closest]) -> Array:
            return (state[0] < targets.shape[1] * self.restarts) & ~jnp.all(self._done(state[1]))

        begin = _Closest(x, jnp.where(jnp.argmax(logits, -1) != y, 0.0, jnp.inf))
        closest = jax.lax.while_loop(going, run, (0, begin))[1]
        return closest.image if self.eps is None else where_rows(closest.distance <= self.eps, closest.image, x)

    @property
    def cost(self) -> Cost:
        """For one image, at most."""
        steps = self.targets * self.restarts * self.steps
        return Cost(gradients=steps, queries=steps + 1)

    def _done(self, closest: _Closest) -> Array:
        """True for rows whose image is close enough, [b]."""
        return closest.distance <= (self.eps or 0.0)

    def _start(self, x: Array, keys: Array, number: Array, distance: Array) -> Array:
        """x itself, or a point not farther than half the way to the closest image (section 2.5)."""
        if self.restarts == 1:
            return x
        ball = Linf(0.0) if self.norm == "Linf" else L2(0.0)
        noise = ball.sample(fold_in(keys, number), x.shape[1:])
        most = ball.max_radius(x.shape[1:]) if self.eps is None else self.eps
        radius = jnp.where(number % self.restarts == 0, 0.0, jnp.minimum(distance, most) / 2)
        return jnp.clip(x + per_row(radius, noise) * noise, 0.0, 1.0)

    def _approach(
        self, logits_fn: LogitsFn, x: Array, y: Array, target: Array, start: Array, closest: _Closest
    ) -> _Closest:
        """One run towards the classes target [b]."""
        boundary = _linearised(logits_fn, y, target)

        def step(state: tuple[Array, Array, _Closest]) -> tuple[Array, Array, _Closest]:
            i, point, closest = state
            point = self._projected(x, point, *boundary(point))
            logits, distance = logits_fn(point), length(self.norm, point - x)
            better = _clearly_wrong(logits, y) & (distance < closest.distance) & ~self._done(closest)
            closest = where_rows(better, _Closest(point, distance), closest)
            wrong = jnp.argmax(logits, -1) != y
            return i + 1, where_rows(wrong, x + self.beta * (point - x), point), closest

        def going(state: tuple[Array, Array, _Closest]) -> Array:
            return (state[0] < self.steps) & ~jnp.all(self._done(state[2]))

        return jax.lax.while_loop(going, step, (0, start, closest))[2]

    def _projected(self, x: Array, point: Array, lead: Array, normal: Array) -> Array:
        """A point past the linearised boundary, between the projections of point and of x (equation 9)."""
        gaps = jnp.stack([-lead, jnp.sum(normal * (point - x), axes(x)) - lead])
        both = projection(self.norm, *(jnp.concatenate(pair) for pair in ((point, x), (normal, normal), gaps)))
        far = jnp.split(per_row(jnp.maximum(length(self.norm, both), 1e-8), both), 2)
        near, back = jnp.split(both, 2)
        alpha = jnp.minimum(far[0] / (far[0] + far[1]), self.alpha_max)
        return jnp.clip((1 - alpha) * (point + self.eta * near) + alpha * (x + self.eta * back), 0.0, 1.0)


def _clearly_wrong(logits: Array, y: Array) -> Array:
    """Misclassified by more than rounding, [b]: the attack ends so near the boundary that programs might disagree."""
    return Margin()(logits, y) > 1e-5 * jnp.max(jnp.abs(logits), -1)


def _linearised(logits_fn: LogitsFn, y: Array, target: Array) -> Callable[[Array], tuple[Array, Array]]:
    """x -> the target's logit minus the right one [b], and its gradient [b ...]."""

    def sum_of_leads(x: Array) -> tuple[Array, Array]:
        logits = logits_fn(x)
        lead = jnp.take_along_axis(logits, target[:, None], -1) - jnp.take_along_axis(logits, y[:, None], -1)
        return lead.sum(), lead[:, 0]

    def linearised(x: Array) -> tuple[Array, Array]:
        gradient, lead = jax.grad(sum_of_leads, has_aux=True)(x)
        return lead, gradient

    return linearised
