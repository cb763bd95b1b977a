"""Networks as an attacker who knows the defence sees them (Athalye et al. 2018; Tramer et al. 2020)."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from poisonjax.attacks.balls import Ball
from poisonjax.attacks.base import Attack
from poisonjax.attacks.patch import Patch
from poisonjax.attacks.settings import check_instance, check_positive
from poisonjax.types import Array, Cost, LogitsFn

Transform = Callable[[Array], Array]  # images [b ...] -> images
Suspicion = Callable[[Array], Array]  # images [b ...] -> [b], the higher the more suspicious


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


@dataclasses.dataclass(frozen=True)
class _Wrapped(Attack):
    """An attack on another network than the one that it is given."""

    attack: Attack

    def __post_init__(self):
        check_instance(self, "attack", Attack, example="PGD(Linf(8/255))")

    @property
    def cost(self) -> Cost:
        """For one image, on the network that is attacked, with its detector if it has one."""
        return self.attack.cost

    @property
    def ball(self) -> Ball | None:
        """The ball of the attack."""
        return self.attack.ball

    @property
    def climbs(self) -> bool:
        """As the attack."""
        return self.attack.climbs

    @property
    def single_step(self) -> bool:
        """As the attack."""
        return self.attack.single_step


def with_rejection(logits_fn: LogitsFn, suspicion: Suspicion, threshold: float, unit: float = 1.0) -> LogitsFn:
    """The logits and that of being rejected as one more class: images [b ...] -> [b k+1].

    Its logit is the largest one plus, for every `unit` of suspicion above the threshold, the range of the logits: it is
    the largest where a detector rejects, and only there (Carlini & Wagner 2017, detectors, section 3; the paper's
    (D(x) + 1) max Z(x) equals it for logits whose lowest is 0, and fails where all are negative). A targeted attack on
    it ends in the target and past the detector.

    suspicion, threshold: of a `Victim`; differentiable. unit: a change of suspicion that matters, above 0; 1 suits
    detectors that tell multiples of their threshold.
    """

    def extended(x: Array) -> Array:
        logits, excess = logits_fn(x), (suspicion(x) - threshold) / unit
        largest = jnp.max(logits, -1)
        rejected = largest + excess * (largest - jnp.min(logits, -1))
        return jnp.concatenate([logits, rejected[:, None]], -1)

    return extended


def evade(suspicion: Suspicion, threshold: float, attack: Attack, unit: float = 1.0) -> Attack:
    """The attack, for which an image that a detector rejects is a failure, on whichever network it is given.

    A targeted attack (one whose `targeted` is true) sees the logits `with_rejection`. For any other, "rejected" would
    be one more wrong class: it sees the logits of the k classes, that of the label being at least that of "rejected".
    An attack that asks for several images of a row at once must have them next to each other, as the decision-based
    ones do. ValueError for the universal `Patch`, whose images are not those of the labels, and unless unit is above 0.
    """
    return _Evade(attack, suspicion, float(threshold), unit)  # an array has no hash, by which programs are cached


@dataclasses.dataclass(frozen=True)
class _Evade(_Wrapped):
    suspicion: Suspicion
    threshold: float
    unit: float

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "unit")
        if isinstance(self.attack, Patch):
            raise ValueError("attack must treat each image on its own, as PatchAttack(7), got Patch")

    def __call__(self, logits_fn: LogitsFn, x: Array, y: Array, key: Array) -> Array:
        seen = with_rejection(logits_fn, self.suspicion, self.threshold, self.unit)
        if not getattr(self.attack, "targeted", False):
            seen = _as_labelled(seen, jnp.asarray(y))
        return self.attack(seen, x, y, key)


def _as_labelled(extended: LogitsFn, y: Array) -> LogitsFn:
    """Logits [b k] in which the logit of the label y [b] is at least that of being rejected."""

    def folded(x: Array) -> Array:
        seen = extended(x)
        logits, rejected = seen[:, :-1], seen[:, -1:]
        own = jax.nn.one_hot(jnp.repeat(y, len(x) // len(y)), logits.shape[-1], dtype=bool)
        return jnp.where(own, jnp.maximum(logits, rejected), logits)

    return folded


def scaled(logits_fn: LogitsFn, temperature: float) -> LogitsFn:
    """logits_fn divided by a temperature, for a loss whose softmax saturates (Carlini & Wagner 2017, section VIII).

    The classes stay as they are. In float32 the gradient of the cross-entropy is 0 once the logits are about 100 apart;
    the temperature that a defence was trained at brings them back. Losses that no scale changes, as `DLR`, need none of
    it. ValueError for a temperature that is not above 0.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    return lambda x: logits_fn(x) / temperature


def transfer(surrogate_logits_fn: LogitsFn, attack: Attack) -> Attack:
    """The attack on the attacker's own network, whichever network it is given (Papernot et al. 2017, section 4)."""
    return _Transfer(attack, surrogate_logits_fn)


@dataclasses.dataclass(frozen=True)
class _Transfer(_Wrapped):
    surrogate_logits_fn: LogitsFn

    def __call__(self, logits_fn: LogitsFn, x: Array, y: Array, key: Array) -> Array:
        return self.attack(self.surrogate_logits_fn, x, y, key)

    @property
    def climbs(self) -> bool:
        """False: it follows the gradient of another network."""
        return False

    @property
    def single_step(self) -> bool:
        """False: it follows the gradient of another network."""
        return False
