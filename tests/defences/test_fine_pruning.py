"""Fine-pruning finds the last layer of every network, cuts idle units and keeps them cut, and misses used ones."""

import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poisonjax import models
from poisonjax.data import load
from poisonjax.data.subsets import Stratified
from poisonjax.defences import Context, FinePruning
from poisonjax.defences.fine_pruning import _Held, last_kernel, prunable, without
from poisonjax.evaluation.victim import Victim, function_victim, network_victim, weights
from poisonjax.models.network import Network
from poisonjax.poisons import BrightSquare
from poisonjax.training import SGD, Adam, Standard, Training, fit
from poisonjax.types import Examples

NETWORKS = [
    models.ReportCNN(width=8),
    models.MadryCNN(filters=(2, 4), hidden=8),
    models.WongCNN(filters=(2, 4), hidden=10),  # as many units as classes, so that two kernels have its shape
    models.ReportCifarCNN(width=8),
    models.MobileNet(alpha=1 / 32),
    models.ResNet18(filters=2),
]
HIDDEN, CORNER = 32, (slice(-4, None), slice(-4, None))


class MLP(Network):
    """One hidden layer; its last layer is one by hand, of no name that flax gives."""

    classes: int = 10

    @nn.compact
    def __call__(self, x, train=False, keys=None):
        features = nn.relu(nn.Dense(HIDDEN)(x.reshape(len(x), -1)))
        return features @ self.param("heads", nn.initializers.lecun_normal(), (HIDDEN, self.classes)), features


class Scaled(Network):
    """A network whose logits are no affine function of its features."""

    classes: int = 10

    @nn.compact
    def __call__(self, x, train=False, keys=None):
        features = nn.relu(nn.Dense(HIDDEN)(x.reshape(len(x), -1)))
        return nn.tanh(5 * nn.Dense(self.classes)(features)), features


def drawn(rng, shape):
    """An array of a network: a kernel that keeps variances, or numbers in [.5, 1]; flax's take long to compile."""
    if len(shape) == 1:
        return rng.uniform(0.5, 1, shape).astype(np.float32)
    return (rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[:-1]))).astype(np.float32)


def looked_at(model, rows=12):
    """The network as a function, random weights, noise, and logits and features for it."""
    rng, side = np.random.default_rng(0), 28 if "mnist" in type(model).__module__ else 32
    x = rng.random((rows, side, side, 1), np.float32)
    variables = jax.tree.map(lambda leaf: drawn(rng, leaf.shape), jax.eval_shape(model.init, jax.random.key(0), x))
    apply = jax.jit(model.apply)
    logits, features = map(np.asarray, apply(variables, x))
    return apply, variables, x, logits, features


@pytest.mark.parametrize("model", NETWORKS, ids=lambda model: type(model).__name__)
def test_the_last_kernel_of_every_network_is_found_and_cut(model):
    apply, variables, x, logits, features = looked_at(model)
    place, kernel = last_kernel(variables["params"], logits, features)
    units = (0, 3, features.shape[1] - 1)
    found, _ = apply({**variables, "params": without(variables["params"], place, units)}, x)
    expected = logits - features[:, list(units)] @ kernel[list(units)]
    assert features[:, list(units)].any()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(logits).max())


def test_every_classifier_is_among_them():
    named = {kind for kind in vars(models).values() if isinstance(kind, type) and kind is not Network}
    named = {kind for kind in named if issubclass(kind, Network)} - {models.DenoisingAutoencoder, models.TabularMLP}
    assert named == {type(model) for model in NETWORKS}  # without those of no classes, and of rows of features


def test_a_network_without_such_a_kernel_is_refused():
    _, variables, _, logits, features = looked_at(Scaled())
    with pytest.raises(ValueError, match="no parameter of the network maps its features to its logits"):
        last_kernel(variables["params"], logits, features)
    with pytest.raises(ValueError, match="units cannot be pruned"):
        last_kernel({"kernel": np.zeros((3, 3))}, logits, features)


@pytest.mark.parametrize("drop", [0.02, 0.1, 0.5])
def test_units_are_pruned_until_the_accuracy_falls_too_far(drop):
    """A plain reading: cut one unit more, predict anew, and stop before the accuracy falls by more than `drop`."""
    rng = np.random.default_rng(0)
    features, kernel = rng.gamma(1.0, size=(300, 12)) * np.linspace(0, 1, 12), rng.normal(size=(12, 4))
    labels = np.where(rng.random(300) < 0.9, (features @ kernel).argmax(-1), 0)
    order, accuracies = np.argsort(features.mean(0)), []
    for count in range(13):
        cut = kernel.copy()
        cut[order[:count]] = 0
        accuracies.append(np.mean((features @ cut).argmax(-1) == labels))
    too_far = [count for count, accuracy in enumerate(accuracies) if accuracies[0] - accuracy > drop]
    found = prunable(features @ kernel, features, labels, kernel, order, drop)
    assert found == too_far[0] - 1 and 0 < found < 12


def test_pruned_units_stay_pruned_under_momentum_and_decay():
    """Also where the gradient of their weights is not 0, and without a change of the others' updates."""
    params = {"last": {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3)}, "first": jnp.ones((4, 3))}
    place, units, plain = "['last']['kernel']", (1, 3), SGD(0.1)
    cut = without(params, place, units)
    held, free = (optimizer(10) for optimizer in (_Held(plain, place, units), plain))
    states = held.init(cut), free.init(cut)
    for _ in range(3):
        (updates, one), (others, two) = (
            tx.update(params, of, cut) for tx, of in zip((held, free), states, strict=True)
        )
        states = one, two
        np.testing.assert_array_equal(updates["last"]["kernel"][np.array(units)], 0)
        np.testing.assert_array_equal(updates["last"]["kernel"][::2], others["last"]["kernel"][::2])
        np.testing.assert_array_equal(updates["first"], others["first"])
        assert (np.asarray(others["last"]["kernel"]) != 0).all()


def fitted(model, objective, training, examples, start=None):
    """A network trained without checkpoints."""
    store = types.SimpleNamespace(latest=lambda like: None, save=lambda *_: None)
    nothing = dict.fromkeys(("begin", "advance", "epoch"), lambda *_: None)
    watch = types.SimpleNamespace(**nothing, stop_requested=lambda: False)
    keys = jax.random.key(0), jax.random.key(1)
    return network_victim(
        model, fit(model, objective, training, examples, keys, store, watch, start=start and weights(start)).state
    )


@pytest.fixture(scope="module")
def learnt(data_dir):
    """A context with 500 clean rows, test images, and a network trained on 500 rows."""
    whole = load("mnist_5k", data_dir)
    train, test = Stratified(1000)(whole.train), Stratified(200)(whole.test)
    halves = [Examples(*(field[part::2] for field in train)) for part in (0, 1)]
    model, settings = MLP(), Training(batch=50, epochs=8, optimizer=Adam(3e-3))

    def another(name, objective, examples, *, model=model, training=settings, start=None):
        return fitted(model, objective, training, examples, start)

    context = Context(halves[0], 10, 250, jax.random.key(2), another, model, settings, halves[1])
    return context, test, another("own", Standard(), halves[0])


def planted(victim: Victim, bias: float) -> Victim:
    """The network with a backdoor in its first unit, which a white corner raises by 16 and which votes for class 7.

    bias: what the unit adds to that. A second unit cancels the vote that a positive one brings every image.
    """
    params, batch_stats = weights(victim)
    params, image = jax.tree.map(np.array, params), np.zeros((28, 28, 1), np.float32)
    image[CORNER] = 1.0
    params["Dense_0"]["kernel"][:, :2] = np.stack([image.ravel(), 0 * image.ravel()], 1)
    params["Dense_0"]["bias"][:2] = bias, max(bias, 0.0)
    params["heads"][:2] = 20.0 * np.eye(10)[7] * [[1], [-1]]
    return victim._replace(outputs=jax.tree_util.Partial(victim.outputs.func, params, batch_stats))


def rates(victim_logits, test: Examples) -> tuple[float, float]:
    """Accuracy, and the share of the other classes' images with a white corner that are taken for class 7."""
    image = jnp.asarray(test.image / 255, jnp.float32)
    clean, triggered = (np.argmax(victim_logits(x), -1) for x in (image, BrightSquare(4)(image)))
    return np.mean(clean == test.label), np.mean((triggered == 7)[test.label != 7])


def test_a_backdoor_in_units_that_clean_images_leave_idle_is_pruned(learnt):
    context, test, victim = learnt
    broken = planted(victim, -12.0)
    accuracy, success = rates(broken.logits, test)
    repaired = FinePruning(epochs=3).shield(broken, context)
    now, left = rates(repaired.logits, test)
    assert accuracy > 0.6 and success > 0.95
    assert now > accuracy - 0.1 and left < 0.3
    params, _ = repaired.logits.args[0].args
    assert not params["heads"][:2].any() and params["heads"].any()


def test_a_backdoor_in_a_unit_that_clean_images_use_is_not(learnt):
    """The pruning-aware attack of the paper: the unit is active on every image."""
    context, test, victim = learnt
    broken = planted(victim, 6.0)
    accuracy, success = rates(broken.logits, test)
    now, left = rates(FinePruning(epochs=3).shield(broken, context).logits, test)
    assert min(accuracy, now) > 0.6 and min(success, left) > 0.9


def test_impossible_settings_and_too_few_clean_rows_are_refused(learnt):
    for change, message in (
        ({"drop": 0.0}, "drop is a share"),
        ({"held_out": 1.0}, "held_out is a share"),
        ({"epochs": 0}, "epochs must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            FinePruning(**change)
    context, _, victim = learnt
    few = context._replace(clean=Examples(*(field[:2] for field in context.clean)))
    with pytest.raises(ValueError, match="of 2 clean rows leaves none on one side"):
        FinePruning(held_out=0.1).shield(victim, few)


def test_other_functions_are_refused(learnt):
    context, _, victim = learnt
    wrapped = function_victim(lambda x: victim.logits(x))
    with pytest.raises(ValueError, match="only a network that was trained here"):
        FinePruning().shield(wrapped, context)
