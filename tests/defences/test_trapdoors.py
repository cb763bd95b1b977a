"""Trapdoors catch an attack that is drawn to them, and not one that keeps away from their signatures."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from poisonjax.attacks import PGD, Linf, with_rejection
from poisonjax.defences import Trapdoors
from poisonjax.evaluation.victim import REJECTED, Victim
from poisonjax.experiment import Arm
from poisonjax.keys import row_keys
from poisonjax.types import Examples
from tests.defences import tiny

CLASSES, N = 4, 60
RNG = np.random.default_rng(0)
TRAIN = Examples(
    RNG.integers(0, 256, (N, 8, 8, 3), np.uint8),
    RNG.integers(0, CLASSES, N).astype(np.int32),
    RNG.permutation(1000)[:N].astype(np.int32),
)


def context(train=TRAIN, clean=None):
    return SimpleNamespace(
        train=train,
        clean=clean,
        classes=CLASSES,
        key=jax.random.key(3),
        map=lambda fn, victim, examples: jax.tree.map(np.asarray, fn(victim, examples)),
    )


def test_copies_bear_the_pattern_of_the_class_that_they_are_labelled_with():
    defence = Trapdoors(clusters=2, ratio=0.25, inject=1 / 3)
    learnt = defence.select(context())
    own, copies = (Examples(*(field[part] for field in learnt)) for part in (np.s_[:N], np.s_[N:]))
    assert all(map(np.array_equal, own, TRAIN)) and len(copies.label) == N / 2
    assert learnt.image.dtype == np.uint8 and learnt.label.dtype == learnt.index.dtype == np.int32
    source = np.array([np.flatnonzero(TRAIN.index == -1 - index)[0] for index in copies.index])
    assert len(set(source)) == N / 2 and (copies.label != TRAIN.label[source]).all()
    covered, pattern = defence.patterns(jax.random.split(jax.random.key(3), 3)[0], CLASSES, (8, 8, 3))
    for image, label, row in zip(copies.image, copies.label, source, strict=True):
        blended = 0.25 * 255 * pattern[label] + 0.75 * TRAIN.image[row]
        wanted = np.where(covered[label], blended, TRAIN.image[row])
        assert np.abs(image - wanted).max() <= 0.501


def test_every_class_has_a_pattern_of_its_own_of_squares_of_the_size():
    covered, pattern = Trapdoors(clusters=1, size=3).patterns(jax.random.key(0), 10, (28, 28, 1))
    assert (covered.sum((1, 2, 3)) == 9).all() and len(np.unique(covered, axis=0)) > 5
    assert all(np.ptp(np.nonzero(each)[0]) == np.ptp(np.nonzero(each)[1]) == 2 for each in covered)
    assert pattern.min() >= 0 and pattern.max() <= 1 and not pattern[~covered].any()
    with pytest.raises(ValueError, match=r"3 x 3 pixels needs larger images than \(2, 28\)"):
        Trapdoors().patterns(jax.random.key(0), 10, (2, 28, 1))


def test_copies_have_randomness_of_their_own():
    index = np.concatenate([TRAIN.index, -1 - TRAIN.index])
    keys = jax.random.key_data(jax.jit(lambda index: row_keys(jax.random.key(0), index, 1))(index))
    assert len(np.unique(keys, axis=0)) == 2 * N


FIRST, LAST = RNG.normal(size=(192, 6)).astype(np.float32), RNG.normal(size=(6, CLASSES)).astype(np.float32)


def outputs(x):
    features = jnp.tanh((x.reshape(len(x), -1) - 0.5) @ FIRST)
    return features @ LAST, features


@pytest.mark.parametrize("clean", [None, TRAIN._replace(image=TRAIN.image[::-1])], ids=["training rows", "clean rows"])
def test_suspicion_is_the_cosine_with_the_signature_above_the_threshold(clean):
    """A plain reading of the paper, class by class."""
    defence = Trapdoors(clusters=2, false_positives=0.2)
    learnt = defence.select(context())
    shield = defence.shield(Victim(Partial(outputs)), context(learnt, clean))
    logits, features = map(np.asarray, outputs(learnt.image / np.float32(255)))
    signatures = [features[N:][learnt.label[N:] == label].mean(0) for label in range(CLASSES)]

    def cosines(rows, label):
        return rows @ signatures[label] / np.linalg.norm(rows, axis=1) / np.linalg.norm(signatures[label])

    calm = features[:N] if clean is None else features[:N][::-1]
    said = logits[:N].argmax(1) if clean is None else logits[:N][::-1].argmax(1)
    found = np.asarray(shield.suspicion(jnp.asarray(learnt.image[:N] / np.float32(255))))
    for label in range(CLASSES):
        threshold = np.quantile(cosines(calm[said == label], label), 0.8)
        of = logits[:N].argmax(1) == label
        np.testing.assert_allclose(found[of], cosines(features[:N][of], label) - threshold, atol=1e-5)
    assert shield.threshold == 0 and 0.15 < (found > 0).mean() < 0.25


def test_an_image_of_a_class_that_no_clean_row_is_predicted_as_is_rejected():
    thresholds = Trapdoors().thresholds(np.linspace(0, 1, 101), np.zeros(101, int), 2)
    np.testing.assert_allclose(thresholds, [0.95, -1.0])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"clusters": 0}, "clusters must be at least 1, got 0"),
        ({"size": 0}, "size must be at least 1, got 0"),
        ({"ratio": 0}, r"ratio must lie in \(0, 1\], got 0"),
        ({"inject": 0.6}, r"inject must lie in \(0, 0.5\].*got 0.6"),
        ({"false_positives": 1}, r"false_positives must lie in \(0, 1\), got 1"),
    ],
)
def test_impossible_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        Trapdoors(**setting)


@jax.jit
def judged(victim, x):
    """The logits [b k] and classes [b] of images [b ...]."""
    logits = victim.logits(x)
    return logits, victim.classify(x, logits)


def test_trapdoors_catch_an_attack_but_not_one_that_keeps_away_from_their_signatures(data_dir, tmp_path):
    """The trapdoors are five times as visible as by default, since the network learns from few rows."""
    plain, trapped = Arm("plain"), Arm("trapped", defence=Trapdoors(ratio=0.5))
    run = tiny.job(tmp_path, data_dir, plain, trapped)
    (x, y), attack = tiny.images(run), PGD(Linf(0.3), step=0.01, steps=30, random_start=False, targeted=True)
    targets = (y + 1 + jnp.arange(len(y)) % 9) % 10

    def caught(victim, logits_fn):
        """Share of images that reach their target, and of those that are rejected."""
        shown = tiny.attacked(attack, logits_fn, x, targets)
        logits, said = judged(victim, shown)
        reached, rejected = logits.argmax(-1) == targets, said == REJECTED
        return float(reached.mean()), float((rejected & reached).sum() / reached.sum())

    undefended, found = (tiny.defended(run, arm) for arm in run.experiment.arms)
    victim = found.victim
    assert caught(undefended.victim, undefended.victim.logits)[0] > 0.9
    seen = with_rejection(victim.logits, victim.suspicion, victim.threshold)
    (naive, detected), (adaptive, missed) = caught(victim, victim.logits), caught(victim, seen)
    assert naive > 0.9 and detected > 0.8
    assert adaptive > 0.8 and missed < 0.2
    said = judged(victim, x)[1]
    assert float((said == REJECTED).mean()) < 0.15 and float((said == y).mean()) > 0.7
    assert found.removed["clean_rows_removed"].denominator == 2000
    assert found.removed["clean_rows_removed"].numerator == 0
