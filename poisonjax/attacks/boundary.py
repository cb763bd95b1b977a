"""Brendel et al. 2018: from noise, a random walk along the decision boundary towards the image."""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from poisonjax.attacks.base import Attack
from poisonjax.attacks.checks import check_inputs
from poisonjax.attacks.rows import fold_in, full, per_row, total
from poisonjax.attacks.settings import check_counts, check_numbers
from poisonjax.types import Array, Cost, LogitsFn

_HALVINGS = 10  # of the way from the first noise to the image

Wrong = Callable[[Array], Array]  # images [b ...] or [b n ...] -> misclassified [b 1 ...] or [b n 1 ...] bool


def decisions(logits_fn: LogitsFn, y: Array, shape: tuple[int, ...]) -> Wrong:
    """The only output that a decision-based attack sees: whether images of this shape are misclassified, y [b]."""

    def wrong(images: Array) -> Array:
        rows = images.shape[: images.ndim - len(shape)]
        classes = jnp.argmax(logits_fn(images.reshape(-1, *shape)), axis=-1)
        return classes.reshape(*rows, *[1] * len(shape)) != per_row(y, images)

    return wrong


def misclassified_start(wrong: Wrong, x: Array, keys: Array, tries: int) -> Array:
    """The first that is misclassified of x itself and `tries` uniform draws, [b ...]; x where none is.

    keys [b]. At most 1 + tries queries.
    """

    def draw(state):
        i, start, found = state
        noise = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, i), x.shape[1:]))(keys)
        start = jnp.where(found, start, jnp.where(i == 0, x, noise))
        return i + 1, start, found | wrong(start)

    first = jnp.int32(0), x, full(False, x)
    _, start, found = jax.lax.while_loop(lambda state: (state[0] <= tries) & ~jnp.all(state[2]), draw, first)
    return jnp.where(found, start, x)


def boundary_image(wrong: Wrong, between: Callable[[Array], Array], x: Array, halvings: int) -> Array:
    """The misclassified image nearest to x = between(0), by bisection; between(share [b 1 ...]), misclassified at 1."""

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        beyond = wrong(between(middle))
        return jnp.where(beyond, low, middle), jnp.where(beyond, middle, high)

    bounds = full(0.0, x), full(1.0, x)
    return between(jax.lax.fori_loop(0, halvings, halve, bounds)[1])


class _Walk(NamedTuple):
    """image: misclassified. sideways, ahead: log of the step sizes, as shares of the distance, [b 1 ...].

    advance: True if the next step is one ahead, [b 1 ...].
    """

    image: Array
    sideways: Array
    ahead: Array
    advance: Array


@dataclasses.dataclass(frozen=True)
class Boundary(Attack):
    """The boundary attack (Brendel et al. 2018, section 2): sees only the class that the network decides for; L2.

    A step sideways keeps the distance to the image; where it stays misclassified, a step towards the image follows.
    For each image, both step sizes adapt to how often such steps succeed (section 2.4). queries: for an image, of all
    kinds. tries: how many noise images it may start from. sideways, ahead: the first step sizes, as shares of the
    distance. adapt: how much of a success is added to the log of a step size. ValueError for an impossible setting.
    """

    queries: int = 25_000
    tries: int = 100
    sideways: float = 0.1
    ahead: float = 0.1
    adapt: float = 0.1

    def __post_init__(self):
        check_counts(self, "tries", "queries")
        check_numbers(self, "sideways", "ahead", "adapt")
        if self.queries <= self._before:
            raise ValueError(f"queries must be above {self._before} with {self.tries} tries, got {self.queries}")
        for field in ("sideways", "ahead", "adapt"):
            if not 0 < getattr(self, field) <= 1:
                raise ValueError(f"{field} must be above 0 and at most 1, got {getattr(self, field)}")

    def __call__(self, logits_fn: LogitsFn, x: Array, y: Array, key: Array) -> Array:
        """x [b ...] in [0, 1], y [b] -> the closest misclassified image found, in [0, 1]; x where there is none."""
        x, y, keys = check_inputs(x, y, key)
        wrong = decisions(logits_fn, y, x.shape[1:])
        start = misclassified_start(wrong, x, keys, self.tries)
        image = boundary_image(wrong, lambda share: x + share * (start - x), x, _HALVINGS)

        def ask(i: Array, walk: _Walk) -> _Walk:
            aside = _aside(x, walk.image, jnp.exp(walk.sideways), fold_in(keys, i))
            closer = walk.image + jnp.exp(walk.ahead) * (x - walk.image)
            asked = jnp.where(walk.advance, closer, aside)
            return self._updated(walk, asked, wrong(asked))

        steps = [full(math.log(size), x) for size in (self.sideways, self.ahead)]
        walk = _Walk(image, *steps, full(False, x))
        return jax.lax.fori_loop(self._before, self.queries, ask, walk).image

    @property
    def cost(self) -> Cost:
        """Queries for one image, at most."""
        return Cost(queries=self.queries)

    @property
    def _before(self) -> int:
        """The queries before the walk: x itself, noise, and from there to the boundary."""
        return 1 + self.tries + _HALVINGS

    def _updated(self, walk: _Walk, asked: Array, wrong: Array) -> _Walk:
        """Accept the step if the image stays misclassified, and adapt the size of the step that was tried."""
        sideways = walk.sideways + self.adapt * (wrong - 0.3)
        ahead = jnp.minimum(walk.ahead + self.adapt * (wrong - 0.5), 0.0)
        return _Walk(
            image=jnp.where(wrong, asked, walk.image),
            sideways=jnp.where(walk.advance, walk.sideways, sideways),
            ahead=jnp.where(walk.advance, ahead, walk.ahead),
            advance=wrong & ~walk.advance,
        )


def _aside(x: Array, image: Array, step: Array, keys: Array) -> Array:
    """A random move at a right angle to the line to x, `step` of its length, then back onto the sphere around x."""
    delta, noise = image - x, jax.vmap(lambda key: jax.random.normal(key, x.shape[1:]))(keys)
    distance = jnp.sqrt(total(jnp.square(delta)))
    noise -= delta * total(noise * delta) / jnp.maximum(distance**2, 1e-24)
    noise *= step * distance / jnp.sqrt(total(jnp.square(noise)))
    return jnp.clip(x + (delta + noise) / jnp.sqrt(1 + step**2), 0.0, 1.0)
