"""The picture of activations: reproducible, of the right points, with the numbers of the record."""

import io

import numpy as np
import pytest

from poisonjax.analyses import tsne
from poisonjax.analyses.activations import Activations, Collected, measure

SETTINGS = Activations(per_class=6, permutations=19, perplexity=3, folds=2)


def rows(seed, shift=0.0):
    """Clean and triggered [6 4]."""
    clean, triggered = np.random.default_rng(seed).normal(size=(2, 6, 4)).astype(np.float32)
    return clean, triggered + np.float32(shift)


@pytest.fixture(scope="module")
def parts():
    """Two arms and two classes: the trigger moves class 1 of the first arm far away."""
    near, far, other = rows(0), rows(1, 20.0), rows(2)
    labels = np.repeat([0, 1], 6)
    both = ([np.concatenate(each) for each in zip(near, last, strict=True)] for last in (far, other))
    return {name: Collected(*arrays, labels) for name, arrays in zip(("standard", "pgd_at"), both, strict=True)}


@pytest.fixture(scope="module")
def drawn(parts):
    return tsne.figure(parts, SETTINGS, "the title", classes=(1, 0), seed=3)


def test_the_same_seed_gives_the_same_layout():
    wide = np.random.default_rng(0).normal(size=(2, 20, 600))  # so wide that its principal components are drawn for
    first, again = (tsne.embed(*wide, 3, 5) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (40, 2) and np.isfinite(first).all()


def test_groups_that_lie_apart_are_embedded_apart():
    clean, triggered = np.split(tsne.embed(*rows(1, 20.0), 3, 0), 2)
    apart = np.linalg.norm(clean.mean(0) - triggered.mean(0))
    assert apart > 2 * max(np.linalg.norm(group - group.mean(0), axis=1).mean() for group in (clean, triggered))


@pytest.mark.parametrize("perplexity", [0.5, 12, 30.0, float("nan")])
def test_an_impossible_perplexity_is_refused(perplexity):
    with pytest.raises(ValueError, match="perplexity must be at least 1 and less than the 12 points, got"):
        tsne.embed(*rows(0), perplexity, 0)


def test_nonfinite_activations_are_refused():
    with pytest.raises(ValueError, match="some are NaN or infinite"):
        tsne.embed(np.full((6, 4), np.nan), np.zeros((6, 4)), 3, 0)


@pytest.mark.filterwarnings("error")
def test_activations_that_are_all_equal_are_one_point():
    flat = np.full((6, 4), 0.1, np.float32)
    np.testing.assert_array_equal(tsne.embed(flat, flat, 3, 0), np.zeros((12, 2)))


def test_a_row_is_an_arm_and_a_column_a_class(drawn):
    axes = np.reshape(drawn.axes, (2, 2))
    assert [axis.get_ylabel() for axis in axes[:, 0]] == ["standard", "pgd_at"]
    assert [[axis.get_title("left").splitlines()[0] for axis in row] for row in axes] == [["class 1", "class 0"]] * 2
    assert "the title" in [text.get_text() for text in drawn.texts]


def test_the_numbers_are_those_of_the_record(drawn, parts):
    for axis, (arm, label) in zip(drawn.axes, [(arm, label) for arm in parts for label in (1, 0)], strict=True):
        found = {name: one["per_class"][label] for name, one in measure(parts[arm], SETTINGS, 3).items()}
        said = f"AUC {found['linear_probe_auc']:.2f}, MMD² {found['mmd2']:.2g}, p {found['mmd_p_value']:.2g}"
        assert axis.get_title("left").splitlines()[1] == said


def test_each_group_has_its_own_points_shape_and_colour(drawn, parts):
    clean, triggered = drawn.axes[0].collections[:2]
    expected = tsne.embed(*parts["standard"].of_class(1), SETTINGS.perplexity, 3)
    np.testing.assert_allclose(np.concatenate([clean.get_offsets(), triggered.get_offsets()]), expected)
    assert len(clean.get_paths()[0]) != len(triggered.get_paths()[0])
    assert not np.array_equal(clean.get_edgecolor(), triggered.get_facecolor())
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["clean", "triggered"]


@pytest.mark.filterwarnings("error")
def test_broken_and_collapsed_networks_are_drawn_too():
    flat, labels = np.ones((12, 4), np.float32), np.repeat([0, 1], 6)
    broken = np.where(labels[:, None] == 1, np.nan, flat)
    figure = tsne.figure({"arm": Collected(flat, broken, labels)}, SETTINGS, "", classes=(0, 1))
    figure.savefig(io.BytesIO())
    assert figure.axes[0].get_title("left") == "class 0\nAUC 0.50, MMD² 0, p 1"
    assert [text.get_text() for text in figure.axes[1].texts] == ["NaN or infinity"]


def test_class_that_was_not_collected_is_refused(parts):
    with pytest.raises(ValueError, match=r"one of those collected, \[0, 1\], got 8"):
        tsne.figure(parts, SETTINGS, "")
