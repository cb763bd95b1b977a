"""Layers compute what flax computes; dropout of a row depends on that row alone."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from poisonjax.models.layers import Conv, Dropout, batch_norm
from poisonjax.runtime import distributed


def drawn(shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"kernel_size": (4, 5), "strides": 2, "padding": ((1, 1), (0, 2)), "use_bias": False},
        {"features": 6, "feature_group_count": 6},
        {"dtype": "bfloat16"},
    ],
)
def test_conv_module_equals_that_of_flax(settings):
    x = drawn((2, 9, 8, 6))
    settings = {"features": 7, "kernel_size": (3, 3)} | settings
    ours, theirs = Conv(**settings), nn.Conv(**settings)
    variables, same = (jax.jit(module.init)(jax.random.key(1), x) for module in (ours, theirs))
    chex.assert_trees_all_equal(variables, same)
    variables = jax.tree.map(lambda leaf: leaf + 0.1, variables)  # so that a bias is seen
    outputs, expected = (jax.jit(module.apply)(variables, x) for module in (ours, theirs))
    assert outputs.dtype == expected.dtype
    tolerance = 1e-5 if outputs.dtype == jnp.float32 else 0.05
    chex.assert_trees_all_close(outputs.astype(jnp.float32), expected.astype(jnp.float32), atol=tolerance)


@pytest.mark.parametrize("features, groups", [(6, 2), (12, 6), (2, 2)])
def test_conv_module_refuses_other_groups(features, groups):
    with pytest.raises(ValueError, match=f"must be 1, or 6 .* got {groups} with {features} features"):
        jax.eval_shape(Conv(features, feature_group_count=groups).init, jax.random.key(0), jnp.zeros((1, 4, 4, 6)))


class Norm(nn.Module):
    """batch_norm alone."""

    train: bool
    dtype: str = "float32"
    sync: bool = True

    @nn.compact
    def __call__(self, x):
        return batch_norm(x, self.train, self.dtype, self.sync)


def normed(x, dtype="float32", sync=True):
    """x [b h w c] when training -> (output, running averages after one step)."""
    variables = Norm(train=False).init(jax.random.key(0), x)
    out, new = Norm(True, dtype, sync).apply(variables, x, mutable=["batch_stats"])
    return out, new["batch_stats"]["BatchNorm_0"]


def test_batch_norm_uses_the_batch_in_training_and_the_averages_in_evaluation():
    x = 3 * drawn((5, 4, 3, 2)) + 7
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    out, averages = normed(x)
    np.testing.assert_allclose(out, (x - mean) / jnp.sqrt(variance), atol=1e-4)
    np.testing.assert_allclose(averages["mean"], 0.1 * mean, rtol=1e-4)
    np.testing.assert_allclose(averages["var"], 0.9 + 0.1 * variance, rtol=1e-4)
    variables = {"params": {"BatchNorm_0": {"scale": 2 * jnp.ones(2), "bias": jnp.ones(2)}}}
    variables |= {"batch_stats": {"BatchNorm_0": averages}}
    expected = 1 + 2 * (x - averages["mean"]) / jnp.sqrt(averages["var"])
    np.testing.assert_allclose(Norm(train=False).apply(variables, x), expected, rtol=1e-4)


def test_batch_norm_in_bfloat16_keeps_its_statistics_in_float32():
    x = (drawn((64, 8, 8, 2)) + 100).astype(jnp.bfloat16)  # between 64 and 128 it knows every half only
    out, averages = normed(x, "bfloat16")
    assert out.dtype == jnp.bfloat16 and {leaf.dtype for leaf in averages.values()} == {jnp.dtype("float32")}
    exact = np.asarray(x, np.float64)
    np.testing.assert_allclose(averages["mean"], 0.1 * exact.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(averages["var"], 0.9 + 0.1 * exact.var((0, 1, 2)), rtol=1e-3)


def test_batch_norm_is_over_the_rows_of_all_devices(monkeypatch):
    x = drawn((6, 4, 3, 2))
    whole = normed(x)
    monkeypatch.setattr(distributed, "single_device", lambda: False)
    parts = jax.vmap(normed, axis_name=distributed.axis())(x.reshape(2, 3, 4, 3, 2))
    chex.assert_trees_all_close(parts[0].reshape(x.shape), whole[0], atol=1e-5)
    for part in (0, 1):
        chex.assert_trees_all_close(jax.tree.map(lambda leaf, part=part: leaf[part], parts[1]), whole[1], atol=1e-6)
    jax.jit(Norm(train=False).init)(jax.random.key(0), x)  # evaluation knows no devices


def test_batch_norm_without_sync_is_over_the_rows_of_a_device(monkeypatch):
    x = drawn((6, 4, 3, 2)).reshape(2, 3, 4, 3, 2)
    monkeypatch.setattr(distributed, "single_device", lambda: False)
    apart = jax.vmap(lambda x: normed(x, sync=False), axis_name=distributed.axis())(x)
    monkeypatch.undo()
    chex.assert_trees_all_close(apart, jax.vmap(normed)(x), atol=1e-6)
    assert not np.allclose(apart[1]["mean"][0], apart[1]["mean"][1])


def row_keys(rows):
    return jax.random.split(jax.random.key(3), rows)


def test_dropout_keeps_the_given_fraction_and_the_mean():
    out = jax.jit(Dropout(0.25).apply)({}, jnp.ones((50, 40, 10)), row_keys(50))
    np.testing.assert_allclose(np.unique(out), [0, 1 / 0.75], rtol=1e-6)
    assert abs(float((out == 0).mean()) - 0.25) < 0.02  # more than 5 standard deviations of 20,000 draws


def test_dropout_of_a_row_does_not_depend_on_the_other_rows():
    x, keys, dropout = drawn((6, 5, 4)), row_keys(6), jax.jit(lambda x, keys: Dropout(0.5).apply({}, x, keys))
    whole = dropout(x, keys)
    np.testing.assert_array_equal(whole, jnp.concatenate([dropout(x[:2], keys[:2]), dropout(x[2:], keys[2:])]))
    order = jnp.array([5, 3, 1, 0, 2, 4])
    np.testing.assert_array_equal(whole[order], dropout(x[order], keys[order]))
    assert len({row.tobytes() for row in np.asarray(whole == 0)}) == 6


def test_dropout_layers_of_one_network_have_different_noise():
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x, keys):
            return Dropout(0.5)(x, keys), Dropout(0.5)(x, keys)

    first, second = jax.jit(Twice().apply)({}, jnp.ones((2, 1000)), row_keys(2))
    assert 0.4 < float((first == second).mean()) < 0.6


def test_dropout_without_keys_changes_nothing():
    x = drawn((2, 3))
    assert Dropout(0.5).apply({}, x, None) is x


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_dropout_refuses_an_impossible_rate(rate):
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\)"):
        Dropout(rate).apply({}, jnp.ones((1, 2)), row_keys(1))
