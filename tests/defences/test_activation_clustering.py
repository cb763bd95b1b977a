"""Activation clustering by independent components, and with the clusters that it finds classified without them."""

import numpy as np
import pytest
import tiny

from poisonjax.defences import ActivationClustering
from poisonjax.defences.activation_clustering import own_to_other
from poisonjax.poisons import SIG, BadNets, BrightSquare

EVERY = ActivationClustering(silhouette=-1, size=0.5, independent=True)  # asks about a cluster of each class
RECLASSIFIED = ActivationClustering(silhouette=-1, size=0.5, independent=True, reclassification=1.0)


@pytest.mark.parametrize(
    ("said", "ratio"),
    [([0, 0, 1, 2, 1], 1.0), ([0, 0, 0], np.inf), ([4, 4], 0.0), ([0, 1, 2, 3, 4], 1.0), ([0, 0, 0, 3, 3], 1.5)],
)
def test_the_ratio_is_of_the_own_class_to_the_commonest_other(said, ratio):
    assert own_to_other(np.array(said), 0) == ratio


def clusters(said):
    """Three classes, of which 0 and 1 have a cluster of 30 of 100 rows apart, which a network says are of `said`."""
    rng, label = np.random.default_rng(0), np.repeat(np.arange(3), 100)
    apart = (np.arange(300) % 100 < 30) & (label < 2)
    context = tiny.looked_at(rng.normal(size=(300, 8)) + 8 * apart[:, None], label)
    features, seen = context.map, []

    def look(fn, network, examples):
        return features(fn, network, examples) if network == "judge" else np.take(said, examples.label)

    def fit(name, objective, examples):
        seen.append((name, len(examples.label)))
        return name

    context.map, context.fit = look, fit
    return context, apart, seen


def test_a_cluster_that_is_of_its_class_without_it_stays():
    """That of class 0 is said to be of class 0, that of class 1 of class 2."""
    context, apart, seen = clusters([0, 2, 2])
    kept, suspicion = ActivationClustering(reclassification=1.0).select(context)
    dropped = ~np.isin(np.arange(300), kept.index)
    np.testing.assert_array_equal(dropped, apart & (context.train.label == 1))
    np.testing.assert_array_equal(suspicion > 0, dropped)
    assert seen == [("judge", 300), ("without_clusters", 240)]


def test_without_a_cluster_no_network_is_trained():
    context, _, seen = clusters([0, 2, 2])
    kept = ActivationClustering(size=0.2, reclassification=1.0).select(context).examples
    assert len(kept.label) == 300 and seen == [("judge", 300)]


@pytest.mark.filterwarnings("ignore:Number of distinct clusters", "ignore:invalid value encountered in divide")
def test_a_class_without_variance_and_one_in_a_plane_have_no_independent_components_more():
    rows = np.zeros((40, 5))
    assert (ActivationClustering(independent=True).suspicion(rows + 1.0) < 0).all()
    rows[:10, :2] = np.random.default_rng(0).normal(size=(10, 2)) + 20
    assert (ActivationClustering(independent=True).suspicion(rows)[:10] > 0).all()


def removed(defence, context, truth):
    """The poisoned and the clean rows that a filter drops, as shares."""
    dropped = ~np.isin(context.train.index, defence.select(context).examples.index)
    return dropped[truth].mean(), dropped[~truth].mean()


@pytest.mark.filterwarnings("ignore:FastICA did not converge")
def test_the_poisoned_cluster_is_told_from_the_clean_ones(data_dir, tmp_path):
    """Of a cluster of every class next to that of the poison alone goes."""
    context, truth = tiny.poisoned(tmp_path, data_dir, BadNets(0.04, 0, BrightSquare(3)))
    all_of_them, poisoned = removed(EVERY, context, truth), removed(RECLASSIFIED, context, truth)
    assert all_of_them[0] > 0.9 and all_of_them[1] > 0.1
    assert poisoned[0] > 0.9 and poisoned[1] < 0.08


@pytest.mark.filterwarnings("ignore:FastICA did not converge")
def test_rows_with_their_own_label_stay(data_dir, tmp_path):
    """What it falls to: for a network that never saw them they are of their class."""
    context, truth = tiny.poisoned(tmp_path, data_dir, SIG(0.3))
    assert removed(EVERY, context, truth)[0] > 0.5 and removed(RECLASSIFIED, context, truth)[0] < 0.1


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="reclassification must be above 0, or None for none, got 0"):
        ActivationClustering(reclassification=0)
