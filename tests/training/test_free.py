"""Free adversarial training: the paper's algorithm, one pass for two gradients, and a perturbation that is kept."""

import importlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from poisonjax.attacks import L0, L1, L2, PGD, Linf
from poisonjax.data.subsets import Stratified
from poisonjax.experiment import Data
from poisonjax.runs.estimate import training_gradients
from poisonjax.training import (
    SGD,
    Adam,
    Constant,
    CropFlip,
    FreeAdversarialTraining,
    Interrupted,
    Standard,
    Training,
    eval_logits,
    fit,
    initial_state,
)
from poisonjax.training.prefetch import HostData
from poisonjax.types import Examples, take, to_unit
from tests.training.test_fit import Callbacks, Memory

fitting = importlib.import_module("poisonjax.training.fit")
EPS, RATE, WARMUP = 0.1, 0.3, 0.5
KEYS = jax.random.key(1), jax.random.key(2)
# 23 rows: 5 steps an epoch, of which the last has 3 rows. 20 updates are 7 batches when each is learnt from 3 times.
SETTINGS = Training(batch=5, epochs=4, optimizer=SGD(RATE, momentum=0.0, weight_decay=0.0, schedule=Constant()))


class Dense(nn.Module):
    """One hidden layer."""

    hidden: int = 8
    classes: int = 3

    @nn.compact
    def __call__(self, x, train=False, keys=None):
        features = nn.relu(nn.Dense(self.hidden)(x.reshape(len(x), -1)))
        return nn.Dense(self.classes)(features), features


@pytest.fixture(scope="module")
def examples():
    """23 images in three classes of different brightness, some pixels of which are black or white."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 23).astype(np.int32)
    image = np.clip(rng.integers(-80, 160, (23, 6, 6, 1)) + 80 * label[:, None, None, None], 0, 255).astype(np.uint8)
    return Examples(image, label, np.arange(23, dtype=np.int32))


def trained(examples, replays=3, store=None, watch=None, settings=SETTINGS):
    objective = FreeAdversarialTraining(Linf(EPS), replays, WARMUP)
    return fit(Dense(), objective, settings, examples, KEYS, store or Memory(), watch or Callbacks(), save_every=0)


def algorithm_1(examples, replays):
    """The paper's loop, written down: the weights and the perturbation that it ends with."""
    state, total = initial_state(Dense(), optax.sgd(RATE), examples.image[0], KEYS[0]), SETTINGS.total_steps(23)
    params, delta, step = state.params, np.zeros((5, *examples.image.shape[1:]), np.float32), 0

    @jax.jit
    @jax.grad
    def slopes(both, y, real):
        losses = optax.softmax_cross_entropy_with_integer_labels(Dense().apply({"params": both[0]}, both[1])[0], y)
        return jnp.sum(jnp.where(real, losses, 0.0))

    passes = [np.asarray(fitting._order(KEYS[1], number, SETTINGS, 23)).reshape(5, 5) for number in range(4)]
    for number, rows in enumerate(np.concatenate(passes)):
        real = number % 5 * 5 + np.arange(5) < 23
        x, y = np.asarray(examples.image[rows] / 255, np.float32), examples.label[rows]
        for _ in range(replays):
            if step == total:
                return params, delta
            of_weights, of_images = slopes((params, np.clip(x + delta, 0, 1)), y, real)
            params = jax.tree.map(lambda old, slope, n=real.sum(): old - RATE * slope / n, params, of_weights)
            eps = EPS * min(1.0, step / total / WARMUP)
            moved = np.clip(delta + eps * np.sign(of_images), -eps, eps)
            delta, step = np.where(real[:, None, None, None], moved, delta), step + 1
    return params, delta


@pytest.mark.parametrize("replays", [1, 3])
def test_the_algorithm_of_the_paper(replays, examples):
    """With one replay it is FGSM training that starts from the perturbation of the batch before."""
    made = trained(examples, replays)
    params, delta = algorithm_1(examples, replays)
    chex.assert_trees_all_close(made.state.params, params, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(made.state.perturbation, delta, atol=1e-6)
    assert (np.abs(delta) > EPS / 2).any(), "the perturbation has moved"


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("calls", [1, 7])
def test_a_resumed_training_ends_in_the_same_bits(calls, streams, examples, monkeypatch):
    """Stopped between the replays of a batch, after 2 and 8 of 20 updates."""
    monkeypatch.setattr(fitting, "CALL_SECONDS", 0.0)
    rows = HostData(examples.index, lambda at: take(examples, at)) if streams else examples
    expected, store = trained(rows), Memory()
    with pytest.raises(Interrupted, match=f"step {calls} of 20"):
        trained(rows, store=store, watch=Callbacks(calls))
    made = trained(rows, store=store)
    chex.assert_trees_all_equal(made.state, expected.state)
    assert made.history == expected.history and made.images == expected.images


def test_streamed_rows_are_read_once_for_all_replays(examples):
    read = []
    made = trained(HostData(examples.index, lambda at: read.append(at) or take(examples, at)))
    chex.assert_trees_all_close(made.state.params, trained(examples).state.params, atol=1e-4)
    assert len(read) - 1 == 10  # the first is for the shape; then two passes, which 20 / 3 batches begin


def test_images_are_counted_as_often_as_they_are_learnt_from(examples):
    store, watch = Memory(), Callbacks()
    trained(examples, store=store, watch=watch)
    counted = [meta["images"] for step, _, meta in store.saved]
    # One pass of 23 rows three times, a batch of five three times, and another twice.
    assert counted[-1] == sum(watch.images) == watch.total == 3 * 23 + 3 * 5 + 2 * 5


SEEN = []


class Watched(nn.Module):
    """Notes what it is trained on."""

    @nn.compact
    def __call__(self, x, train=False, keys=None):
        if train:
            jax.debug.callback(lambda rows: SEEN.append(np.asarray(rows)), x, ordered=True)
        return nn.Dense(3)(x.reshape(len(x), -1)), x


def test_replays_see_the_images_as_they_were_augmented_at_first(examples):
    SEEN.clear()
    objective = FreeAdversarialTraining(Linf(0.0), replays=2)
    fit(Watched(), objective, Training(batch=23, epochs=4, augment=CropFlip(2)), examples, KEYS, Memory(), Callbacks())
    first, again, second, _ = (rows.reshape(23, -1) for rows in SEEN)
    np.testing.assert_array_equal(again, first)
    known = {row.tobytes() for row in first}
    assert sum(row.tobytes() in known for row in second) < 12, "the next pass is augmented anew"


def test_other_objectives_carry_nothing(examples):
    made = fit(Dense(), Standard(), SETTINGS, examples, KEYS, Memory(), Callbacks())
    assert made.state.perturbation == () and len(jax.tree.leaves(made.state)) == 1 + 4 + len(
        jax.tree.leaves(made.state.opt_state)
    )


def test_an_update_costs_what_one_of_standard_training_does():
    free = FreeAdversarialTraining(Linf(EPS), replays=3)
    assert training_gradients(SETTINGS, free, 23) == training_gradients(SETTINGS, Standard(), 23) == 20 * 5 * 2


def test_moves_are_as_long_as_the_ball_is_wide():
    free, gradient = FreeAdversarialTraining(L2(0.5)), np.random.default_rng(0).normal(size=(4, 6, 6, 1))
    once = free.ascend(np.zeros_like(gradient), gradient, 1.0)
    lengths = np.linalg.norm(gradient.reshape(4, -1), axis=1)[:, None, None, None]
    np.testing.assert_allclose(once, 0.5 * gradient / lengths, rtol=1e-5)
    np.testing.assert_allclose(free.ascend(once, gradient, 1.0), once, rtol=1e-5)  # the edge is reached


@pytest.fixture(scope="module")
def digits(data_dir):
    """2,000 training and 200 test images of mnist_5k."""
    data = Data("mnist_5k", Stratified(2000), Stratified(200))
    return data.used(data.load(data_dir))


def robust_accuracy(objective, digits):
    model, settings = Dense(hidden=64, classes=10), Training(batch=100, epochs=16, optimizer=Adam(3e-3))
    made = fit(model, objective, settings, digits.train, KEYS, Memory(), Callbacks())
    x, y = to_unit(jnp.asarray(digits.test.image)), jnp.asarray(digits.test.label)
    logits_fn = eval_logits(model, made.state)
    x_adv = jax.jit(lambda x: PGD(Linf(EPS), step=EPS / 5, steps=20)(logits_fn, x, y, KEYS[0]))(x)
    return float(jnp.mean(jnp.argmax(logits_fn(x_adv), -1) == y))


def test_it_withstands_the_attack_that_standard_training_falls_to(digits):
    free = FreeAdversarialTraining(Linf(EPS), replays=4)
    assert robust_accuracy(Standard(), digits) < 0.2
    assert robust_accuracy(free, digits) > 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ball": 0.3}, r"ball must be Ball, as Linf\(8/255\), got 0.3"),
        ({"ball": L1(3.0)}, r"ball must be one whose moves change all pixels, such as Linf\(8/255\), got L1"),
        ({"ball": L0(3)}, "ball must be one whose moves change all pixels"),
        ({"replays": 0}, "replays must be at least 1, got 0"),
        ({"replays": 2.5}, "replays must be a whole number, got 2.5"),
        ({"replays": "many"}, "replays must be a number, got 'many'"),
        ({"eps_warmup": 1.5}, r"eps_warmup is a share of the training and must lie in \[0, 1\], got 1.5"),
    ],
)
def test_impossible_settings_are_refused_in_one_line(settings, message):
    with pytest.raises(ValueError, match=f"^{message}[^\n]*$"):
        FreeAdversarialTraining(**{"ball": Linf(EPS)} | settings)
