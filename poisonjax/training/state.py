"""What training changes, and the network as an attack sees it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from poisonjax.models.folding import folded
from poisonjax.models.network import Network
from poisonjax.types import Array, LogitsFn


class TrainState(NamedTuple):
    """step: updates made, int32. params, batch_stats: the network's variables. opt_state: optax's."""

    step: Array
    params: Any
    batch_stats: Any
    opt_state: Any


def initial_state(model: nn.Module, tx: optax.GradientTransformation, image: Array, key: Array) -> TrainState:
    """A new network for images [h w c]."""
    variables = jax.jit(model.init)(key, jnp.zeros((1, *image.shape), jnp.float32))
    params = variables["params"]
    return TrainState(jnp.int32(0), params, variables.get("batch_stats", {}), tx.init(params))


def eval_variables(model: nn.Module, params: Any, batch_stats: Any) -> dict:
    """What the network computes with in evaluation mode: its batch norms are folded where that is possible.

    To be called inside a compiled program, whose compiler drops what folding makes constant.
    """
    if isinstance(model, Network) and model.can_fold_batch_norm:
        params, batch_stats = folded(params, batch_stats)
    return {"params": params, "batch_stats": batch_stats}


def eval_logits(model: nn.Module, state: TrainState) -> LogitsFn:
    """The network in evaluation mode, which is all that an attack sees."""
    variables = eval_variables(model, state.params, state.batch_stats)
    return lambda x: model.apply(variables, x)[0]
