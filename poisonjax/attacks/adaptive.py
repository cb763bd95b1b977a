"""Networks as an attacker who knows the defence sees them (Athalye et al. 2018; Tramer et al. 2020)."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from poisonjax.attacks.balls import Ball
from poisonjax.attacks.base import Attack
from poisonjax.attacks.settings import check_instance
from poisonjax.types import Array, Cost, LogitsFn

Transform = Callable[[Array], Array]  # images [b ...] -> images


def identity(x: Array) -> Array:
    """The image itself: stands in for a transform that changes it little."""
    return x


def bpda(transform: Transform, logits_fn: LogitsFn, backward: Transform = identity) -> LogitsFn:
    """logits_fn after transform, with the gradient of backward for the transform (Athalye et al. 2018, section 4.1.2).

    backward: differentiable and close to transform, which needs no gradient. ValueError if their shapes differ.
    """

    def through(x: Array) -> Array:
        shown, close = jax.lax.stop_gradient(transform(jax.lax.stop_gradient(x))), backward(x)
        if shown.shape != close.shape:
            raise ValueError(f"backward must give images of shape {shown.shape} as transform does, got {close.shape}")
        return logits_fn(shown + (close - jax.lax.stop_gradient(close)))  # the second term is 0 and has the gradient

    return through


def eot(stochastic_logits_fn: Callable[[Array, Array], Array], key: Array, samples: int) -> LogitsFn:
    """The mean of a network's random logits, for the gradient of their expectation (Athalye et al. 2018, section 4.2).

    stochastic_logits_fn: (images [b ...], key) -> logits [b k]. samples: draws, the same ones at every call, so that
    it takes enough of them. Athalye et al. average the draws' losses, which an attack cannot see; the cross-entropy of
    the mean logits is a lower bound on that. The memory does not grow with the draws. ValueError below one draw.
    """
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")

    def mean(x: Array) -> Array:
        draw = jax.checkpoint(lambda i: stochastic_logits_fn(x, jax.random.fold_in(key, i)))
        return jnp.mean(jax.lax.map(draw, jnp.arange(samples)), 0)

    return mean


def transfer(surrogate_logits_fn: LogitsFn, attack: Attack) -> Attack:
    """The attack on the attacker's own network, whichever network it is given (Papernot et al. 2017, section 4)."""
    return _Transfer(surrogate_logits_fn, attack)


@dataclasses.dataclass(frozen=True)
class _Transfer(Attack):
    surrogate_logits_fn: LogitsFn
    attack: Attack

    def __post_init__(self):
        check_instance(self, "attack", Attack, example="PGD(Linf(8/255))")

    def __call__(self, logits_fn: LogitsFn, x: Array, y: Array, key: Array) -> Array:
        return self.attack(self.surrogate_logits_fn, x, y, key)

    @property
    def cost(self) -> Cost:
        """For one image, on the surrogate; nothing is spent on the victim."""
        return self.attack.cost

    @property
    def ball(self) -> Ball | None:
        """The ball of the attack."""
        return self.attack.ball

    @property
    def climbs(self) -> bool:
        """False: it follows the gradient of another network."""
        return False

    @property
    def single_step(self) -> bool:
        """False: it follows the gradient of another network."""
        return False
