"""Neural Cleanse: it names the target of a planted backdoor and unlearns it, and is blind to one from all to all."""

import statistics
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from poisonjax.data import mnist_5k
from poisonjax.defences import Inversion, NeuralCleanse, Shield, TriggerInversion, invert_triggers, shielded
from poisonjax.defences.neural_cleanse import _adapted, _Run, anomaly_index, stamp
from poisonjax.evaluation.victim import Victim, network_victim, weights
from poisonjax.models import WongCNN
from poisonjax.poisons import BadNets, BrightSquare
from poisonjax.training import Adam, Standard, Training, fit
from poisonjax.types import Examples, take, to_unit
from tests.training.test_fit import KEYS, Callbacks, Memory

CLASSES, SIDE, TARGET = 6, 12, 2
GAIN = np.linspace(0.9, 1.1, CLASSES, dtype=np.float32)
SEARCH = TriggerInversion(steps=300, batch=64)


def outputs(to_one, to_next, x):
    """The brightest of six bars as the class; a white corner makes it class 2, or moves it to the next.

    to_one, to_next: 0 or 1, which of these backdoors there are.
    """
    bars = 8 * GAIN * x[:, :, :10].reshape(len(x), CLASSES, -1).mean(-1)
    corner = x[:, -2:, -2:].mean((1, 2))
    moved = to_next * jax.nn.sigmoid(20 * (corner - 0.7))
    to_target = to_one * 20 * corner * (jnp.arange(CLASSES) == TARGET)
    return (1 - moved) * bars + moved * jnp.roll(bars, 1, -1) + to_target, None


def planted(to_one, to_next):
    return Victim(Partial(outputs, to_one, to_next))


def bars(number=300):
    """Images [n 12 12 1] in [0, 1] of noise and one brighter bar, with a black corner."""
    x = np.random.default_rng(0).uniform(0, 0.3, (number, SIDE, SIDE, 1)).astype(np.float32)
    label = np.arange(number) % CLASSES
    for row, at in enumerate(2 * label):
        x[row, at : at + 2, :10] += 0.6
    x[:, -2:, -2:] = 0
    return x


def inverted(to_one, to_next):
    return invert_triggers(Partial(Victim.logits, planted(to_one, to_next)), bars(), jax.random.key(0), SEARCH)


def test_the_target_of_a_backdoor_is_flagged_with_the_smallest_trigger():
    found = inverted(1.0, 0.0)
    np.testing.assert_array_equal(found.flagged, np.arange(CLASSES) == TARGET)
    assert found.norms.argmin() == TARGET and 2 * found.norms[TARGET] < np.delete(found.norms, TARGET).min()
    assert found.masks[TARGET].sum() - found.masks[TARGET, -2:, -2:].sum() < 0.5  # it lies in the corner
    assert found.masks.shape == (CLASSES, SIDE, SIDE, 1) and found.patterns.shape == (CLASSES, SIDE, SIDE, 1)


def test_found_triggers_work_as_often_as_is_said():
    found, x = inverted(1.0, 0.0), bars()
    for target, (mask, pattern) in enumerate(zip(found.masks, found.patterns, strict=True)):
        hit = np.argmax(planted(1.0, 0.0).logits(stamp(x, mask, pattern)), -1) == target
        assert hit.mean() == pytest.approx(found.success[target], abs=0.011) and found.success[target] >= 0.99
    np.testing.assert_allclose(found.norms, found.masks.sum((1, 2, 3)))


@pytest.mark.parametrize("to_next", [0.0, 1.0], ids=["no backdoor", "all to all"])
def test_no_class_is_flagged_without_a_single_target(to_next):
    assert not inverted(0.0, to_next).flagged.any()


def test_anomaly_index_is_that_of_the_paper():
    norms = [60.0, 71.0, 16.1, 55.0, 64.5, 90.0, 83.0]
    median = statistics.median(norms)
    deviation = 1.4826 * statistics.median(abs(norm - median) for norm in norms)
    expected = [abs(norm - median) / deviation for norm in norms]
    np.testing.assert_allclose(anomaly_index(np.array(norms)), expected)
    assert not anomaly_index(np.full(5, 3.0)).any()


def test_cost_doubles_after_five_successes_in_a_row_and_falls_after_five_failures():
    reached = [True] * 11 + [False] * 4 + [True] + [False] * 6
    run, costs = _Run(None, None, 1.0, jnp.int32(0), None, None), []
    for step in reached:
        run = _adapted(run, jnp.bool_(step), TriggerInversion())
        costs.append(float(run.cost))
    expected = [1.0] * 4 + [2.0] * 5 + [4.0] * 11 + [4 / 2**1.5] * 2
    np.testing.assert_allclose(costs, expected, rtol=1e-6)


def test_logits_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="diverged"):
        inverted(np.nan, 0.0)


def found(flagged):
    """Triggers of three classes: a white pixel in the first row for class 0, in the second for class 1, and so on."""
    masks = np.zeros((3, 4, 4, 1), np.float32)
    masks[np.arange(3), np.arange(3)] = 1
    nothing = np.zeros(3)
    return Inversion(masks, np.ones_like(masks), nothing, nothing, nothing, np.isin(np.arange(3), flagged))


def test_a_fifth_of_the_rows_is_stamped_and_keeps_its_labels():
    clean = Examples(np.zeros((50, 4, 4, 1), np.uint8), np.arange(50) % 3, np.arange(50))
    rows = NeuralCleanse().stamped(clean, found([0, 2]), jax.random.key(0))
    np.testing.assert_array_equal(rows.label, clean.label)
    white = (rows.image == 255).all((2, 3)).sum(0)
    np.testing.assert_array_equal(white, [5, 0, 5, 0])
    assert not clean.image.any() and (rows.image.any((1, 2, 3)).sum()) == 10


def test_nothing_is_trained_if_nothing_is_flagged():
    clean = Examples(bars(), np.zeros(300, np.int32), np.arange(300))
    given = SimpleNamespace(clean=clean, key=jax.random.key(0), fit=None)
    assert NeuralCleanse(SEARCH).shield(planted(0.0, 1.0), given) == Shield()


MODEL = WongCNN(filters=(4, 8), hidden=16, classes=5)
TRAINING = Training(batch=25, epochs=6, optimizer=Adam(5e-3))


def trained(examples, training, start=None):
    begin = start and weights(start)
    state = fit(MODEL, Standard(), training, examples, KEYS, Memory(), Callbacks(), start=begin).state
    return network_victim(MODEL, state)


def digits():
    """Training, clean and test rows: digits from 0 to 4, of half the resolution."""
    image, label = mnist_5k.splits()["train"]
    rows = np.random.default_rng(0).permutation(np.flatnonzero(label < MODEL.classes))
    few = Examples(image[:, ::2, ::2], label, np.arange(len(label), dtype=np.int32))
    return [take(few, part) for part in np.split(rows, [800, 1300])]


def share_of(network, x, classes):
    """How often the network says these classes [n] of images x [n h w c]."""
    said = jax.jit(lambda network, x: jnp.argmax(network.logits(x), -1))(network, x)
    return float(np.mean(np.asarray(said) == classes))


def test_a_real_backdoor_is_unlearnt():
    """A white square on digits. The threshold is low, as the spread of so few classes may hide one of them."""
    (train, clean, test), poison = digits(), BadNets(0.2, 0, BrightSquare(2), classes=5)
    hit = np.asarray(poison.select(jnp.asarray(train.label), jax.random.key(0)))
    victim = trained(jax.tree.map(lambda a, b: np.concatenate([a[~hit], b[hit]]), train, poison.apply(train)), TRAINING)
    given = SimpleNamespace(
        clean=clean,
        key=jax.random.key(0),
        training=TRAINING,
        fit=lambda name, objective, examples, training, start: trained(examples, training, start),
    )
    defence = NeuralCleanse(TriggerInversion(steps=100, batch=64, outlier=1.0), epochs=2)
    repaired = shielded(victim, defence.shield(victim, given))
    x, others = to_unit(test.image), test.label != 0
    before, after = (share_of(each, poison.apply_trigger(x)[others], 0) for each in (victim, repaired))
    assert before > 0.9 and after < 0.3 and share_of(repaired, x, test.label) > 0.8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: NeuralCleanse(share=0), r"share must lie in \(0, 1\], got 0"),
        (lambda: NeuralCleanse(epochs=0), "epochs must be at least 1, got 0"),
        (lambda: TriggerInversion(steps=0), "steps must be at least 1, got 0"),
        (lambda: TriggerInversion(cost=0.0), "cost must be above 0, got 0.0"),
        (lambda: TriggerInversion(multiplier=1.0), "multiplier must be above 1, got 1.0"),
        (lambda: TriggerInversion(success=1.5), r"success must lie in \(0, 1\], got 1.5"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        change()
