"""Batch norms in evaluation as part of the convolutions before them: attacks are faster, and see the same network."""

import jax.numpy as jnp
from flax import linen as nn
from jax import lax


def folded(params: dict, batch_stats: dict) -> tuple[dict, dict]:
    """Of a network in which every BatchNorm_i follows the Conv_i beside it, which has no bias -> the same network.

    In evaluation a batch norm multiplies each channel by one number and adds another. The kernel takes the first; the
    rest of what the batch norm is then given are constants, of which compilers make nothing.
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
