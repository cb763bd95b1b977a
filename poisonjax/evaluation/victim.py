"""The network under test: logits, features and, behind a defence, a rejection."""

import dataclasses
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.tree_util import Partial

from poisonjax.runtime import distributed
from poisonjax.training import TrainState, eval_variables
from poisonjax.types import Array, Examples, LogitsFn, to_unit

REJECTED = -1  # the class predicted for an image that the victim refuses


class Victim(NamedTuple):
    """A network under test, as a pytree: its weights are leaves, so one compiled program serves all weights.

    outputs: images [b ...] in [0, 1] -> (logits [b k], features [b d] or None). suspicion: images -> [b], the higher
    the more suspicious; None rejects nothing. threshold: an image with more suspicion than this is rejected.
    Functions are `jax.tree_util.Partial`, whose arguments hold the arrays.
    """

    outputs: Partial
    suspicion: Partial | None = None
    threshold: Array | float | None = None

    def logits(self, x: Array) -> Array:
        """Images [b ...] in [0, 1] -> logits [b k]."""
        return self.outputs(x)[0]

    def features(self, x: Array) -> Array:
        """Images [b ...] in [0, 1] -> activations before the last layer [b d]. ValueError if they are unknown."""
        features = self.outputs(x)[1]
        if features is None:
            raise ValueError("this network has no features; give a victim whose outputs are (logits, features)")
        return features

    def classify(self, x: Array, logits: Array) -> Array:
        """The classes predicted for images [b ...] whose logits [b k] are given: [b] int32, REJECTED if refused."""
        classes = jnp.argmax(logits, -1).astype(jnp.int32)
        if self.suspicion is None:
            return classes
        return jnp.where(self.suspicion(x) > self.threshold, REJECTED, classes)


@dataclasses.dataclass(frozen=True)
class _Network:
    """A Flax model in evaluation mode; equal models share compiled programs."""

    model: nn.Module

    def __call__(self, params: Any, batch_stats: Any, x: Array) -> tuple[Array, Array]:
        return self.model.apply(eval_variables(self.model, params, batch_stats), x)


@dataclasses.dataclass(frozen=True)
class _LogitsOnly:
    """A plain function of images as the outputs of a victim."""

    logits_fn: LogitsFn

    def __call__(self, x: Array) -> tuple[Array, None]:
        return self.logits_fn(x), None


def network_victim(model: nn.Module, state: TrainState) -> Victim:
    """A trained network in evaluation mode."""
    return Victim(Partial(_Network(model), state.params, state.batch_stats))


def weights(victim: Victim) -> tuple[Any, Any]:
    """The (params, batch_stats) of a victim from `network_victim`. ValueError for any other function."""
    if not isinstance(victim.outputs.func, _Network):
        raise ValueError("only a network that was trained here has weights to go on from; give its victim unwrapped")
    return victim.outputs.args


def function_victim(logits_fn: LogitsFn) -> Victim:
    """Any JAX function images [b ...] in [0, 1] -> logits [b k]."""
    return Victim(Partial(_LogitsOnly(logits_fn)))


def map_rows(fn: Callable, victim: Victim, examples: Examples, batch: int, *settings: Hashable, **options) -> Any:
    """Apply fn(victim, examples [b], *settings) -> tree [b ...] to examples [n], batch by batch: tree [n ...].

    victim: from `distributed.replicate`. fn: pure, traced by jax, and the same object at every call (no lambda), so
    that its compiled program is found again. The result is on the host. options: of `over_rows`, as advance.
    """
    return _mapped(structure(victim), fn, settings)(examples, batch, victim, **options)


@distributed.cached
def _mapped(victim: Hashable, fn: Callable, settings: tuple) -> Callable:
    return distributed.over_rows(lambda examples, victim: fn(victim, examples, *settings))


def row_outputs(victim: Victim, examples: Examples) -> tuple[Array, Array | None]:
    """Logits [b k] and features [b d] of each row, for `map_rows`."""
    return victim.outputs(to_unit(examples.image))


def row_suspicions(victim: Victim, examples: Examples) -> Array:
    """The suspicion of each row [b], for `map_rows`."""
    return victim.suspicion(to_unit(examples.image))


def structure(victim: Victim) -> Hashable:
    """All of a victim but its arrays, hashable: what compiled programs are cached by."""
    return jax.tree.structure(victim)
