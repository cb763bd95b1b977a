"""Brendel et al. 2018: from noise, a random walk along the decision boundary towards the image."""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from poisonjax.attacks.base import Attack
from poisonjax.attacks.checks import check_inputs
from poisonjax.attacks.settings import check_counts, check_numbers
from poisonjax.types import Array, Cost, LogitsFn

_HALVINGS = 10  # of the way from the first noise to the image

Wrong = Callable[[Array], Array]  # images [b ... h w c] -> whether each is misclassified, [b ... 1 1 1] bool


def decisions(logits_fn: LogitsFn, y: Array) -> Wrong:
    """All that a decision-based attack sees: whether images are not classified as y [b]."""

    def wrong(images: Array) -> Array:
        *rows, height, width, channels = images.shape
        classes = jnp.argmax(logits_fn(images.reshape(-1, height, width, channels)), axis=-1)
        return classes.reshape(*rows, 1, 1, 1) != y.reshape(-1, *[1] * (images.ndim - 1))

    return wrong


def misclassified_start(wrong: Wrong, x: Array, keys: Array, tries: int) -> Array:
    """The first that is misclassified of x itself and `tries` uniform draws, [b h w c]; x where none is.

    keys [b]. At most 1 + tries queries.
    """

    def draw(state):
        i, start, found = state
        noise = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, i), x.shape[1:]))(keys)
        start = jnp.where(found, start, jnp.where(i == 0, x, noise))
        return i + 1, start, found | wrong(start)

    first = jnp.int32(0), x, jnp.zeros((len(x), 1, 1, 1), bool)
    _, start, found = jax.lax.while_loop(lambda state: (state[0] <= tries) & ~jnp.all(state[2]), draw, first)
    return jnp.where(found, start, x)


def boundary_image(wrong: Wrong, between: Callable[[Array], Array], rows: int, halvings: int) -> Array:
    """The misclassified image nearest to between(0), by bisection; between(share [b 1 1 1]) is misclassified at 1."""

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        beyond = wrong(between(middle))
        return jnp.where(beyond, low, middle), jnp.where(beyond, middle, high)

    bounds = jnp.zeros((rows, 1, 1, 1)), jnp.ones((rows, 1, 1, 1))
    return between(jax.lax.fori_loop(0, halvings, halve, bounds)[1])


class _Walk(NamedTuple):
    """image: misclassified. sideways, ahead: log of the step sizes, as shares of the distance, [b 1 1 1].

    advance: whether the next step goes ahead, [b 1 1 1] bool.
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
        """x [b h w c] in [0, 1], y [b] -> the closest misclassified image found, in [0, 1]; x where there is none."""
        x, y, keys = check_inputs(x, y, key)
        wrong, per_row = decisions(logits_fn, y), (len(x), 1, 1, 1)
        start = misclassified_start(wrong, x, keys, self.tries)
        image = boundary_image(wrong, lambda share: x + share * (start - x), len(x), _HALVINGS)

        def ask(i: Array, walk: _Walk) -> _Walk:
            aside = _aside(x, walk.image, jnp.exp(walk.sideways), jax.vmap(jax.random.fold_in, (0, None))(keys, i))
            closer = walk.image + jnp.exp(walk.ahead) * (x - walk.image)
            asked = jnp.where(walk.advance, closer, aside)
            return self._answered(walk, asked, wrong(asked))

        steps = [jnp.full(per_row, math.log(size)) for size in (self.sideways, self.ahead)]
        walk = _Walk(image, *steps, jnp.zeros(per_row, bool))
        return jax.lax.fori_loop(self._before, self.queries, ask, walk).image

    @property
    def cost(self) -> Cost:
        """Queries for one image, at most."""
        return Cost(queries=self.queries)

    @property
    def _before(self) -> int:
        """The queries before the walk: x itself, noise, and from there to the boundary."""
        return 1 + self.tries + _HALVINGS

    def _answered(self, walk: _Walk, asked: Array, wrong: Array) -> _Walk:
        """Goes where the image stays misclassified, and adapts the size of the step that was tried."""
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
    distance = _length(delta)
    noise -= delta * jnp.sum(noise * delta, (1, 2, 3), keepdims=True) / jnp.maximum(distance**2, 1e-24)
    noise *= step * distance / _length(noise)
    return jnp.clip(x + (delta + noise) / jnp.sqrt(1 + step**2), 0.0, 1.0)


def _length(delta: Array) -> Array:
    return jnp.sqrt(jnp.sum(jnp.square(delta), (1, 2, 3), keepdims=True))
