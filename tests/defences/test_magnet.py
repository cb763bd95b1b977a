"""MagNet rejects as many clean images as stated and stops an attack on the bare network, but not one that knows it."""

from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from scipy import stats
from scipy.spatial.distance import jensenshannon

from poisonjax.attacks import PGD, CarliniWagner, Linf, evade, with_rejection
from poisonjax.data import load
from poisonjax.defences import (
    Context,
    Defence,
    Divergence,
    MagNet,
    Reconstruction,
    ReconstructionError,
    Shield,
    magnet_cifar10,
    shielded,
)
from poisonjax.defences.magnet import jensen_shannon, threshold, worst
from poisonjax.evaluation.robustness import evaluate
from poisonjax.evaluation.victim import REJECTED, function_victim, network_victim
from poisonjax.models import DenoisingAutoencoder, Network
from poisonjax.overrides import from_json, to_json
from poisonjax.training import Adam, Losses, Standard, Training, fit
from poisonjax.training.objectives import Keys, Learner, Outputs
from poisonjax.types import Examples, take, to_unit

CLASSIFIER, CLEAN, IMAGES = 1500, 600, 500  # training rows, clean rows, test rows
RATE = 0.05


class MLP(Network):
    """A classifier, or an autoencoder, of one hidden layer."""

    hidden: int = 64
    classes: int = 10
    pixels: bool = False

    @nn.compact
    def __call__(self, x, train=False, keys=None):
        hidden = nn.relu(nn.Dense(self.hidden)(x.reshape(len(x), -1)))
        out = nn.Dense(self.classes)(hidden)
        return nn.sigmoid(out) if self.pixels else out, hidden


NARROW, WIDE = MLP(32, pixels=True), MLP(64, pixels=True)
DEFENCE = MagNet(
    (ReconstructionError(2, NARROW, RATE), Divergence(10.0, NARROW, RATE)),
    NARROW,
    training=Training(30, 100, Adam(3e-3)),
)


def fitted(name, objective, rows, *, model, training, start=None):
    store = SimpleNamespace(latest=lambda like: None, save=lambda *checkpoint: None)
    watch = SimpleNamespace(
        begin=lambda *images: None, advance=lambda images: None, epoch=lambda row: None, stop_requested=lambda: False
    )
    keys = jax.random.key(0), jax.random.key(1)
    return network_victim(model, fit(model, objective, training, rows, keys, store, watch).state)


@pytest.fixture(scope="module")
def images(data_dir):
    """Rows of the classifier, clean rows, and test images, of 14 x 14 pixels."""
    whole = load("mnist_5k", data_dir)

    def some(rows, start, count):
        picked = take(rows, np.random.default_rng(0).permutation(len(rows.label))[start : start + count])
        return picked._replace(image=np.asarray(picked.image)[:, ::2, ::2])

    clean = some(whole.train, CLASSIFIER, CLEAN)
    return SimpleNamespace(train=some(whole.train, 0, CLASSIFIER), clean=clean, test=some(whole.test, 0, IMAGES))


@pytest.fixture(scope="module")
def victim(images):
    return fitted("classifier", Standard(), images.train, model=MLP(), training=Training(50, 6, Adam(4e-3)))


@pytest.fixture(scope="module")
def defended(images, victim):
    context = Context(images.train, 10, 300, jax.random.key(3), fitted, MLP(), Training(), images.clean)
    return shielded(victim, DEFENCE.shield(victim, context))


def said(victim, x):
    return np.asarray(jax.jit(lambda victim, x: victim.classify(x, victim.logits(x)))(victim, x))


@pytest.fixture(scope="module")
def attacked(images, victim, defended):
    """24 test images that both networks classify as labelled, and their labels."""
    x, y = to_unit(jnp.asarray(images.test.image)), images.test.label
    right = np.flatnonzero((said(victim, x) == y) & (said(defended, x) == y))[:24]
    return x[right], y[right]


def wins(victim, x, y):
    """The share of images that are neither rejected nor classified as labelled."""
    predicted = said(victim, x)
    return np.mean((predicted != y) & (predicted != REJECTED))


def test_clean_images_are_rejected_at_the_stated_rates(images, defended):
    """The count of held-out images above the k-th largest of m scores is beta-binomial with k and m + 1 - k."""
    x, count = to_unit(jnp.asarray(images.test.image)), CLEAN // 2
    rank = int(RATE * (count + 1))
    low, high = stats.betabinom(IMAGES, rank, count + 1 - rank).interval(0.9999)
    scores, limits = defended.suspicion.args
    found = np.asarray(jax.jit(lambda scores: jnp.stack([score(x) for score in scores], -1))(scores))
    rejected = np.sum(found > limits, 0)
    assert np.all((low <= rejected) & (rejected <= high)), (low, rejected, high)
    assert RATE / 4 < np.mean(said(defended, x) == REJECTED) < 2 * RATE + 0.1
    assert np.mean(np.argmax(defended.logits(x), -1) == images.test.label) > 0.7


ATTACK = PGD(Linf(0.3), step=0.02, steps=30, keep_best=True)


def test_an_attack_on_the_bare_network_fails_and_one_that_knows_the_defence_does_not(victim, defended, attacked):
    x, y = attacked
    naive = jax.jit(lambda victim: ATTACK(victim.logits, x, y, jax.random.key(0)))(victim)
    assert wins(victim, naive, y) > 0.9 and wins(defended, naive, y) < 0.3
    known = evaluate(defended, x, y, evade(defended.suspicion, defended.threshold, ATTACK), jax.random.key(0))
    assert np.mean((known.predictions != y) & (known.predictions != REJECTED)) > 0.6


def test_a_targeted_attack_reaches_its_target_past_the_detectors(defended, attacked):
    x, y = attacked[0], (attacked[1] + 1) % 10
    attack = CarliniWagner(confidence=0.1, learning_rate=0.05, steps=100, searches=3, initial_c=1.0, targeted=True)

    def crafted(defended):
        seen = with_rejection(defended.logits, defended.suspicion, defended.threshold)
        return attack(seen, x, y, jax.random.key(0))

    assert np.mean(said(defended, jax.jit(crafted)(defended)) == y) > 0.8


def test_equal_autoencoders_are_trained_once_on_clean_rows_that_set_no_threshold(images):
    calls, seen = [], []

    def fit(name, objective, rows, *, model, training):
        calls.append((name, objective, model, training, rows.index))
        return function_victim(lambda x: 0.9 * x.reshape(len(x), -1))

    context = SimpleNamespace(
        key=jax.random.key(0),
        clean=images.clean,
        fit=fit,
        map=lambda fn, victim, rows: (seen.append(rows.index), fn(victim, rows))[1],
    )
    defence = MagNet(tuple(ReconstructionError(p, each, RATE) for p, each in ((2, NARROW), (1, WIDE))), NARROW)
    shield = defence.shield(function_victim(lambda x: x.reshape(len(x), -1)), context)
    names, objectives, models, trainings, rows = zip(*calls, strict=True)
    assert names == ("autoencoder0", "autoencoder1") and set(objectives) == {Reconstruction(0.1)}
    assert models == (MLP(32, 196, True), MLP(64, 196, True)) and set(trainings) == {defence.training}
    assert not np.isin(rows[0], seen[0]).any() and sorted([*rows[0], *seen[0]]) == sorted(images.clean.index)
    x = np.float32(np.random.default_rng(0).random((2, 14, 14, 1)))
    np.testing.assert_allclose(shield.logits(x), 0.9 * x.reshape(2, -1), rtol=1e-6)
    limits = shield.suspicion.args[1]
    errors = [np.mean(np.abs(0.1 * x) ** p, (1, 2, 3)) for p in (2, 1)]
    np.testing.assert_allclose(shield.suspicion(x), np.max(np.stack(errors, -1) / limits, -1), rtol=1e-4)


def test_parts_may_be_left_out(images):
    context = SimpleNamespace(
        key=jax.random.key(0),
        clean=images.clean,
        fit=lambda *_, **__: function_victim(lambda x: x.reshape(len(x), -1)),
        map=lambda fn, victim, rows: fn(victim, rows),
    )
    network = function_victim(lambda x: x[:, 0, :2, 0])
    assert MagNet((ReconstructionError(rate=RATE),), None).shield(network, context).logits is None
    alone = MagNet(()).shield(network, context)
    assert alone.suspicion is None and alone.logits is not None and isinstance(alone, Shield)
    with pytest.raises(ValueError, match=r"a rate of 0\.001 needs 999 held-out clean rows, got 300"):
        MagNet().shield(network, context)


def test_the_objective_learns_clean_pixels_from_noisy_ones():
    x, keys = jnp.full((3, 4, 4, 1), 0.5).at[0].set(1.0), jax.random.split(jax.random.key(0), 3)
    shown = []

    def apply(images, noise):
        shown.append(images)
        return Outputs(images.reshape(3, -1), images, {})

    losses: Losses = Reconstruction(0.1)(Learner(None, apply), x, jnp.zeros(3, int), Keys(keys, keys), jnp.float32(0))
    np.testing.assert_allclose(losses.rows, np.mean((shown[0] - x) ** 2, (1, 2, 3)), rtol=1e-5)
    assert shown[0].max() <= 1 and 0.05 < np.std(shown[0][1:]) < 0.15 and np.abs(shown[0][1] - shown[0][2]).max() > 0.05


def test_divergence_is_that_of_scipy():
    rng = np.random.default_rng(0)
    first, second = rng.normal(0, 30, (2, 6, 10)).astype(np.float32)
    for temperature in (1.0, 10.0, 40.0):
        p, q = (np.asarray(jax.nn.softmax(each.astype(float) / temperature)) for each in (first, second))
        ours = jensen_shannon(first / temperature, second / temperature)
        np.testing.assert_allclose(ours, jensenshannon(p, q, axis=-1) ** 2, rtol=1e-3, atol=1e-6)
    both = function_victim(lambda x: first if x.mean() > 0.5 else second)
    flipped, x = function_victim(lambda x: 1 - x.reshape(len(x), -1)), np.ones((6, 2, 2, 1), np.float32)
    np.testing.assert_allclose(Divergence(10.0)(both, flipped, x), jensen_shannon(first / 10, second / 10), rtol=1e-6)


def test_thresholds_are_order_statistics():
    scores = np.random.default_rng(0).permutation(59) / 59.0
    assert threshold(scores, 0.05) == np.float32(56 / 59)  # the third largest of 59: three of 60
    assert threshold(scores, 1 / 60) == np.float32(58 / 59)
    with pytest.raises(ValueError, match=r"a rate of 0\.01 needs 99 held-out clean rows, got 59"):
        threshold(scores, 0.01)


def test_an_image_is_suspicious_where_any_detector_finds_it_so():
    scores = Partial(lambda x: x[:, 0]), Partial(lambda x: x[:, 1])
    found = worst(scores, jnp.array([2.0, 0.0]), jnp.array([[1.0, 0.0], [3.0, 0.0], [1.0, 0.1]]))
    np.testing.assert_array_equal(found > 1, [False, True, True])


def test_settings_survive_a_record():
    for defence in (MagNet(), magnet_cifar10(), DEFENCE):
        assert from_json(to_json(defence), Defence) == defence


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: MagNet(noise=-0.1), "noise must not be negative, got -0.1"),
        (lambda: MagNet(held_out=1.0), r"held_out is a share .* \(0, 1\), got 1.0"),
        (lambda: MagNet((), None), "needs a detector or a reformer"),
        (lambda: ReconstructionError(0.5), "power must be at least 1, got 0.5"),
        (lambda: ReconstructionError(rate=0), r"rate is a share .* \(0, 1\), got 0"),
        (lambda: Divergence(0.0), "temperature must be above 0, got 0.0"),
        (lambda: Divergence(rate=1.0), r"rate is a share .* \(0, 1\), got 1.0"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        change()


def test_too_few_clean_rows_are_refused():
    one = Examples(np.zeros((1, 4, 4, 1), np.uint8), np.zeros(1, np.int32), np.zeros(1, np.int32))
    with pytest.raises(ValueError, match="leaves no rows on one side of 1 clean rows"):
        MagNet().shield(None, SimpleNamespace(clean=one, key=jax.random.key(0)))
    assert MagNet.needs_clean and DenoisingAutoencoder() == MagNet().reformer
