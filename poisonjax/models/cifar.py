"""Convolutional networks for images of 32 x 32 in [0, 1].

All are called as (x [b h w c], train, keys) -> (logits [b k], features [b d]), float32. Features are the activations
before the last layer; keys [b], one per row, are for dropout in training. Initialisers are flax's. MobileNet and
ResNet18 compute in `dtype`, float32 or bfloat16, with parameters and statistics in float32. Their batch statistics are,
with sync_batch_norm, those of all devices, so that results do not depend on the number of devices.
"""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.nn import relu

from poisonjax.models.layers import Conv, Dropout, batch_norm
from poisonjax.models.network import Network, Outputs
from poisonjax.models.ops import max_pool2
from poisonjax.types import Array

MEAN, STD = np.float32([0.4914, 0.4822, 0.4465]), np.float32([0.2470, 0.2435, 0.2616])


def normalised(x: Array) -> Array:
    """Normalise x [b h w c] in [0, 1] by the mean and standard deviation of CIFAR-10's training pixels: [b h w 3].

    A grey image is treated as three equal channels. ValueError unless c is 1 or 3.
    """
    if x.shape[-1] not in (1, 3):
        raise ValueError(f"images for a CIFAR-10 network must have 1 or 3 channels, got {x.shape[-1]}")
    return (x - MEAN) / STD


class ReportCifarCNN(Network):
    """The report's CNN for CIFAR-10, from Keras' cifar10_cnn example; it has no published normalisation."""

    width: int = 512
    classes: int = 10

    @nn.compact
    def __call__(self, x: Array, train: bool = False, keys: Array | None = None) -> Outputs:
        """Logits and features. ValueError when training without keys for dropout."""
        keys = self.noise_keys(train, keys)
        for features in (32, 64):
            x = relu(Conv(features, (3, 3))(x))
            x = relu(Conv(features, (3, 3), padding="VALID")(x))
            x = Dropout(0.25)(max_pool2(x), keys)
        features = relu(nn.Dense(self.width)(x.reshape(len(x), -1)))
        return nn.Dense(self.classes)(Dropout(0.5)(features, keys)), features


class MobileNet(Network):
    """MobileNet v1 (Howard et al. 2017, table 1), as in Keras: the last depthwise convolution has stride 1.

    The report used Keras' network unchanged for images of 32 x 32, so the strides are the published ones for
    224 x 224: after the last stride of 2 an image is a single pixel. ReLU is the paper's; Keras clips it at 6.
    alpha: factor on the number of features of every layer, rounded down; at least 1/32, below which a layer has no
    features. ValueError otherwise.
    """

    alpha: float = 1.0
    classes: int = 10
    dtype: str = "float32"
    sync_batch_norm: bool = True

    can_fold_batch_norm = True
    LAYERS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))

    def __post_init__(self):
        if not self.alpha >= 1 / 32:
            raise ValueError(f"alpha must be at least 1/32, got {self.alpha}")
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Array, train: bool = False, keys: Array | None = None) -> Outputs:
        norm = partial(batch_norm, train=train, dtype=self.dtype, sync=self.sync_batch_norm)

        def layer(x, features, kernel, stride=1, groups=1):
            options = {"use_bias": False, "feature_group_count": groups, "dtype": self.dtype}
            return relu(norm(Conv(features, kernel, stride, **options)(x)))

        x = layer(normalised(x), int(32 * self.alpha), (3, 3), 2)
        for features, stride in self.LAYERS:
            x = layer(x, x.shape[-1], (3, 3), stride, groups=x.shape[-1])
            x = layer(x, int(features * self.alpha), (1, 1))
        features = x.mean((1, 2), dtype=jnp.float32)
        return nn.Dense(self.classes)(features), features


class _Block(nn.Module):
    """Two convolutions of 3 x 3 and a shortcut, which is a projection where the size changes."""

    features: int
    stride: int
    dtype: str
    sync_batch_norm: bool = True
    groups: int | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        conv = partial(Conv, self.features, use_bias=False, dtype=self.dtype)
        norm = partial(_norm, train=train, dtype=self.dtype, sync=self.sync_batch_norm, groups=self.groups)
        y = relu(norm(conv((3, 3), strides=self.stride)(x)))
        y = norm(conv((3, 3))(y))
        if x.shape != y.shape:
            x = norm(conv((1, 1), strides=self.stride)(x))
        return relu(x + y)


def _norm(x: Array, train: bool, dtype: str, sync: bool, groups: int | None) -> Array:
    """A batch norm, or a group norm if the number of groups is given."""
    return batch_norm(x, train, dtype, sync) if groups is None else nn.GroupNorm(groups, dtype=dtype)(x)


class ResNet18(Network):
    """ResNet-18 (He et al. 2016, table 1, with projections: option B) as is usual for CIFAR-10.

    The first layer is 3 x 3 with stride 1 and no pooling, instead of 7 x 7 with stride 2 and pooling. filters: those of
    the first stage; each of the other three doubles them. groups: of group norms (Wu & He 2018), which take the place
    of the batch norms; None for batch norms. ValueError unless groups divides filters.
    """

    filters: int = 64
    classes: int = 10
    dtype: str = "float32"
    sync_batch_norm: bool = True
    groups: int | None = None

    can_fold_batch_norm = True  # of which there are none with groups

    def __post_init__(self):
        super().__post_init__()
        if self.groups and self.filters % self.groups:
            raise ValueError(f"groups must divide filters, which is {self.filters}, got {self.groups}")

    @nn.compact
    def __call__(self, x: Array, train: bool = False, keys: Array | None = None) -> Outputs:
        x = Conv(self.filters, (3, 3), use_bias=False, dtype=self.dtype)(normalised(x))
        x = relu(_norm(x, train, self.dtype, self.sync_batch_norm, self.groups))
        for stage in range(4):
            for stride in (1 if stage == 0 else 2, 1):
                block = _Block(self.filters * 2**stage, stride, self.dtype, self.sync_batch_norm, self.groups)
                x = block(x, train)
        features = x.mean((1, 2), dtype=jnp.float32)
        return nn.Dense(self.classes)(features), features
