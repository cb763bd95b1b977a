"""Square Attack: a random search that needs no gradients (Andriushchenko et al. 2020)."""

import dataclasses
import functools
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from poisonjax.attacks.balls import L2, Ball, Linf, project
from poisonjax.attacks.base import Attack
from poisonjax.attacks.blocks import on_active_rows, where_rows
from poisonjax.attacks.checks import check_inputs
from poisonjax.attacks.losses import Margin
from poisonjax.attacks.rows import fold_in
from poisonjax.attacks.settings import check_counts, check_instance, check_numbers
from poisonjax.types import Array, Cost, LogitsFn

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of the squares' area, after that many squares
_CHUNK = 50  # queries after which the rows that are left are gathered


class _Best(NamedTuple):
    """The best image a row so far [b h w c], its margin [b], and whether it is misclassified [b]."""

    x: Array
    margin: Array
    wrong: Array


@dataclasses.dataclass(frozen=True)
class Square(Attack):
    """Changes the image in random squares and keeps what raises the margin (section 3, algorithms 1 to 3).

    ball: Linf or L2. queries: how many images it tries. p_init: the first squares' share of the area, which is
    halved after 10, 50, 200, 500, 1,000, 2,000, 4,000, 6,000 and 8,000 squares; as in AutoAttack, whatever `queries`
    is. ValueError for an impossible setting.
    """

    ball: Ball
    queries: int = 5000
    p_init: float = 0.8

    needs_images: ClassVar[bool] = True

    def __post_init__(self):
        check_instance(self, "ball", Linf, L2, example="Linf(8/255)")
        check_counts(self, "queries")
        check_numbers(self, "p_init")
        if not 0 < self.p_init <= 1:
            raise ValueError(f"p_init is a share of the area and must lie in (0, 1], got {self.p_init}")

    def __call__(self, logits_fn: LogitsFn, x: Array, y: Array, key: Array) -> Array:
        """x [b h w c] in [0, 1], y [b], one key or one per row -> x_adv [b h w c] in the ball and in [0, 1].

        The first misclassified image, which may be x itself; where there is none, that of the largest margin.
        """
        x, y, keys = check_inputs(x, y, key, spatial=True)

        def chunk(state: tuple[Array, _Best]) -> tuple[Array, _Best]:
            i, best = state
            end = jnp.minimum(i + _CHUNK, self.queries + 1)
            tried = functools.partial(self._tried, logits_fn, i=i, end=end)
            return end, on_active_rows(tried, (x, y, keys), best, ~best.wrong)

        def going(state: tuple[Array, _Best]) -> Array:
            return (state[0] <= self.queries) & ~jnp.all(state[1].wrong)

        begin = _Best(x, jnp.full(len(x), -jnp.inf), jnp.zeros(len(x), bool))
        return jax.lax.while_loop(going, chunk, (0, begin))[1].x

    def _tried(self, logits_fn: LogitsFn, rows: tuple[Array, Array, Array], best: _Best, i: Array, end: Array) -> _Best:
        """The best images after the queries from i on, up to end."""
        x, y, keys = rows
        candidate = self._candidates(x, keys)

        def query(state: tuple[Array, _Best]) -> tuple[Array, _Best]:
            i, best = state
            image = candidate(i, best.x)
            logits = logits_fn(image)
            tried = _Best(image, Margin()(logits, y), jnp.argmax(logits, -1) != y)
            better = ~best.wrong & (tried.wrong | (tried.margin > best.margin) | (i == 1))
            return i + 1, where_rows(better, tried, best)

        def going(state: tuple[Array, _Best]) -> Array:
            return (state[0] < end) & ~jnp.all(state[1].wrong)

        return jax.lax.while_loop(going, query, (i, best))[1]

    @property
    def cost(self) -> Cost:
        """For one image, at most: the images that it tries, and x itself."""
        return Cost(queries=self.queries + 1)

    def _candidates(self, x: Array, keys: Array):
        """(number of the query, best images so far) -> what to try next: x, then a random start, then squares."""
        start, change = (_stripes, _recoloured) if isinstance(self.ball, Linf) else (_tiles, _bumped)
        eps = self.ball.eps
        begin = project(self.ball, x, jax.vmap(start, (0, 0, None))(keys, x, eps), eps)

        def candidate(i: Array, best: Array) -> Array:
            now, side = fold_in(keys, i), self._side(i - 2, x.shape[1:3])
            changed = jax.vmap(change, (0, 0, 0, None, None))(now, x, best, eps, side)
            return jnp.where(i == 0, x, jnp.where(i == 1, begin, project(self.ball, x, changed, eps)))

        return candidate

    def _side(self, squares: Array, shape: tuple[int, int]) -> Array:
        """The side of the next square, after so many; odd and at least 3 in L2, where one has two halves."""
        share = self.p_init / 2.0 ** jnp.sum(squares > jnp.array(_HALVINGS))
        side = jnp.round(jnp.sqrt(share * shape[0] * shape[1])).astype(jnp.int32)
        side = jnp.maximum(side, 1) if isinstance(self.ball, Linf) else jnp.maximum(side, 3) // 2 * 2 + 1
        return jnp.minimum(side, min(shape))


def _stripes(key: Array, x: Array, eps: float) -> Array:
    """x [h w c] with each column moved by eps, up or down in each channel (section 3.3)."""
    return x + eps * jax.random.rademacher(key, (1, *x.shape[1:]), x.dtype)


def _recoloured(key: Array, x: Array, best: Array, eps: float, side: Array) -> Array:
    """best [h w c] with a square of x moved by eps, up or down in each channel (algorithm 2)."""
    place, colour = jax.random.split(key)
    square = _within(*_window(place, x.shape, side), side, side)
    return jnp.where(square[..., None], x + eps * jax.random.rademacher(colour, x.shape[2:], x.dtype), best)


def _tiles(key: Array, x: Array, eps: float) -> Array:
    """x [h w c] with a change of length eps, a grid of bumps (section 3.4)."""
    side = max(min(x.shape[:2]) // 5, 1)
    (tile_row, row), (tile_column, column) = (_tiling(size, side) for size in x.shape[:2])
    tiles, at = (tile_row[-1] + 1, tile_column[-1] + 1), (tile_row[:, None], tile_column[None])
    turn, colour = jax.random.split(key)
    turned = jax.random.bernoulli(turn, shape=tiles)[at]
    sign = jax.random.rademacher(colour, (*tiles, x.shape[2]), x.dtype)[at]
    return x + eps * _unit(sign * _bump(row[:, None], column[None], side, turned)[..., None])


def _tiling(size: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """For each pixel of an axis, its tile and its place there, which is -1 at the edges that no tile covers."""
    count = size // side
    at = np.arange(size) - (size - count * side) // 2
    return np.clip(at // side, 0, count - 1), np.where((at >= 0) & (at < count * side), at % side, -1)


def _bumped(key: Array, x: Array, best: Array, eps: float, side: Array) -> Array:
    """best [h w c] with a bump added in one square, at the expense of the change in another (algorithm 3)."""
    place, other, turn, colour = jax.random.split(key, 4)
    row, column = _window(place, x.shape, side)
    here, there = (_within(*at, side, side)[..., None] for at in ((row, column), _window(other, x.shape, side)))
    delta = best - x
    unused = jnp.maximum(eps**2 - jnp.sum(jnp.square(delta)), 0.0) / x.shape[2]
    length = jnp.sqrt(unused + jnp.sum(jnp.square(delta * (here | there)), (0, 1)))
    bump = _bump(row, column, side, jax.random.bernoulli(turn))[..., None]
    mixed = bump * jax.random.rademacher(colour, x.shape[2:], x.dtype) + _unit(delta * here, (0, 1))
    return x + eps * _unit(jnp.where(here, length * _unit(mixed, (0, 1)), jnp.where(there, 0.0, delta)))


def _bump(row: Array, column: Array, side: Array, turned: Array) -> Array:
    """A hill and a hole of length 1, side by side in a square (equation 2): its values at row and column, or 0 outside.

    turned: one above the other. row, column: whole numbers, of shapes that broadcast.
    """
    row, column = jnp.where(turned, column, row), jnp.where(turned, row, column)
    half = side // 2
    return _unit(_hill(row, column, half, side) - _hill(row - half, column, side - half, side))


def _hill(row: Array, column: Array, height: Array, width: Array) -> Array:
    """A hill of length 1 that falls in steps of 1 / k^2 from the middle of a rectangle that is not higher than wide."""
    steps = jnp.cumsum(1 / jnp.arange(1, max(row.shape) + 2.0) ** 2)
    ring = jnp.maximum(jnp.abs(row - height // 2), jnp.abs(column - width // 2))
    hill = steps[width // 2] - jnp.where(ring > 0, steps[jnp.minimum(ring, width // 2 + 1) - 1], 0.0)
    return _unit(jnp.where(_within(row, column, height, width), hill, 0.0))


def _window(key: Array, shape: tuple[int, ...], side: Array) -> tuple[Array, Array]:
    """The rows [h 1] and columns [1 w] of an image, counted from the corner of a random square within it."""
    corner = jax.random.randint(key, (2,), 0, jnp.array(shape[:2]) - side + 1)
    return jnp.arange(shape[0])[:, None] - corner[0], jnp.arange(shape[1])[None] - corner[1]


def _within(row: Array, column: Array, height: Array, width: Array) -> Array:
    return (row >= 0) & (row < height) & (column >= 0) & (column < width)


def _unit(values: Array, axis: tuple[int, ...] | None = None) -> Array:
    """Values scaled to length 1 along the axes; zeros stay."""
    return values / jnp.maximum(jnp.sqrt(jnp.sum(jnp.square(values), axis, keepdims=True)), 1e-12)
