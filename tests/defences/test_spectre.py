"""SPECTRE's scores against a plain reading, and what they find in the features of a real network."""

import functools

import numpy as np
import pytest
import tiny
from scipy import linalg
from sklearn.metrics import roc_auc_score

from poisonjax.defences import SPECTRE
from poisonjax.defences.by_class import features
from poisonjax.defences.spectral_signatures import spectral_scores
from poisonjax.defences.spectre import deviations, entropy_scores, moments, principal, robust_moments, whitened
from poisonjax.poisons import SIG, AdaptiveBlend, BadNets, BrightSquare


def mixture(poisoned=60, rows=400, size=6, seed=0):
    """Rows of normal distributions of several scales, and a tight group apart along a direction of small variance."""
    rng, truth = np.random.default_rng(seed), np.arange(rows) < poisoned
    scales = 2.0 ** -np.arange(size)
    found = rng.normal(size=(rows, size)) * scales
    found[truth, -1] = found[truth, -1] / 5 + 8 * scales[-1]
    return found + 5.0, truth, scales**2


@pytest.mark.parametrize("alpha", [0.0, 4.0])
def test_scores_are_those_of_the_paper(alpha):
    """Matrix functions in full, where ours works with eigenvalues."""
    rows, truth, _ = mixture()
    mean, covariance = moments(rows[~truth])
    white = (rows - mean) @ linalg.inv(linalg.sqrtm(covariance)).real
    second = white.T @ white / len(white)
    weights = linalg.expm(alpha * (second - np.eye(6)) / (np.linalg.norm(second, 2) - 1))
    expected = [row @ weights @ row / np.trace(weights) for row in white]
    np.testing.assert_allclose(entropy_scores(rows, mean, covariance, alpha), expected, rtol=1e-8)


def test_rows_that_none_stand_out_of_have_distances_as_scores():
    rows = np.random.default_rng(0).normal(size=(50, 3))
    mean, covariance = moments(rows)
    distances = np.sum(whitened(rows, mean, covariance) ** 2, 1)
    np.testing.assert_allclose(entropy_scores(rows, mean, 4 * covariance, 4.0), distances / 4 / 3, rtol=1e-8)


def test_deviations_are_by_the_form_that_varies_most():
    """The top eigenvector of the covariance of y y', of 36 x 36; ours is after a few steps towards it."""
    rows, truth, _ = mixture(poisoned=20)
    white = whitened(rows, *moments(rows))
    products = np.einsum("ij,ik->ijk", white, white).reshape(len(white), -1)
    _, vectors = np.linalg.eigh(np.cov(products.T))
    values = products @ vectors[:, -1]
    expected = np.abs(values - np.median(values))
    assert np.corrcoef(deviations(white), expected)[0, 1] > 0.99
    assert roc_auc_score(truth, deviations(white)) > 0.99


def test_the_robust_estimate_is_that_of_the_clean_rows():
    rows, _, variances = mixture()
    shifted, robust = np.diag(moments(rows)[1])[-1], np.diag(robust_moments(rows, 100)[1])[-1]
    assert shifted > 5 * variances[-1] and 0.5 < robust / variances[-1] < 1.5


def test_principal_components_leave_out_what_does_not_vary():
    rows = np.random.default_rng(0).normal(size=(30, 3)) @ np.diag([3.0, 1.0, 1e-4])
    found = principal(rows, 10)
    centred = rows - rows.mean(0)
    np.testing.assert_allclose(found @ found.T, centred[:, :2] @ centred[:, :2].T, atol=1e-2)
    assert found.shape == (30, 2) and principal(rows, 1).shape == (30, 1) and not principal(np.ones((5, 2)), 3).any()


def test_a_group_along_a_small_direction_is_found_where_spectral_signatures_do_not_look():
    rows, truth, _ = mixture()
    assert roc_auc_score(truth, SPECTRE(0.15).look(rows).scores) > 0.99
    assert roc_auc_score(truth, spectral_scores(rows)) < 0.6


def test_of_the_classes_the_one_with_a_group_apart_is_the_target():
    """Others lose nothing with `single_target`, and all lose the stated share without it."""
    rows = [mixture(poisoned=60 if label == 1 else 0, seed=label)[0] for label in range(3)]
    context = tiny.looked_at(np.concatenate(rows), np.repeat(np.arange(3), 400))
    for single, lost in ((True, [0, 90, 0]), (False, [90, 90, 90])):
        kept = SPECTRE(0.15, single_target=single).select(context).examples
        np.testing.assert_array_equal(400 - np.bincount(kept.label), lost)
        assert not np.isin(np.arange(400, 460), kept.index).any()


def test_classes_of_few_rows_lose_none():
    context = tiny.looked_at(np.random.default_rng(0).normal(size=(10, 4)), np.zeros(10, int))
    kept, suspicion = SPECTRE().select(context)
    assert len(kept.label) == 10 and not suspicion.any()


@pytest.fixture(scope="module")
def target(data_dir, tmp_path_factory):
    """Of a poison: the features of class 0 in a network that learnt it, and which rows are poisoned."""

    @functools.cache
    def of(poison):
        context, truth = tiny.poisoned(tmp_path_factory.mktemp("spectre"), data_dir, poison)
        found = context.map(features, context.fit("judge", SPECTRE().judge, context.train), context.train)
        return found[context.train.label == 0], truth[context.train.label == 0]

    return of


@pytest.mark.parametrize("poison", [BadNets(0.02, 0, BrightSquare(3)), AdaptiveBlend(0.02, 0.02)])
def test_a_backdoor_is_found_in_the_features_of_a_network(poison, target):
    """A trigger in a sixth of the class: most of the rows dropped bear it, even if it is made against such filters."""
    rows, truth = target(poison)
    scores = SPECTRE(1 / 6).look(rows).scores
    assert truth.sum() == 40 and roc_auc_score(truth, scores) > 0.9
    assert truth[np.argsort(-scores)[:60]].sum() >= 35


def test_rows_with_their_own_label_in_half_of_the_class_are_not_found(target):
    """What it falls to: half of a class is no tail. The network has learnt the trigger from them."""
    rows, truth = target(SIG(0.5))
    assert truth.mean() == 0.5 and roc_auc_score(truth, SPECTRE(1 / 3).look(rows).scores) < 0.7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: SPECTRE(0.4), r"expected must lie in \(0, 1/3\]"),
        (lambda: SPECTRE(components=0), "components must be at least 1, got 0"),
        (lambda: SPECTRE(alpha=-1.0), "alpha must not be negative, got -1.0"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        change()
