"""Filters of training rows: what they score, and that they find a plain group and spare a plain class."""

from types import SimpleNamespace

import numpy as np
import pytest

from poisonjax.defences import SPECTRE, ActivationClustering, IsolationForest, Reveal, Selection, SpectralSignatures
from poisonjax.defences.by_class import by_class
from poisonjax.defences.spectral_signatures import spectral_scores
from poisonjax.evaluation.detection import DETECTION, detection
from poisonjax.training import Standard, Training
from poisonjax.types import Examples

ROWS, POISONED = 200, 40  # of each of three classes; of class 1


def context(seed=0, poisoned=POISONED, shift=6.0):
    """Three classes whose features are normal, some rows of class 1 apart; their "loss" is the first feature."""
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(3), ROWS).astype(np.int32)
    rows = rng.normal(size=(len(label), 16)) + 3 * np.eye(16)[label]
    truth = (label == 1) & (np.arange(len(label)) - ROWS < poisoned)
    rows[truth] -= shift
    looks = {"features": rows, "log_losses": rows[:, 0], "confidence": np.where(truth, 0.9, 0.5)}
    return truth, SimpleNamespace(
        train=Examples(np.zeros((len(label), 2, 2, 1), np.uint8), label, np.arange(len(label), dtype=np.int32)),
        classes=3,
        fit=lambda name, objective, examples, **given: name,
        training=Training(),
        map=lambda fn, network, examples: looks[fn.__name__],
    )


FILTERS = [
    SpectralSignatures(0.14),
    SPECTRE(0.14),
    ActivationClustering(),
    Reveal((Standard(), Standard())),
]
SHARES = 2  # of them drop a share of every class


@pytest.mark.parametrize("defence", FILTERS, ids=lambda each: type(each).__name__)
def test_a_group_apart_is_found_and_scored_highest(defence):
    truth, given = context()
    examples, suspicion = defence.select(given)
    assert isinstance(defence.select(given), Selection) and suspicion.shape == truth.shape
    dropped = ~np.isin(given.train.index, examples.index)
    assert dropped[truth].all() and detection(suspicion, truth)["auroc"] > 0.97
    np.testing.assert_array_equal(examples.label, given.train.label[examples.index])


@pytest.mark.parametrize("defence", FILTERS[SHARES:], ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("seed", range(5))
def test_clean_classes_lose_at_most_a_hundredth(defence, seed):
    _, given = context(seed, poisoned=0)
    assert len(defence.select(given).examples.label) >= 0.99 * 3 * ROWS


def test_an_isolation_forest_finds_outliers_of_images_and_of_rows():
    """Ten rows of class 1 have other values than all others; the share is of each class."""
    truth, given = context(poisoned=10)
    rows = np.random.default_rng(0).normal(128, 10, (len(truth), 4)) + np.where(truth, 90, 0)[:, None]
    for shape in ((4,), (2, 2, 1)):
        given.train = given.train._replace(image=rows.astype(np.uint8).reshape(-1, *shape))
        kept, suspicion = IsolationForest(share=0.1).select(given)
        assert detection(suspicion, truth)["auroc"] > 0.95 and not truth[kept.index].any()
        np.testing.assert_array_equal(np.bincount(kept.label), [180, 180, 180])
    few = IsolationForest().suspicion(rows[:5])
    np.testing.assert_array_equal(few, [-1] * 5)


def test_spectral_signatures_drop_the_stated_share_of_every_class():
    _, given = context()
    kept = SpectralSignatures(0.1).select(given).examples
    np.testing.assert_array_equal(np.bincount(kept.label), [170, 170, 170])


def test_spectral_scores_are_those_of_the_centred_covariance():
    """A plain reading of algorithm 1: the projection on the first eigenvector of the covariance."""
    rows = np.random.default_rng(0).normal(5.0, 1.0, (60, 4)) * [1, 2, 3, 4]
    centred = rows - rows.mean(0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    np.testing.assert_allclose(spectral_scores(rows), (centred @ vectors[:, -1]) ** 2, rtol=1e-6)


@pytest.mark.parametrize("defence", FILTERS, ids=lambda each: type(each).__name__)
def test_features_that_are_not_finite_are_refused(defence):
    _, given = context()
    given.map = lambda fn, network, examples: np.full((600, 16) if fn.__name__ == "features" else 600, np.nan)
    with pytest.raises(ValueError, match="not all finite"):
        defence.select(given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: SpectralSignatures(0.7), "expected must lie in"),
        (lambda: IsolationForest(share=0.6), "share must lie in"),
        (lambda: IsolationForest(trees=0), "trees must be at least 1"),
        (lambda: ActivationClustering(components=0), "components must be at least 1"),
        (lambda: ActivationClustering(size=0.6), "size must lie in"),
        (lambda: ActivationClustering(silhouette=2), "silhouette must lie in"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        change()


def test_by_class_gives_each_row_its_own_value():
    labels, rows = np.array([2, 0, 2, 0, 5]), np.arange(5.0)
    np.testing.assert_array_equal(by_class(rows, labels, lambda of: of - of.mean()), [-1, -1, 1, 1, 0])


def test_detection_counts_at_the_stated_false_positive_rate():
    """Of 100 clean rows one is above 50 of 100 poisoned rows, and five above 80 of them."""
    clean, poisoned = np.zeros(100), np.full(100, 10.0)
    clean[0], clean[1:5], poisoned[:20], poisoned[20:50] = 20.0, 7.0, 5.0, 8.0
    found = detection(np.concatenate([clean, poisoned]), np.repeat([False, True], 100))
    assert found["tpr_at_0.01"] == 0.8 and found["tpr_at_0.05"] == 1.0 and 0.9 < found["auroc"] < 1
    assert detection(clean, np.zeros(100, bool)) == dict.fromkeys(DETECTION)
    scores, kind = np.concatenate([clean, poisoned, np.full(50, 30.0)]), np.repeat([0, 1, 2], [100, 100, 50])
    assert detection(scores, kind == 1, kind != 2) == found and detection(scores, kind == 1)["auroc"] < found["auroc"]
    with pytest.raises(ValueError, match="not finite"):
        detection(np.array([np.nan, 0.0]), np.array([True, False]))
