"""Fold batch norms into convolutions, for evaluation: the same network, in which attacks are faster."""

import jax.numpy as jnp
from flax import linen as nn
from jax import lax


def folded(params: dict, batch_stats: dict) -> tuple[dict, dict]:
    """Fold each BatchNorm_i into the bias-free Conv_i before it; returns params and batch_stats of the same network.

    In evaluation a batch norm multiplies each channel by one number and adds another. The first goes into the kernel;
    the other parameters of the batch norm become constants that the compiler folds away.
    """
    params, batch_stats = dict(params), dict(batch_stats)
    for name, stats in batch_stats.items():
        if not name.startswith("BatchNorm_"):
            params[name], batch_stats[name] = folded(params[name], stats)
            continue
        conv = name.replace("BatchNorm", "Conv")
        factor = params[name]["scale"] * lax.rsqrt(stats["var"] + nn.BatchNorm.epsilon)
        params[conv] = {"kernel": params[conv]["kernel"] * factor}
        params[name] = {"scale": jnp.ones_like(factor), "bias": params[name]["bias"] - stats["mean"] * factor}
        batch_stats[name] = {"mean": jnp.zeros_like(factor), "var": jnp.ones_like(factor) - nn.BatchNorm.epsilon}
    return params, batch_stats
