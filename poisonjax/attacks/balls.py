"""Threat models: the set of images an attacker may reach, and the moves inside it."""

import dataclasses

import jax
import jax.numpy as jnp

from poisonjax.types import Array


def _per_row(values: Array, like: Array) -> Array:
    """[b] -> [b 1 1 1], to broadcast over the pixels of `like`."""
    return values.reshape((-1,) + (1,) * (like.ndim - 1))


def _norm(delta: Array) -> Array:
    """Euclidean length of each row of [b ...], [b]; its gradient is never taken."""
    return jnp.sqrt(jnp.sum(jnp.square(delta), axis=tuple(range(1, delta.ndim))))


@dataclasses.dataclass(frozen=True)
class Linf:
    """Every pixel moves by at most eps, for images in [0, 1]. ValueError unless 0 <= eps <= 1."""

    eps: float

    def __post_init__(self):
        if not 0 <= self.eps <= 1:
            raise ValueError(f"eps must lie in [0, 1] for images in [0, 1] (8/255 is 0.0314), got {self.eps}")

    def project(self, delta: Array, radius: Array) -> Array:
        """The nearest delta [b h w c] of length at most radius."""
        return jnp.clip(delta, -radius, radius)

    def steepest(self, gradient: Array) -> Array:
        """The move of length one along which the loss rises fastest, [b h w c]."""
        return jnp.sign(gradient)

    def sample(self, keys: Array, shape: tuple[int, ...]) -> Array:
        """One uniform draw a key from the ball of radius one: [b *shape]."""
        return jax.vmap(lambda key: jax.random.uniform(key, shape, minval=-1.0, maxval=1.0))(keys)

    def largest(self, shape: tuple[int, ...]) -> float:
        """The radius beyond which every image [h w c] is reachable."""
        return 1.0


@dataclasses.dataclass(frozen=True)
class L2:
    """The Euclidean length of the change, summed over all pixels, is at most eps. ValueError if negative."""

    eps: float

    def __post_init__(self):
        if not self.eps >= 0:
            raise ValueError(f"eps must be a number that is not negative, got {self.eps}")

    def project(self, delta: Array, radius: Array) -> Array:
        """The nearest delta [b h w c] of length at most radius."""
        return delta * _per_row(jnp.minimum(1.0, radius / jnp.maximum(_norm(delta), 1e-12)), delta)

    def steepest(self, gradient: Array) -> Array:
        """The move of length one along which the loss rises fastest, [b h w c]; zero where flat."""
        largest = jnp.max(jnp.abs(gradient), axis=tuple(range(1, gradient.ndim)), keepdims=True)
        scaled = gradient / jnp.where(largest > 0, largest, 1.0)  # squares of tiny gradients would underflow
        return scaled / _per_row(jnp.maximum(_norm(scaled), 1.0), gradient)

    def sample(self, keys: Array, shape: tuple[int, ...]) -> Array:
        """One uniform draw a key from the ball of radius one: [b *shape]."""

        def one(key):
            direction, radius = jax.random.split(key)
            normal = jax.random.normal(direction, shape)
            return normal / jnp.linalg.norm(normal) * jax.random.uniform(radius) ** (1 / normal.size)

        return jax.vmap(one)(keys)

    def largest(self, shape: tuple[int, ...]) -> float:
        """The radius beyond which every image [h w c] is reachable."""
        height, width, channels = shape
        return (height * width * channels) ** 0.5


Ball = Linf | L2


def inside(ball: Ball, x: Array, x_adv: Array, radius: Array) -> Array:
    """x_adv [b h w c] moved into the ball around x and into [0, 1]: the one enforced projection.

    Clipping comes last: x lies in [0, 1], so clipping only brings every pixel nearer to it.
    """
    return jnp.clip(x + ball.project(x_adv - x, radius), 0.0, 1.0)
