"""The networks are the published ones, and pure, hashable configuration."""

import dataclasses
import typing

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from poisonjax.models import MadryCNN, ReportCNN, WongCNN, mnist

SMALL = [ReportCNN(width=8), MadryCNN(filters=(4, 6), hidden=8), WongCNN(filters=(4, 8), hidden=16)]
PUBLISHED = [  # parameters: Keras' mnist_cnn; the MNIST challenge; 272 + 8,224 + 156,900 + 1,010
    (ReportCNN(), 1_199_882, 128),
    (ReportCNN(width=1024), 9_467_274, 1024),
    (MadryCNN(), 3_274_634, 1024),
    (WongCNN(), 166_406, 100),
]


def named(models):
    return pytest.mark.parametrize("model", models, ids=lambda model: type(model).__name__)


def ready(model):
    """Parameters, and images of another size than MNIST's, both at random."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.random((4, 13, 13, 1)), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) / 8, leaf.dtype), shapes), x


def last_layer(variables, features):
    last = variables["params"]["Dense_1"]
    return features @ last["kernel"] + last["bias"]


@pytest.mark.parametrize("model, parameters, features", PUBLISHED)
def test_sizes_are_the_published_ones(model, parameters, features):
    x = jnp.zeros((3, 28, 28, 1))
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    assert set(variables) == {"params"}
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == parameters
    out = jax.eval_shape(model.apply, variables, x)
    chex.assert_shape(out, [(3, 10), (3, features)])


@named(SMALL)
def test_features_are_the_input_of_the_last_layer(model):
    variables, x = ready(model)
    logits, features = jax.jit(model.apply)(variables, x)
    np.testing.assert_allclose(last_layer(variables, features), logits, atol=1e-5)
    assert features.min() == 0 and features.max() > 0


@named(SMALL)
def test_parameters_and_gradients_are_those_of_flax_layers(model, monkeypatch):
    variables, x = ready(model)

    def loss(variables, x):
        return jax.nn.logsumexp(model.apply(variables, x)[0], -1).sum()

    ours = jax.jit(jax.value_and_grad(loss, (0, 1)))(variables, x)
    monkeypatch.setattr(mnist, "Conv", nn.Conv)
    monkeypatch.setattr(mnist, "max_pool2", lambda x: nn.max_pool(x, (2, 2), (2, 2)))
    theirs = jax.jit(jax.value_and_grad(lambda *arguments: loss(*arguments), (0, 1)))(variables, x)
    chex.assert_trees_all_close(ours, theirs, atol=1e-4, rtol=1e-4)


@named(SMALL)
def test_all_but_the_last_layer_are_in_bfloat16(model):
    half, (variables, x) = dataclasses.replace(model, dtype="bfloat16"), ready(model)
    shapes = jax.eval_shape(half.init, jax.random.key(0), x)
    chex.assert_trees_all_equal_shapes_and_dtypes(shapes, variables)
    rounded, exact = (jax.jit(each.apply)(variables, x) for each in (half, model))
    for ours, theirs in zip(rounded, exact, strict=True):
        assert ours.dtype == jnp.float32
        assert 0 < jnp.linalg.norm(ours - theirs) < 0.05 * jnp.linalg.norm(theirs)
    np.testing.assert_allclose(last_layer(variables, rounded[1]), rounded[0], atol=1e-5)


@named(SMALL)
def test_evaluation_is_deterministic_and_ignores_keys(model):
    variables, x = ready(model)
    evaluate = jax.jit(lambda x, keys=None: model.apply(variables, x, keys=keys))
    chex.assert_trees_all_equal(evaluate(x), evaluate(x), evaluate(x, jax.random.split(jax.random.key(2), len(x))))


def test_training_noise_of_a_row_does_not_depend_on_the_batch():
    model = ReportCNN(width=8)
    variables, x = ready(model)
    keys = jax.random.split(jax.random.key(2), len(x))
    train = jax.jit(lambda x, keys: model.apply(variables, x, train=True, keys=keys))
    halves = jax.tree.map(lambda *parts: jnp.concatenate(parts), train(x[:2], keys[:2]), train(x[2:], keys[2:]))
    logits, features = train(x, keys)
    chex.assert_trees_all_close((logits, features), halves, atol=1e-5)
    assert not np.allclose(features, jax.jit(model.apply)(variables, x)[1], atol=1e-3)  # dropout before the features
    assert not np.allclose(logits, last_layer(variables, features), atol=1e-3)  # and after them


def test_training_with_dropout_needs_keys():
    variables, x = ready(ReportCNN(width=8))
    with pytest.raises(ValueError, match="keys"):
        ReportCNN(width=8).apply(variables, x, train=True)


@named(SMALL)
def test_models_are_hashable_configuration(model):
    same = dataclasses.replace(model)
    assert same is not model and same == model and hash(same) == hash(model)
    assert dataclasses.replace(model, classes=7) != model
    assert {"classes": int}.items() <= typing.get_type_hints(type(model)).items()
    traced = []
    record = jax.jit(traced.append, static_argnums=0)
    record(model), record(same)
    assert traced == [model]


@pytest.mark.parametrize("make", [lambda: ReportCNN(width=0), lambda: WongCNN(filters=()), lambda: MadryCNN((32, -1))])
def test_impossible_sizes_are_refused(make):
    with pytest.raises(ValueError, match="must be at least 1"):
        make()
