"""Convolutional networks for images of 28 x 28 in [0, 1], none of which has a published normalisation.

All are called as (x [b h w c], train, keys) -> (logits [b k], features [b d]). Features are the activations before the
last layer; keys [b], one per row, are for dropout in training. Initialisers are flax's. All but the last layer compute
in `dtype`, float32 or bfloat16; parameters, features and logits are float32.
"""

import flax.linen as nn
import jax.numpy as jnp

from poisonjax.models.layers import Conv, Dropout
from poisonjax.models.network import Network, Outputs
from poisonjax.models.ops import max_pool2, relu
from poisonjax.types import Array


class ReportCNN(Network):
    """The report's CNN, from Keras' mnist_cnn example; the report uses widths of 128, 512 and 1024 (figure 6)."""

    width: int = 128
    classes: int = 10
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array, train: bool = False, keys: Array | None = None) -> Outputs:
        """Logits and features. ValueError when training without keys for dropout."""
        keys = self.noise_keys(train, keys)
        x = relu(Conv(32, (3, 3), padding="VALID", dtype=self.dtype)(x))
        x = relu(Conv(64, (3, 3), padding="VALID", dtype=self.dtype)(x))
        x = Dropout(0.25)(max_pool2(x), keys)
        features = _hidden(x, self.width, self.dtype)
        return nn.Dense(self.classes)(Dropout(0.5)(features, keys)), features


class MadryCNN(Network):
    """The network of the MNIST challenge (Madry et al. 2018, section 5), whose sizes are doubled for figure 4."""

    filters: tuple[int, ...] = (32, 64)
    hidden: int = 1024
    classes: int = 10
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array, train: bool = False, keys: Array | None = None) -> Outputs:
        for features in self.filters:
            x = max_pool2(relu(Conv(features, (5, 5), dtype=self.dtype)(x)))
        features = _hidden(x, self.hidden, self.dtype)
        return nn.Dense(self.classes)(features), features


class WongCNN(Network):
    """The small MNIST network of "Fast is better than free" (Wong et al. 2020, section 5.1)."""

    filters: tuple[int, ...] = (16, 32)
    hidden: int = 100
    classes: int = 10
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array, train: bool = False, keys: Array | None = None) -> Outputs:
        for features in self.filters:
            x = relu(Conv(features, (4, 4), strides=2, padding=((1, 1), (1, 1)), dtype=self.dtype)(x))
        features = _hidden(x, self.hidden, self.dtype)
        return nn.Dense(self.classes)(features), features


def _hidden(x: Array, width: int, dtype: str) -> Array:
    """The layer before the last: x [b ...] -> [b width], float32."""
    return relu(nn.Dense(width, dtype=dtype)(x.reshape(len(x), -1))).astype(jnp.float32)
