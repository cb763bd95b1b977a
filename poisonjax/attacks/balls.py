"""Threat models: the sets of images, or rows of features, an attacker may reach, and the moves inside them."""

import abc
import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from poisonjax.attacks.rows import axes, full, l2, per_row, pixels, total
from poisonjax.attacks.settings import check_numbers
from poisonjax.types import Array


class Ball(abc.ABC):
    """A threat model: the changes delta [b ...] of images that an attacker may make. A new one is a frozen dataclass.

    eps: its radius, in its own norm. sparse: True if a move changes few pixels, so that it must pass over those that
    cannot move. additive: True if a move of length s makes the change longer by at most s.
    """

    eps: float
    sparse: ClassVar[bool] = False
    additive: ClassVar[bool] = True

    @abc.abstractmethod
    def project(self, delta: Array, radius: Array) -> Array:
        """The nearest delta [b ...] of length at most radius."""

    @abc.abstractmethod
    def steepest(self, gradient: Array) -> Array:
        """The move of length one along which the loss rises fastest, [b ...]; zero where the gradient is."""

    @abc.abstractmethod
    def sample(self, keys: Array, shape: tuple[int, ...]) -> Array:
        """One random change in the ball of radius one per key: [b *shape]."""

    @abc.abstractmethod
    def max_radius(self, shape: tuple[int, ...]) -> float:
        """The radius at which every image of this shape is reachable from every other."""

    def usual_step(self, steps: int) -> float:
        """The usual length of one of so many moves: 2.5 eps / steps, which reaches the edge from any start.

        Madry et al. 2018, section 5. ValueError if there is no usual one.
        """
        return 2.5 * self.eps / steps


@dataclasses.dataclass(frozen=True)
class Linf(Ball):
    """Every pixel moves by at most eps, for images in [0, 1]. ValueError unless 0 <= eps <= 1."""

    eps: float

    def __post_init__(self):
        check_numbers(self, "eps")
        if not 0 <= self.eps <= 1:
            raise ValueError(f"eps must lie in [0, 1] for images in [0, 1] (8/255 is 0.0314), got {self.eps}")

    def project(self, delta: Array, radius: Array) -> Array:
        """The nearest delta [b ...] of length at most radius."""
        return jnp.clip(delta, -radius, radius)

    def steepest(self, gradient: Array) -> Array:
        """The move of length one along which the loss rises fastest, [b ...]."""
        return jnp.sign(gradient)

    def sample(self, keys: Array, shape: tuple[int, ...]) -> Array:
        """One uniform draw a key from the ball of radius one: [b *shape]."""
        return jax.vmap(lambda key: jax.random.uniform(key, shape, minval=-1.0, maxval=1.0))(keys)

    def max_radius(self, shape: tuple[int, ...]) -> float:
        """The radius beyond which every image [h w c] is reachable."""
        return 1.0


@dataclasses.dataclass(frozen=True)
class L2(Ball):
    """The Euclidean length of the change, summed over all pixels, is at most eps. ValueError if negative."""

    eps: float

    def __post_init__(self):
        check_numbers(self, "eps")
        if not self.eps >= 0:
            raise ValueError(f"eps must be a number that is not negative, got {self.eps}")

    def project(self, delta: Array, radius: Array) -> Array:
        """The nearest delta [b ...] of length at most radius."""
        return delta * per_row(jnp.minimum(1.0, radius / jnp.maximum(l2(delta), 1e-12)), delta)

    def steepest(self, gradient: Array) -> Array:
        """The move of length one along which the loss rises fastest, [b ...]; zero where flat."""
        largest = jnp.max(jnp.abs(gradient), axis=axes(gradient), keepdims=True)
        scaled = gradient / jnp.where(largest > 0, largest, 1.0)  # squares of tiny gradients would underflow
        return scaled / per_row(jnp.maximum(l2(scaled), 1.0), gradient)

    def sample(self, keys: Array, shape: tuple[int, ...]) -> Array:
        """One uniform draw a key from the ball of radius one: [b *shape]."""

        def one(key):
            direction, radius = jax.random.split(key)
            normal = jax.random.normal(direction, shape)
            return normal / jnp.linalg.norm(normal) * jax.random.uniform(radius) ** (1 / normal.size)

        return jax.vmap(one)(keys)

    def max_radius(self, shape: tuple[int, ...]) -> float:
        """The radius beyond which every image [h w c] is reachable."""
        return math.prod(shape) ** 0.5


@dataclasses.dataclass(frozen=True)
class L1(Ball):
    """The absolute changes, summed over all pixels, are at most eps.

    share: of the coordinates, how many one move changes (Tramer & Boneh 2019, algorithm 1: SLIDE). ValueError for a
    negative eps or an impossible share.
    """

    eps: float
    share: float = 0.01

    sparse: ClassVar[bool] = True

    def __post_init__(self):
        check_numbers(self, "eps", "share")
        if not self.eps >= 0:
            raise ValueError(f"eps must be a number that is not negative, got {self.eps}")
        if not 0 < self.share <= 1:
            raise ValueError(f"share is a fraction and must lie in (0, 1], got {self.share}")

    def project(self, delta: Array, radius: Array) -> Array:
        """The nearest delta [b ...] of length at most radius: all sizes are cut by the same (Duchi et al. 2008).

        Their total is convex and piecewise linear in the cut, so Newton's method from 0 ends at the right one.
        """
        size = jnp.abs(delta)

        def newton(state: tuple[Array, Array]) -> tuple[Array, Array]:
            cut, _ = state
            kept = size > cut
            over = total(jnp.where(kept, size, 0.0)) - radius
            return jnp.maximum(cut, over / jnp.maximum(total(kept), 1)), cut

        zero = full(0.0, delta)
        cut, _ = jax.lax.while_loop(lambda state: jnp.any(state[0] > state[1]), newton, (zero, zero - 1))
        left = jax.nn.relu(size - cut)
        length = total(left)
        return jnp.sign(delta) * left * jnp.minimum(1.0, radius / jnp.maximum(length, 1e-12))  # rounding errors too

    def steepest(self, gradient: Array) -> Array:
        """A move of length one along which the loss rises, shared equally by the largest slopes; zero where flat."""
        slope = jnp.abs(gradient).reshape(len(gradient), -1)
        movers = max(round(self.share * slope.shape[1]), 1)
        smallest = jax.lax.top_k(slope, movers)[0][:, -1]
        move = jnp.where(jnp.abs(gradient) >= per_row(smallest, gradient), jnp.sign(gradient), 0.0)
        return move / jnp.maximum(total(jnp.abs(move)), 1.0)

    def sample(self, keys: Array, shape: tuple[int, ...]) -> Array:
        """One uniform draw a key from the ball of radius one: [b *shape]."""

        def one(key):
            size, rest, sign = jax.random.split(key, 3)
            parts = jax.random.exponential(size, shape)
            return parts * jax.random.rademacher(sign, shape) / (jnp.sum(parts) + jax.random.exponential(rest))

        return jax.vmap(one)(keys)

    def max_radius(self, shape: tuple[int, ...]) -> float:
        """The radius beyond which every image [h w c] is reachable."""
        return float(math.prod(shape))


@dataclasses.dataclass(frozen=True)
class L0(Ball):
    """At most eps pixels change, each in any of its channels; of rows [b d], at most eps features.

    ValueError unless a whole number that is not negative.
    """

    eps: int

    sparse: ClassVar[bool] = True
    additive: ClassVar[bool] = False  # a move of any length can change every pixel

    def __post_init__(self):
        check_numbers(self, "eps")
        if not (self.eps >= 0 and self.eps % 1 == 0):
            raise ValueError(f"eps counts pixels and must be a whole number that is not negative, got {self.eps}")

    def project(self, delta: Array, radius: Array) -> Array:
        """The nearest delta [b ...] of at most radius pixels: those of largest change stay, the others are 0."""
        spread = delta.reshape(len(delta), *pixels(delta.shape[1:]))
        rank = jnp.argsort(jnp.argsort(jnp.sum(jnp.square(spread), -1), descending=True))  # no two pixels share a rank
        ranks = jnp.broadcast_to(rank[..., None], spread.shape).reshape(delta.shape)
        return jnp.where(ranks < jnp.floor(radius), delta, 0.0)

    def steepest(self, gradient: Array) -> Array:
        """The gradient at an L1 length of one, for want of a length of pixels (Croce & Hein 2019, section 4: PGD0)."""
        slope = total(jnp.abs(gradient))
        return gradient / jnp.where(slope > 0, slope, 1.0)

    def sample(self, keys: Array, shape: tuple[int, ...]) -> Array:
        """One draw a key, [b *shape]: times eps, a uniform change of eps random pixels by at most one a channel."""
        number, channels = pixels(shape)

        def one(key):
            place, value = jax.random.split(key)
            chosen = jnp.repeat(jax.random.permutation(place, number) < self.eps, channels).reshape(shape)
            change = jax.random.uniform(value, shape, minval=-1.0, maxval=1.0)
            return jnp.where(chosen, change / max(self.eps, 1), 0.0)

        return jax.vmap(one)(keys)

    def max_radius(self, shape: tuple[int, ...]) -> float:
        """The radius beyond which every image [h w c] is reachable."""
        return float(pixels(shape)[0])

    def usual_step(self, steps: int) -> float:
        """None is usual: always a ValueError."""
        raise ValueError("step must be given for L0, where none is usual; it is a length in L1")


def project(ball: Ball, x: Array, x_adv: Array, radius: Array) -> Array:
    """x_adv [b ...] moved into the ball around x and into [0, 1]: the one enforced projection.

    Clipping comes last: x lies in [0, 1], so clipping only brings every pixel nearer to it.
    """
    return jnp.clip(x + ball.project(x_adv - x, radius), 0.0, 1.0)


def ascent_direction(ball: Ball, x_adv: Array, gradient: Array) -> Array:
    """The steepest move of length one at x_adv [b ...] in [0, 1]; for L1 and L0, pixels already at 0 or 1 stay."""
    if ball.sparse:
        stuck = jnp.where(gradient > 0, x_adv >= 1, x_adv <= 0)
        gradient = jnp.where(stuck, 0.0, gradient)
    return ball.steepest(gradient)
