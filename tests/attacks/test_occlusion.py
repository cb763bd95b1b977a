"""Rectangular occlusion finds the window that numpy finds, changes nothing else, and training against it lasts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poisonjax.attacks import PGD, ROA, KLDivergence, Linf, PatchAttack
from poisonjax.data import load
from poisonjax.data.subsets import Stratified
from poisonjax.models import WongCNN
from poisonjax.poisons import BadNets, BrightSquare, poisoned
from poisonjax.training import Adam, AdversarialTraining, Cosine, Training, eval_logits, fit
from poisonjax.types import Cost, Examples, to_unit
from tests.attacks.references import robust_accuracy, victim
from tests.training.test_fit import Callbacks, Memory

ATTACK = ROA(6, places=6, steps=8)
KEYS = jax.random.split(jax.random.key(0), 32)


def by_hand(attack, logits_fn, x, y):
    """The corner of the window of the highest loss for each image, by loops."""
    rows, columns = (
        [round(float(c)) for c in np.linspace(0, side - attack.size, attack.places)] for side in x.shape[1:3]
    )
    found = []
    for image, label in zip(np.asarray(x), np.asarray(y), strict=True):
        losses = {}
        for row in rows:
            for column in columns:
                hidden = image.copy()
                hidden[row : row + attack.size, column : column + attack.size] = attack.fill
                logits = np.asarray(logits_fn(hidden[None]), np.float64)[0]
                losses[row, column] = np.log(np.sum(np.exp(logits - logits[label])))
        found.append(max(losses, key=losses.get))
    return found


def changed(x_adv, x):
    """Which pixels of each image differ, [b h w]."""
    return np.any(np.asarray(x_adv) != np.asarray(x), axis=-1)


def test_the_window_is_the_one_that_loops_find():
    rng = np.random.default_rng(0)
    weights, x, y = rng.normal(size=(9 * 8, 3)), rng.random((6, 9, 8, 1), np.float32), np.arange(6) % 3
    attack = ROA(3, places=4, steps=4, random_start=False, fill=0.25)

    def logits_fn(x):
        return jnp.tanh(x.reshape(len(x), -1) @ weights)

    x_adv = attack(logits_fn, x, y, jax.random.key(0))
    for pixels, (row, column) in zip(changed(x_adv, x), by_hand(attack, logits_fn, x, y), strict=True):
        assert pixels[row : row + 3, column : column + 3].sum() == pixels.sum() > 0


@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_one_window_changes_within_the_budget_and_a_row_by_itself(scale):
    net = victim()
    run = jax.jit(lambda x, y, keys: ATTACK(net.logits_fn, x, y, keys, scale))
    x_adv = run(net.x, net.y, KEYS)
    assert x_adv.min() >= 0 and x_adv.max() <= 1 and np.abs(x_adv - net.x).max() <= scale + 1e-6
    windows = ATTACK.windows(net.x.shape[1:])[..., 0]
    inside = (windows[None] | ~changed(x_adv, net.x)[:, None]).all((2, 3))  # [b windows]
    assert inside.any(1).all() and changed(x_adv, net.x).any((1, 2)).all()
    np.testing.assert_array_equal(x_adv, run(net.x, net.y, KEYS))
    part = ATTACK(net.logits_fn, net.x[4:6], net.y[4:6], KEYS[4:6], scale)
    np.testing.assert_allclose(x_adv[4:6], part, atol=1e-5)


def test_it_is_worse_than_a_patch_at_a_random_place():
    net = victim()
    random_place = PatchAttack(6, search=PGD(Linf(1.0), steps=8))
    worst, random = (
        robust_accuracy(net.logits_fn, attack(net.logits_fn, net.x, net.y, KEYS), net.y)
        for attack in (ATTACK, random_place)
    )
    assert worst < random - 0.2


def test_places_reach_every_edge_and_leave_no_gap():
    windows = ROA(5, places=9).windows((28, 20, 3))
    assert windows.shape == (81, 28, 20, 1) and (windows.sum((1, 2, 3)) == 25).all()
    for row in range(26):  # any 3 x 3 pixels lie in a window of 5 x 5, as these are at most 3 apart
        for column in range(18):
            assert windows[:, row : row + 3, column : column + 3].all((1, 2, 3)).any()


def test_windows_that_are_equally_bad_are_drawn():
    x = jnp.full((64, 8, 8, 1), 0.5)
    attack = ROA(2, places=4, steps=1, random_start=True)
    x_adv = attack(
        lambda x: jnp.stack([x.sum((1, 2, 3)) * 0 + 50, 0 * x[:, 0, 0, 0]], 1), x, np.zeros(64, int), KEYS[0]
    )
    assert len({tuple(np.argwhere(pixels)[0]) for pixels in changed(x_adv, x)}) > 8


def test_it_declares_what_training_and_masking_rely_on():
    assert ATTACK.cost == Cost(gradients=8, queries=36) and ATTACK.max_distance == 1.0
    assert not ATTACK.climbs and not ATTACK.single_step and dataclasses.replace(ATTACK, steps=1).single_step
    net = victim()
    divergence = dataclasses.replace(ATTACK, loss=KLDivergence())  # as TRADES has it
    p = jax.nn.softmax(net.logits_fn(net.x))
    assert np.mean(KLDivergence()(net.logits_fn(divergence(net.logits_fn, net.x, p, KEYS)), p)) > 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 0}, "size must be at least 1"),
        ({"places": 0}, "places must be at least 1"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"fill": 1.5}, r"fill must lie in \[0, 1\], got 1.5"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(ATTACK, **change)
    with pytest.raises(ValueError, match="a window of 9 pixels does not fit images of shape"):
        ROA(9)(lambda x: x.reshape(len(x), -1), jnp.zeros((1, 8, 9, 1)), np.zeros(1, int), KEYS[0])


def test_training_against_it_keeps_triggered_accuracy_where_training_against_pgd_does_not(data_dir):
    """BadNets to class 0 with a square of 3 x 3, on a thousand images."""
    whole, poison, model = load("mnist_5k", data_dir), BadNets(0.1, 0, BrightSquare(3)), WongCNN((4, 8), 32)
    train = Examples(*map(jnp.asarray, Stratified(1000)(whole.train)))
    rows = jnp.flatnonzero(poison.select(train.label, jax.random.key(0)))
    learnt = Examples(*map(np.asarray, poisoned(poison.apply, train, train.index[rows])))
    settings = Training(batch=50, epochs=12, optimizer=Adam(8e-3, Cosine()))
    others = whole.test.label != 0
    x, y = to_unit(jnp.asarray(whole.test.image[others])), whole.test.label[others]

    def accuracies(attack):
        keys = jax.random.key(1), jax.random.key(2)
        made = fit(model, AdversarialTraining(attack, 0.3), settings, learnt, keys, Memory(), Callbacks())
        logits_fn = eval_logits(model, made.state)
        return [np.mean(np.argmax(logits_fn(images), -1) == y) for images in (x, poison.apply_trigger(x))]

    (clean, triggered), (_, of_pgd) = map(accuracies, (ROA(7, places=6, steps=3), PGD(Linf(0.3), steps=5)))
    assert clean > 0.8 and triggered > 0.4 and of_pgd < 0.1
