"""Autoencoders: networks from images to themselves, whose "logits" are the pixels of the reconstruction."""

import math

import flax.linen as nn
import jax.numpy as jnp

from poisonjax.models.layers import Conv
from poisonjax.models.network import Network, Outputs
from poisonjax.types import Array


class DenoisingAutoencoder(Network):
    """The autoencoders of MagNet (Meng & Chen 2017, section 5): 3 x 3 convolutions with sigmoids, as wide as the image.

    pooled: True for its first architecture on MNIST, whose code has half the height and width; False for its second one
    and that of CIFAR-10, whose code has as many pixels as the image. width: features of every layer but the last.
    classes: values of an image, height x width x channels.
    """

    pooled: bool = True
    width: int = 3
    classes: int = 28 * 28

    @nn.compact
    def __call__(self, x: Array, train: bool = False, keys: Array | None = None) -> Outputs:
        """Images [b h w c] -> reconstructions [b h*w*c] in [0, 1], and their codes [b d].

        ValueError for images that do not have `classes` values or, if pooled, an even height and width.
        """
        self._check(x.shape[1:])
        code = self._layer(x)
        if self.pooled:
            code = self._layer(nn.avg_pool(code, (2, 2), (2, 2)))
        wide = self._layer(code)
        if self.pooled:
            wide = self._layer(jnp.repeat(jnp.repeat(wide, 2, 1), 2, 2))
        pixels = nn.sigmoid(Conv(x.shape[-1])(wide))
        return pixels.reshape(len(x), -1), code.reshape(len(x), -1)

    def _layer(self, x: Array) -> Array:
        return nn.sigmoid(Conv(self.width)(x))

    def _check(self, shape: tuple[int, ...]) -> None:
        if math.prod(shape) != self.classes:
            raise ValueError(f"classes must be {math.prod(shape)} for images of {list(shape)}, got {self.classes}")
        if self.pooled and (shape[0] % 2 or shape[1] % 2):
            raise ValueError(f"a pooled autoencoder needs images of even height and width, got {list(shape)}")
