"""Flax layers of the networks: convolution, batch norm and dropout."""

import zlib
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from poisonjax.models.ops import conv, depthwise_conv
from poisonjax.runtime import distributed
from poisonjax.types import Array


class Conv(nn.Module):
    """nn.Conv for images [b h w c], with the same parameters and initialisers, computed by `conv` in `dtype`.

    feature_group_count: 1, or the number of channels for a `depthwise_conv` with as many features; else
    ValueError.
    """

    features: int
    kernel_size: tuple[int, int] = (3, 3)
    strides: int | tuple[int, int] = 1
    padding: str | Sequence = "SAME"
    use_bias: bool = True
    feature_group_count: int = 1
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        channels, groups = x.shape[-1], self.feature_group_count
        if groups != 1 and not groups == channels == self.features:
            raise ValueError(
                f"feature_group_count must be 1, or {channels} (the channels) with {channels} features, got {groups} "
                f"with {self.features} features"
            )
        kernel = self.param(
            "kernel", nn.initializers.lecun_normal(), (*self.kernel_size, channels // groups, self.features)
        )
        compute = conv if groups == 1 else depthwise_conv
        y = compute(x.astype(self.dtype), kernel.astype(self.dtype), self.strides, self.padding)
        if not self.use_bias:
            return y
        return y + self.param("bias", nn.initializers.zeros_init(), (self.features,)).astype(self.dtype)


def batch_norm(x: Array, train: bool, dtype: str = "float32", sync: bool = True) -> Array:
    """flax's BatchNorm inside a compact module (Ioffe & Szegedy 2015, algorithm 1), with momentum 0.9.

    x [b ... c] -> the same shape, in `dtype`. In training, mean and variance are over the rows of all devices, or,
    without `sync`, of each device, which costs no all-reduce.
    """
    axis = distributed.axis() if train and sync else None
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, dtype=dtype, axis_name=axis)(x)


class Dropout(nn.Module):
    """Dropout with a key for each row: the fraction `rate` of its values becomes 0, the rest is scaled up.

    The noise of a row depends only on its key and on this layer's path in the network, not on the other rows or on
    devices. ValueError unless 0 <= rate < 1.
    """

    rate: float

    @nn.compact
    def __call__(self, x: Array, keys: Array | None) -> Array:
        """Apply to x [b ...] with keys [b], one per row; None leaves x unchanged, for evaluation."""
        if not 0 <= self.rate < 1:
            raise ValueError(f"dropout rate must lie in [0, 1), got {self.rate}")
        if keys is None:
            return x
        keys = jax.vmap(jax.random.fold_in, (0, None))(keys, zlib.crc32("/".join(self.path).encode()))
        kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - self.rate, x.shape[1:]))(keys)
        return jnp.where(kept, x / (1 - self.rate), 0)
