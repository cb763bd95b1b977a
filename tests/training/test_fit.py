"""The loop: every row once an epoch, the same bits however it is cut, and only what an objective says."""

import importlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from poisonjax.attacks import PGD, Linf
from poisonjax.keys import row_keys
from poisonjax.models import ReportCNN, WongCNN
from poisonjax.training import (
    SGD,
    Adam,
    AdversarialTraining,
    Constant,
    Cosine,
    CropFlip,
    Cyclic,
    Interrupted,
    Standard,
    Training,
    fit,
    initial_state,
    make_train_step,
)
from poisonjax.training.prefetch import HostData
from poisonjax.types import Examples, take, to_unit

fitting = importlib.import_module("poisonjax.training.fit")
ATTACK = PGD(Linf(0.2), step=0.1, steps=2)
MODELS = {"plain": WongCNN(filters=(2, 4), hidden=8, classes=3), "dropout": ReportCNN(width=8, classes=3)}
KEYS = jax.random.key(1), jax.random.key(2)


@pytest.fixture(scope="module")
def examples():
    """23 images in three classes of different brightness; batches of 5 leave 3 over."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 23).astype(np.int32)
    image = (rng.integers(0, 80, (23, 12, 12, 1)) + 80 * label[:, None, None, None]).astype(np.uint8)
    return Examples(image, label, np.arange(23, dtype=np.int32))


class Memory:
    """A store of everything that was saved."""

    def __init__(self):
        self.saved = []

    def latest(self, like):
        return self.saved[-1] if self.saved else None

    def save(self, step, state, meta):
        self.saved.append((step, state, meta))


class Callbacks:
    """Asks to stop after so many calls."""

    def __init__(self, calls=None):
        self.calls, self.images, self.rows = calls, [], []

    def begin(self, images, done):
        self.total, self.images = images, [done]

    def advance(self, images):
        self.images.append(images)

    def epoch(self, row):
        self.rows.append(row)

    def stop_requested(self):
        return self.calls is not None and len(self.images) > self.calls


def trained(examples, model="plain", objective=AdversarialTraining(ATTACK, 0.5), store=None, watch=None, **settings):
    settings = Training(**{"batch": 5, "epochs": 2, "optimizer": Adam(0.01)} | settings)
    return fit(
        MODELS[model], objective, settings, examples, KEYS, store or Memory(), watch or Callbacks(), save_every=0
    )


@pytest.fixture(scope="module", params=MODELS)
def whole(request, examples):
    return request.param, trained(examples, request.param)


def test_every_row_is_seen_once_an_epoch(examples):
    store, watch = Memory(), Callbacks()
    trained(examples, store=store, watch=watch)
    ends = [sums["count"] for step, (_, sums), _ in store.saved if step % 5 == 0]
    assert ends == [23, 23] and sum(watch.images) == watch.total == 46
    assert [row["step"] for row in watch.rows] == [5, 10]


def test_progress_begins_before_the_program_compiles(examples, monkeypatch):
    order, watch, compiled = [], Callbacks(), fitting._compiled
    monkeypatch.setattr(fitting, "_compiled", lambda *args: order.append("compiles") or compiled(*args))
    watch.begin = lambda images, done: order.append("begins")
    trained(examples, watch=watch, max_steps=1)
    assert order == ["begins", "compiles"]


def test_order_of_rows_differs_between_epochs(examples):
    run = fitting.program(MODELS["plain"], Standard(), Training(batch=23, epochs=3), 23)
    assert run is fitting.program(MODELS["plain"], Standard(), Training(batch=23, epochs=3), 23)
    order = jax.random.split(KEYS[1])[0]
    first, second = (jax.random.permutation(jax.random.fold_in(order, epoch), 23) for epoch in (0, 1))
    assert (first != second).any() and sorted(first.tolist()) == list(range(23))


SEEN = []


class Watched(nn.Module):
    """Notes what it is trained on."""

    @nn.compact
    def __call__(self, x, train=False, keys=None):
        if train:
            jax.debug.callback(lambda rows: SEEN.append(np.asarray(rows)), x)
        features = x.reshape(len(x), -1)
        return nn.Dense(3)(features), features


def test_short_batch_is_padded_with_other_images(examples):
    """A layer that looks at the whole batch, as BatchNorm does, must not see one image many times."""
    SEEN.clear()
    settings = Training(batch=5, epochs=1)
    made = fit(Watched(), Standard(), settings, examples, KEYS, Memory(), Callbacks(), save_every=0)
    assert [len({row.tobytes() for row in batch}) for batch in SEEN] == [5] * 5
    assert made.images == 23


@pytest.mark.parametrize("pace", [0.0, 1e9])
def test_length_of_a_call_does_not_change_the_result(pace, whole, examples, monkeypatch):
    monkeypatch.setattr(fitting, "CALL_SECONDS", pace)
    model, expected = whole
    made = trained(examples, model)
    chex.assert_trees_all_equal(made.state, expected.state)
    assert made.history == expected.history


def streamed(examples):
    """The same rows, to be read by position."""
    return HostData(examples.index, lambda at: take(examples, at))


def test_streamed_rows_give_the_network_of_rows_on_the_device(whole, examples):
    """Not the same bits: a step of its own is not compiled into those of a loop."""
    model, expected = whole
    made = trained(streamed(examples), model)
    chex.assert_trees_all_close(made.state, expected.state, atol=1e-5)
    assert [row["step"] for row in made.history] == [row["step"] for row in expected.history]
    np.testing.assert_allclose(made.history[1]["train_loss"], expected.history[1]["train_loss"], rtol=1e-4)


def test_streamed_batches_are_those_of_the_device(examples):
    read = []
    source = HostData(examples.index, lambda at: read.append(at) or take(examples, at))
    trained(source, epochs=3)
    settings = Training(batch=5, epochs=3)
    expected = np.concatenate([fitting._order(KEYS[1], epoch, settings, 23) for epoch in range(3)]).reshape(-1, 5)
    assert {tuple(at) for at in read[1:]} == {tuple(at) for at in expected}  # the first is for the shape


def test_stopped_stream_resumes(examples):
    expected, store = trained(streamed(examples), epochs=3), Memory()
    with pytest.raises(Interrupted):
        trained(streamed(examples), store=store, watch=Callbacks(calls=2), epochs=3)
    chex.assert_trees_all_close(trained(streamed(examples), store=store, epochs=3).state, expected.state, atol=1e-6)


@pytest.mark.parametrize("calls", [1, 2, 3, 6, 8])
def test_resumed_run_ends_in_the_same_bits(calls, whole, examples, monkeypatch):
    monkeypatch.setattr(fitting, "CALL_SECONDS", 0.0)
    model, expected = whole
    store = Memory()
    with pytest.raises(Interrupted, match=f"step {calls} of 10, which is saved"):
        trained(examples, model, store=store, watch=Callbacks(calls))
    made = trained(examples, model, store=store)
    chex.assert_trees_all_equal(made.state, expected.state)
    assert made.history == expected.history and made.images == 46


def test_finished_run_is_not_trained_again(whole, examples):
    model, expected = whole
    store, watch = Memory(), Callbacks()
    trained(examples, model, store=store)
    made = trained(examples, model, store=store, watch=watch)
    chex.assert_trees_all_equal(made.state, expected.state)
    assert watch.images == [46]


def test_training_learns(examples):
    made = trained(examples, objective=Standard(), epochs=30)
    assert made.history[-1]["train_accuracy"] > 0.9 > made.history[0]["train_accuracy"]


def test_max_steps_ends_within_an_epoch(examples):
    made = trained(examples, max_steps=7)
    assert int(made.state.step) == 7 and made.images == 33 and made.history[-1]["epoch"] == 7 / 5


def test_the_probe_sees_the_network_after_each_epoch(examples):
    settings = Training(batch=5, epochs=2)
    arguments = MODELS["plain"], Standard(), settings, examples, KEYS, Memory(), Callbacks()
    made = fit(*arguments, probe=lambda state: {"step_seen": int(state.step)})
    assert [row["step_seen"] for row in made.history] == [5, 10]


def test_attack_and_training_use_the_augmented_images(examples):
    model, tx, augment = MODELS["plain"], Adam()(10), CropFlip(2)
    state = initial_state(model, tx, examples.image[0], KEYS[0])
    real, key = jnp.ones(len(examples.label), bool), jax.random.key(5)
    keys = row_keys(jax.random.fold_in(key, 0), examples.index, 2)
    moved = examples._replace(image=augment(jnp.asarray(examples.image), keys))
    objective = AdversarialTraining(ATTACK)
    inside = jax.jit(make_train_step(model, objective, tx, 10, augment))(state, examples, real, key)
    outside = jax.jit(make_train_step(model, objective, tx, 10))(state, moved, real, key)
    np.testing.assert_allclose(inside[1]["loss"], outside[1]["loss"], rtol=1e-5)
    assert not np.array_equal(moved.image, examples.image)


def test_a_step_follows_the_gradient_of_the_mean_loss_over_real_rows(examples):
    model, tx = MODELS["plain"], optax.sgd(0.5)
    state, real = initial_state(model, tx, examples.image[0], KEYS[0]), np.arange(23) < 9

    def loss(params):
        logits, _ = model.apply({"params": params}, to_unit(examples.image[:9]))
        return optax.softmax_cross_entropy_with_integer_labels(logits, examples.label[:9]).mean()

    slope = jax.jit(jax.grad(loss))(state.params)
    expected = jax.tree.map(lambda weight, gradient: weight - 0.5 * gradient, state.params, slope)
    step = jax.jit(make_train_step(model, Standard(), tx, 10))
    made, _ = step(state, jax.tree.map(jnp.asarray, examples), jnp.asarray(real), jax.random.key(0))
    chex.assert_trees_all_close(made.params, expected, rtol=1e-4, atol=1e-6)


def test_padding_rows_do_not_count(examples):
    model, tx = MODELS["dropout"], Adam()(10)
    state, key = initial_state(model, tx, examples.image[0], KEYS[0]), jax.random.key(5)
    step = jax.jit(make_train_step(model, Standard(), tx, 10))
    few = jax.tree.map(lambda field: jnp.asarray(field[:4]), examples)
    padded = jax.tree.map(lambda field: jnp.asarray(np.concatenate([field[:4], field[9:12]])), examples)
    short, sums = step(state, few, jnp.ones(4, bool), key)
    long, more = step(state, padded, jnp.arange(7) < 4, key)
    chex.assert_trees_all_close(short.params, long.params, atol=1e-6)
    chex.assert_trees_all_close(sums, more, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch": 0}, "batch must be above 0, got 0"),
        ({"epochs": -1}, "epochs must be above 0"),
        ({"max_steps": 0}, "max_steps must be above 0"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Training(**settings)


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        (Constant(), {0: 0.1, 20: 0.1, 50: 0.1}),
        (Cosine(), {0: 0.1, 25: 0.05, 50: 0.0}),
        (Cyclic(0.4), {0: 0.0, 10: 0.05, 20: 0.1, 35: 0.05, 50: 0.0}),
    ],
)
def test_schedules_are_where_they_say(schedule, rates):
    rate = schedule(0.1, 50)
    for step, value in rates.items():
        assert rate(step) == pytest.approx(value, abs=1e-7), step


def test_sgd_follows_the_textbook():
    """g + decay w; v = momentum v + g; w - rate (g + momentum v), by hand for two steps."""
    tx = SGD(0.1, momentum=0.5, weight_decay=0.01, schedule=Constant())(10)
    w, g = jnp.float32(2.0), jnp.float32(1.0)
    state, velocity, expected = tx.init(w), 0.0, 2.0
    for _ in range(2):
        update, state = tx.update(g, state, w)
        w = w + update
        slope = 1.0 + 0.01 * expected
        velocity = 0.5 * velocity + slope
        expected -= 0.1 * (slope + 0.5 * velocity)
        assert float(w) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Adam(float("nan")), "learning_rate must be above 0, got nan"),
        (lambda: SGD(0.0), "learning_rate must be above 0, got 0.0"),
        (lambda: SGD(momentum=1.0), r"momentum must lie in \[0, 1\), got 1.0"),
        (lambda: SGD(weight_decay=-1.0), "weight_decay must be at least 0, got -1.0"),
        (lambda: Cyclic(1.0), r"peak is a share of the steps and must lie in \(0, 1\), got 1.0"),
    ],
)
def test_impossible_optimisers_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
