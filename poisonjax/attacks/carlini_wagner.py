"""Carlini & Wagner 2017: the closest adversarial image, by Adam in a space where every point is an image."""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from poisonjax.attacks.base import Attack
from poisonjax.attacks.blocks import where_rows
from poisonjax.attacks.checks import check_inputs
from poisonjax.attacks.losses import Margin
from poisonjax.attacks.rows import axes, linf, per_row
from poisonjax.attacks.settings import check_counts, check_nonnegative, check_numbers, check_positive
from poisonjax.types import Array, Cost, LogitsFn


def advantage(logits: Array, y: Array, targeted: bool) -> Array:
    """Distance of logits [b k] past the boundary, [b]: out of the class y [b], or into it if targeted."""
    margin = Margin()(logits, y)
    return -margin if targeted else margin


class Bracket(NamedTuple):
    """Bounds of the right weight of a loss, [b] each: low is too small, high is enough, c is tried next."""

    low: Array
    c: Array
    high: Array

    def halved(self, enough: Array) -> "Bracket":
        """After trying c, enough [b] bool; as long as nothing was enough, c grows tenfold."""
        low, high = jnp.where(enough, self.low, self.c), jnp.where(enough, self.c, self.high)
        return Bracket(low, jnp.where(jnp.isinf(high), 10 * low, (low + high) / 2), high)


def bracket(c: float, rows: int) -> Bracket:
    """The bracket of a search that begins at c, for so many rows."""
    return Bracket(jnp.zeros(rows), jnp.full(rows, c), jnp.full(rows, jnp.inf))


class Closest(NamedTuple):
    """The closest adversarial images found [b ...] and their distances [b]; x itself and inf where there is none."""

    image: Array
    distance: Array

    def or_closer(self, image: Array, distance: Array, adversarial: Array) -> "Closest":
        """These images instead, where they are adversarial [b] and closer."""
        return where_rows(adversarial & (distance < self.distance), Closest(image, distance), self)


def none_yet(x: Array) -> Closest:
    """The state in which no adversarial image was found for any row of x."""
    return Closest(x, jnp.full(len(x), jnp.inf))


class _Run(NamedTuple):
    """A run of Adam on w. lowest: loss so far, [b]; checked: the same at the last check. found, stopped: [b] bool."""

    step: Array
    w: Array
    adam: optax.OptState
    lowest: Array
    checked: Array
    stopped: Array
    found: Array
    closest: Closest


def _to_image(w: Array) -> Array:
    """Every w is an image in [0, 1]: (tanh(w) + 1) / 2 (section V.B)."""
    return jax.nn.sigmoid(2 * w)  # the same, but a dark pixel keeps its slope where a float32 tanh is -1 already


def _to_w(image: Array) -> Array:
    """The inverse of `_to_image`, a hair inside the box, where it is finite."""
    return jnp.arctanh((2 * image - 1) * 0.999999)


@dataclasses.dataclass(frozen=True)
class _TanhDescent(Attack):
    """The search of both attacks: Adam on penalty(x_adv - x) + c * max(confidence - advantage, 0)."""

    confidence: float = 0.0
    learning_rate: float = 0.01
    steps: int = 10_000
    initial_c: float = 1e-3
    abort_early: bool = True
    targeted: bool = False

    def __post_init__(self):
        check_nonnegative(self, "confidence")
        check_positive(self, "learning_rate", "initial_c")
        check_counts(self, "steps")

    def _penalty(self, delta: Array, tau: Array) -> Array:
        """Penalty of a change [b ...], [b]; up to tau [b] is free."""
        raise NotImplementedError

    def _distance(self, delta: Array) -> Array:
        """The length of a change [b ...], [b]."""
        raise NotImplementedError

    def _descend(self, logits_fn, x, y, c, tau, start: Array, closest: Closest, idle: Array) -> _Run:
        """Adam from the images start, row by row until the loss no longer improves; found: within tau [b]."""
        adam, w, far = optax.adam(self.learning_rate), _to_w(start), jnp.full(len(x), jnp.inf)
        slope = jax.grad(self._loss(logits_fn, x, y, c, tau), has_aux=True)

        def move(run: _Run) -> _Run:
            image, back = jax.vjp(_to_image, run.w)
            image = jnp.where(run.step == 0, start, image)
            gradient, (loss, adversarial) = slope(image)
            run = self._judged(run, image, loss, adversarial & ~run.stopped, self._distance(image - x), tau)
            update, state = adam.update(back(gradient)[0], run.adam)
            return run._replace(step=run.step + 1, w=where_rows(run.stopped, run.w, run.w + update), adam=state)

        first = _Run(jnp.int32(0), w, adam.init(w), far, far, idle, jnp.zeros(len(x), bool), closest)
        return jax.lax.while_loop(lambda run: (run.step < self.steps) & ~jnp.all(run.stopped), move, first)

    def _loss(self, logits_fn, x, y, c, tau):
        def loss(x_adv: Array) -> tuple[Array, tuple[Array, Array]]:
            lead = advantage(logits_fn(x_adv), y, self.targeted)
            rows = self._penalty(x_adv - x, tau) + c * jax.nn.relu(self.confidence - lead)
            return rows.sum(), (rows, lead > self.confidence)

        return loss

    def _judged(self, run: _Run, image, loss, adversarial, distance, tau) -> _Run:
        """The run after the images of this step; a row stops when a tenth of the steps did not improve its loss."""
        lowest = jnp.minimum(run.lowest, loss)
        stopped = run.stopped | (loss == 0)
        check = self.abort_early & (run.step % math.ceil(self.steps / 10) == 0)
        return run._replace(
            lowest=lowest,
            checked=jnp.where(check, lowest, run.checked),
            stopped=stopped | (check & ~(lowest < 0.9999 * run.checked)),
            found=run.found | (adversarial & (distance <= tau)),
            closest=run.closest.or_closer(image, distance, adversarial),
        )


@dataclasses.dataclass(frozen=True)
class CarliniWagner(_TanhDescent):
    """The L2 attack (Carlini & Wagner 2017, sections V and VI.A): minimises |x_adv - x|^2 + c f(x_adv).

    confidence: by how much the wrong logit must lead (kappa). learning_rate, steps: of Adam, for each c. searches:
    how many c are tried for each image, by bisection from initial_c. abort_early: a row stops when a tenth of the
    steps did not improve its loss. targeted: y are the classes to reach. Each run starts at the image itself, so the
    key is not used. ValueError for an impossible setting.
    """

    searches: int = 20

    def __post_init__(self):
        super().__post_init__()
        check_counts(self, "searches")

    def __call__(self, logits_fn: LogitsFn, x: Array, y: Array, key: Array) -> Array:
        """x [b ...] in [0, 1], y [b] -> the closest adversarial image found, in [0, 1]; x where there is none."""
        x, y, _ = check_inputs(x, y, key)
        anywhere, idle = jnp.full(len(x), jnp.inf), jnp.zeros(len(x), bool)

        def search(_, state):
            weight, closest = state
            run = self._descend(logits_fn, x, y, weight.c, anywhere, x, closest, idle)
            return weight.halved(run.found), run.closest

        start = bracket(self.initial_c, len(x)), none_yet(x)
        return jax.lax.fori_loop(0, self.searches, search, start)[1].image

    @property
    def cost(self) -> Cost:
        """Gradients for one image, at most."""
        return Cost(gradients=self.searches * self.steps)

    def _penalty(self, delta, tau):
        return jnp.sum(jnp.square(delta), axes(delta))

    def _distance(self, delta):
        return jnp.sqrt(self._penalty(delta, None))


@dataclasses.dataclass(frozen=True)
class CarliniWagnerLinf(_TanhDescent):
    """The Linf attack (Carlini & Wagner 2017, section VI.C): minimises sum(max(|x_adv - x| - tau, 0)) + c f(x_adv).

    tau, per image, is `shrink` times the distance of the closest image found, and each run starts there; c doubles
    where a run found nothing within tau. An image is done when c is above largest_c or tau below smallest_tau. The
    other settings are those of `CarliniWagner`. ValueError for an impossible setting.
    """

    learning_rate: float = 5e-3
    steps: int = 1000
    initial_c: float = 1e-5
    largest_c: float = 20.0
    shrink: float = 0.9
    smallest_tau: float = 1 / 256

    def __post_init__(self):
        super().__post_init__()
        check_numbers(self, "largest_c", "shrink", "smallest_tau")
        if not self.largest_c >= self.initial_c:
            raise ValueError(f"largest_c must be at least initial_c ({self.initial_c}), got {self.largest_c}")
        for field in ("shrink", "smallest_tau"):
            if not 0 < getattr(self, field) < 1:
                raise ValueError(f"{field} must lie between 0 and 1, got {getattr(self, field)}")

    def __call__(self, logits_fn: LogitsFn, x: Array, y: Array, key: Array) -> Array:
        """x [b ...] in [0, 1], y [b] -> the closest adversarial image found, in [0, 1]; x where there is none."""
        x, y, _ = check_inputs(x, y, key)

        def search(_, state):
            c, closest = state
            tau = jnp.minimum(1.0, self.shrink * closest.distance)
            done = (c > self.largest_c) | (tau < self.smallest_tau)
            run = self._descend(logits_fn, x, y, c, tau, closest.image, closest, done)
            return jnp.where(run.found | done, c, 2 * c), run.closest

        start = jnp.full(len(x), self.initial_c), none_yet(x)
        return jax.lax.fori_loop(0, self._searches, search, start)[1].image

    @property
    def cost(self) -> Cost:
        """Gradients for one image, at most."""
        return Cost(gradients=self._searches * self.steps)

    @property
    def _searches(self) -> int:
        """Each shrinks tau or doubles c."""
        shrinks = math.floor(math.log(self.smallest_tau, self.shrink))
        return shrinks + math.floor(math.log2(self.largest_c / self.initial_c)) + 2

    def _penalty(self, delta, tau):
        return jnp.sum(jax.nn.relu(jnp.abs(delta) - per_row(tau, delta)), axes(delta))

    def _distance(self, delta):
        return linf(delta)
