"""A network for rows of features in [0, 1]."""

import flax.linen as nn
import jax.numpy as jnp

from poisonjax.models.layers import Dropout
from poisonjax.models.network import Network, Outputs
from poisonjax.models.ops import relu
from poisonjax.types import Array


class TabularMLP(Network):
    """A multilayer perceptron on rows [b d], or on images as rows of pixels; 0.5 is subtracted from its input.

    hidden: the units of each hidden layer; the last are the features. dropout: share of them that is left out in
    training, in [0, 1).
    """

    hidden: tuple[int, ...] = (64, 32)
    classes: int = 2
    dropout: float = 0.0
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array, train: bool = False, keys: Array | None = None) -> Outputs:
        """Logits and features. ValueError when training with dropout but without keys."""
        keys = self.noise_keys(train, keys) if self.dropout else None
        features = x.reshape(len(x), -1) - 0.5
        for units in self.hidden:
            features = relu(nn.Dense(units, dtype=self.dtype)(features))
        features = features.astype(jnp.float32)
        return nn.Dense(self.classes)(Dropout(self.dropout)(features, keys)), features
