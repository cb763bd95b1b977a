"""The network for rows of features: its shapes, its settings and its noise."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poisonjax.models import TabularMLP


@pytest.mark.parametrize("shape", [(23,), (4, 3, 2)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_takes_rows_and_images_and_gives_float32(shape, dtype):
    model = TabularMLP(hidden=(8, 5), classes=3, dtype=dtype)
    x = jax.random.uniform(jax.random.key(0), (6, *shape))
    logits, features = model.apply(model.init(jax.random.key(1), x), x)
    chex.assert_shape([logits, features], [(6, 3), (6, 5)])
    chex.assert_type([logits, features], jnp.float32)
    assert (features >= 0).all() and (features > 0).any()


def test_dropout_is_noise_of_training_by_the_key_of_a_row():
    model, x = TabularMLP(dropout=0.5), jnp.ones((4, 7))
    variables, keys = model.init(jax.random.key(0), x), jax.random.split(jax.random.key(1), 4)
    train = model.apply(variables, x, True, keys)[0]
    assert (
        len(np.unique(np.asarray(train), axis=0)) == 4
        and len(np.unique(np.asarray(model.apply(variables, x)[0]), axis=0)) == 1
    )
    np.testing.assert_allclose(model.apply(variables, x[2:], True, keys[2:])[0], train[2:], rtol=1e-6)
    with pytest.raises(ValueError, match="TabularMLP has dropout: training needs keys"):
        model.apply(variables, x, True)
    TabularMLP().apply(TabularMLP().init(jax.random.key(0), x), x, True)  # has no noise, needs no keys
