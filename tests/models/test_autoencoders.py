"""The autoencoders are the published ones, and refuse images that they cannot give back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poisonjax.models import DenoisingAutoencoder

# 3 x 3 kernels and biases: 30 + 84 + 84 + 84 + 28, 30 + 84 + 28 and 3 x 84
PUBLISHED = [(True, (28, 28, 1), 310, 14 * 14), (False, (28, 28, 1), 142, 28 * 28), (False, (32, 32, 3), 252, 32 * 32)]


@pytest.mark.parametrize(("pooled", "shape", "parameters", "positions"), PUBLISHED)
def test_sizes_are_the_published_ones(pooled, shape, parameters, positions):
    model, x = DenoisingAutoencoder(pooled, classes=shape[0] * shape[1] * shape[2]), jnp.zeros((2, *shape))
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == parameters
    pixels, code = jax.eval_shape(model.apply, variables, x)
    assert pixels.shape == (2, model.classes) and code.shape == (2, 3 * positions)


def test_reconstructions_are_images_and_keep_their_places():
    """A white corner changes its own neighbourhood alone, which reaches 9 pixels."""
    model, rng = DenoisingAutoencoder(), np.random.default_rng(0)
    x = np.full((2, 28, 28, 1), 0.5, np.float32)
    x[1, :2, 26:] = 1.0
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    variables = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)
    pixels = np.asarray(jax.jit(model.apply)(variables, x)[0]).reshape(2, 28, 28)
    assert pixels.min() >= 0 and pixels.max() <= 1
    rows, columns = np.nonzero(pixels[0] != pixels[1])
    assert len(rows) and rows.max() < 2 + 9 and columns.min() >= 26 - 9


def test_other_images_are_refused():
    with pytest.raises(ValueError, match=r"classes must be 64 for images of \[8, 8, 1\], got 784"):
        DenoisingAutoencoder().init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    with pytest.raises(ValueError, match=r"even height and width, got \[7, 8, 1\]"):
        DenoisingAutoencoder(classes=56).init(jax.random.key(0), jnp.zeros((1, 7, 8, 1)))
