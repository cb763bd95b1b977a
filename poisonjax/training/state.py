"""The state of a training, and its network in evaluation mode."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from poisonjax.models.folding import folded
from poisonjax.models.network import Network
from poisonjax.types import Array, LogitsFn


class TrainState(NamedTuple):
    """Weights and optimiser state.

    step: updates so far, int32. params, batch_stats: the network's variables. opt_state: optax's. perturbation: of an
    objective that carries one, [b ...] for the places of a batch, or this device's part of them; () for any other.
    """

    step: Array
    params: Any
    batch_stats: Any
    opt_state: Any
    perturbation: Any = ()


def initial_state(model: nn.Module, tx: optax.GradientTransformation, image: Array, key: Array) -> TrainState:
    """State of a new network for images [h w c]."""
    variables = jax.jit(model.init)(key, jnp.zeros((1, *image.shape), jnp.float32))
    params = variables["params"]
    return TrainState(jnp.int32(0), params, variables.get("batch_stats", {}), tx.init(params))


def eval_variables(model: nn.Module, params: Any, batch_stats: Any) -> dict:
    """Variables of the network in evaluation mode, with batch norms folded into convolutions if possible.

    Call it inside a compiled program, whose compiler drops the constants of the folded batch norms.
    """
    if isinstance(model, Network) and model.can_fold_batch_norm:
        params, batch_stats = folded(params, batch_stats)
    return {"params": params, "batch_stats": batch_stats}


def eval_logits(model: nn.Module, state: TrainState) -> LogitsFn:
    """Logits function of the network in evaluation mode; attacks see nothing else."""
    variables = eval_variables(model, state.params, state.batch_stats)
    return lambda x: model.apply(variables, x)[0]
