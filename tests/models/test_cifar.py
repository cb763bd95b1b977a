"""CIFAR-10 networks are the published ones, in either precision; only training changes their statistics."""

import dataclasses
import functools
import typing

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from poisonjax.models import MobileNet, ReportCifarCNN, ResNet18, cifar
from poisonjax.models.layers import Conv

NORMALISED = [MobileNet(alpha=1 / 16), ResNet18(filters=2)]
SMALL = [ReportCifarCNN(width=8), *NORMALISED]
PUBLISHED = [  # parameters: Keras' cifar10_cnn with its 512; Keras' MobileNet for ImageNet; the usual ResNet-18
    (ReportCifarCNN(), 1_250_858, 512),
    (MobileNet(classes=1000), 4_231_976, 1024),
    (MobileNet(), 4_231_976 - 990 * 1025, 1024),
    (ResNet18(), 11_173_962, 512),
]


def named(models):
    return pytest.mark.parametrize("model", models, ids=lambda model: type(model).__name__)


@functools.cache
def shapes(model):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))


@functools.partial(jax.jit, static_argnums=0)
def evaluate(model, variables, x, keys=None):
    return model.apply(variables, x, keys=keys)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@functools.cache
def ready(model):
    """Variables at random, but of a size that leaves signals as large as they are, and images."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        noise = rng.normal(size=leaf.shape)
        fan_in = np.prod(leaf.shape[:-1])
        values = {"kernel": noise * np.sqrt(2 / fan_in), "scale": 1 + noise / 9, "var": rng.uniform(0.5, 1, leaf.shape)}
        return jnp.asarray(values.get(path[-1].key, noise / 9), leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes(model)), jnp.asarray(rng.random((4, 32, 32, 3)), jnp.float32)


def convolutions(model, side):
    """Of one image, in evaluation: (path of the module, output) for every convolution."""
    x = jnp.zeros((1, side, side, 3))
    filtered = {"capture_intermediates": lambda module, _: isinstance(module, Conv), "mutable": ["intermediates"]}
    _, captured = jax.eval_shape(lambda variables: model.apply(variables, x, **filtered), shapes(model))
    leaves = jax.tree_util.tree_leaves_with_path(captured["intermediates"])
    return [([key.key for key in path[:-2]], out) for path, out in leaves]


def multiplications(model, side):
    """Of all convolutions and the last layer, for one image."""
    params = shapes(model)["params"]
    total = params["Dense_0"]["kernel"].size
    for path, out in convolutions(model, side):
        total += functools.reduce(dict.__getitem__, path, params)["kernel"].size * out.shape[1] * out.shape[2]
    return total


@pytest.mark.parametrize("model, parameters, features", PUBLISHED)
def test_sizes_are_the_published_ones(model, parameters, features):
    variables = shapes(model)
    assert count(variables["params"]) == parameters
    logits, penultimate = jax.eval_shape(model.apply, variables, jnp.zeros((3, 32, 32, 3)))
    chex.assert_shape((logits, penultimate), [(3, model.classes), (3, features)])


@pytest.mark.parametrize(
    "alpha, multiplied, parameters", [(1.0, 569, 4.2), (0.75, 325, 2.6), (0.5, 149, 1.3), (0.25, 41, 0.5)]
)
def test_mobilenet_has_the_published_number_of_operations(alpha, multiplied, parameters):
    model = MobileNet(alpha, classes=1000)
    assert round(multiplications(model, 224) / 1e6) == multiplied  # millions: Howard et al. 2017, table 6
    assert round(count(shapes(model)["params"]) / 1e6, 1) == parameters


def test_stages_of_resnet_halve_the_image():
    sides = [out.shape[1] for _, out in convolutions(ResNet18(filters=2), 32)]
    assert {side: sides.count(side) for side in sides} == {32: 5, 16: 5, 8: 5, 4: 5}  # with projections


def last_layer(variables, features):
    last = variables["params"][max(name for name in variables["params"] if name.startswith("Dense"))]
    return features @ last["kernel"] + last["bias"]


@named(SMALL)
def test_features_are_the_input_of_the_last_layer(model):
    variables, x = ready(model)
    logits, features = evaluate(model, variables, x)
    np.testing.assert_allclose(last_layer(variables, features), logits, atol=1e-4)
    assert features.min() >= 0 and features.max() > 0


@named(SMALL)
def test_parameters_and_gradients_are_those_of_flax_layers(model, monkeypatch):
    variables, x = ready(model)

    def loss(variables, x):
        return jax.nn.logsumexp(model.apply(variables, x)[0], -1).sum()

    def value_and_gradients(loss):  # without LLVM's optimisations, which take half of the time to compile
        return jax.jit(jax.value_and_grad(loss, (0, 1)), compiler_options={"xla_backend_optimization_level": 0})

    ours = value_and_gradients(loss)(variables, x)
    monkeypatch.setattr(cifar, "Conv", nn.Conv)
    monkeypatch.setattr(cifar, "max_pool2", lambda x: nn.max_pool(x, (2, 2), (2, 2)))
    theirs = value_and_gradients(lambda *arguments: loss(*arguments))(variables, x)
    chex.assert_trees_all_close(ours, theirs, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("stride, features", [(1, 3), (2, 5)])
def test_block_without_its_convolutions_is_its_shortcut(stride, features):
    block = cifar._Block(features, stride, "float32")

    @jax.jit
    def both(x):
        variables = block.init(jax.random.key(1), x, False)
        variables["params"]["BatchNorm_1"]["scale"] *= 0
        projection = jnp.eye(3) if stride == 1 else variables["params"]["Conv_2"]["kernel"][0, 0]
        return block.apply(variables, x, False), nn.relu(x[:, ::stride, ::stride] @ projection)

    np.testing.assert_allclose(*both(jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 6, 3)))), atol=1e-4)


@named(NORMALISED)
def test_only_convolutions_are_in_bfloat16(model):
    half, (variables, x) = dataclasses.replace(model, dtype="bfloat16"), ready(model)
    chex.assert_trees_all_equal_shapes_and_dtypes(shapes(half), shapes(model))
    assert {out.dtype for _, out in convolutions(half, 32)} == {jnp.dtype("bfloat16")}
    trained = jax.eval_shape(functools.partial(half.apply, train=True, mutable=["batch_stats"]), variables, x)[1]
    chex.assert_trees_all_equal_shapes_and_dtypes(trained["batch_stats"], variables["batch_stats"])
    rounded, exact = (evaluate(each, variables, x) for each in (half, model))
    for ours, theirs in zip(rounded, exact, strict=True):
        assert ours.dtype == jnp.float32
        assert 0 < jnp.linalg.norm(ours - theirs) < 0.05 * jnp.linalg.norm(theirs)


@named(NORMALISED)
def test_only_training_changes_the_statistics(model):
    variables, x = ready(model)

    @functools.partial(jax.jit, static_argnums=0)
    def statistics(train):
        return model.apply(variables, x, train=train, mutable=["batch_stats"])[1]["batch_stats"]

    chex.assert_trees_all_equal(statistics(False), variables["batch_stats"])
    for new, old in zip(*map(jax.tree.leaves, (statistics(True), variables["batch_stats"])), strict=True):
        assert not np.allclose(new, old)


@named(SMALL)
def test_evaluation_of_a_row_does_not_depend_on_the_others_or_on_keys(model):
    variables, x = ready(model)
    keys = jax.random.split(jax.random.key(2), len(x))
    one, two = evaluate(model, variables, x), evaluate(model, variables, x.at[1:].set(0.3), keys)
    chex.assert_trees_all_close(*(jax.tree.map(lambda leaf: leaf[0], outputs) for outputs in (one, two)), atol=1e-5)
    assert not np.allclose(one[0][1], two[0][1], atol=1e-3)


def test_training_noise_of_a_row_does_not_depend_on_the_batch():
    model = SMALL[0]
    variables, x = ready(model)
    keys = jax.random.split(jax.random.key(2), len(x))
    train = jax.jit(lambda x, keys: model.apply(variables, x, train=True, keys=keys))
    one, two = train(x, keys), train(x.at[1:].set(0.3), keys)
    chex.assert_trees_all_close(*(jax.tree.map(lambda leaf: leaf[0], outputs) for outputs in (one, two)), atol=1e-5)
    assert not np.allclose(one[1], train(x, keys[::-1])[1], atol=1e-3)  # dropout before the features
    assert not np.allclose(one[0], last_layer(variables, one[1]), atol=1e-3)  # and after them


def test_training_with_dropout_needs_keys():
    variables, x = ready(SMALL[0])
    with pytest.raises(ValueError, match="ReportCifarCNN has dropout: training needs keys"):
        SMALL[0].apply(variables, x, train=True)


def test_group_norms_need_no_other_rows():
    model = ResNet18(filters=4, groups=2)
    x = jnp.asarray(np.random.default_rng(0).random((3, 32, 32, 3), np.float32))
    variables = model.init(jax.random.key(0), x)
    assert set(variables) == {"params"} and not any("BatchNorm" in name for name in variables["params"])
    whole = model.apply(variables, x, train=True)[0]
    np.testing.assert_allclose(whole[:1], model.apply(variables, x[:1])[0], rtol=1e-4, atol=1e-5)
    assert np.ptp(np.asarray(whole), axis=0).max() > 1e-3


@named(NORMALISED)
def test_images_are_normalised_by_the_statistics_of_cifar10(model):
    variables, _ = ready(model)
    only = {"capture_intermediates": lambda module, _: module.name == "Conv_0" and len(module.path) == 1}

    @jax.jit
    def first(x):
        return model.apply(variables, x, mutable=["intermediates"], **only)[1]["intermediates"]["Conv_0"]["__call__"][0]

    mean, deviation = np.array([0.4914, 0.4822, 0.4465]), np.array([0.2470, 0.2435, 0.2616])
    x = jnp.broadcast_to(mean, (1, 8, 8, 3)).astype(jnp.float32)
    np.testing.assert_allclose(first(x), jnp.zeros_like(first(x)), atol=1e-5)
    centre = first(x + deviation)[0, 2, 2]  # of images that are one standard deviation brighter
    np.testing.assert_allclose(centre, variables["params"]["Conv_0"]["kernel"].sum((0, 1, 2)), atol=1e-4)


def test_grey_image_is_three_equal_channels():
    x = np.linspace(0, 1, 32, dtype=np.float32).reshape(2, 4, 4, 1)
    np.testing.assert_array_equal(cifar.normalised(x), cifar.normalised(x.repeat(3, -1)))
    with pytest.raises(ValueError, match="must have 1 or 3 channels, got 2"):
        cifar.normalised(x.repeat(2, -1))


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


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: ReportCifarCNN(width=0), "width must be at least 1, got 0"),
        (lambda: ResNet18(filters=-2), "filters must be at least 1, got -2"),
        (lambda: MobileNet(classes=0), "classes must be at least 1, got 0"),
        (lambda: MobileNet(alpha=0.03), "alpha must be at least 1/32, got 0.03"),
        (lambda: MobileNet(alpha=float("nan")), "alpha must be at least 1/32, got nan"),
        (lambda: MobileNet(dtype="float16"), "dtype must be float32 or bfloat16, got 'float16'"),
        (lambda: ResNet18(filters=4, groups=3), "groups must divide filters, which is 4, got 3"),
        (lambda: ResNet18(filters=4, groups=0), "groups must be at least 1, got 0"),
        (lambda: ResNet18(dtype="double"), "dtype must be float32 or bfloat16, got 'double'"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
