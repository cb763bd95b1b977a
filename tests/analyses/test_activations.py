"""The numbers of clean and triggered activations are right, and about the right images."""

import itertools
import json
import math
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score

from poisonjax.analyses.activations import Activations, Collected, collect, measure, mmd, separation
from poisonjax.evaluation.victim import network_victim
from poisonjax.models import WongCNN
from poisonjax.poisons import BadNets
from poisonjax.runtime import distributed
from poisonjax.training import TrainState
from poisonjax.types import Examples, to_unit

SETTINGS = Activations(per_class=20, permutations=99, perplexity=5, folds=4)
NOTHING = {"linear_probe_auc": 0.5, "silhouette": 0.0, "mmd2": 0.0, "mmd_p_value": 1.0}


def pairs(n, d, seed, shift=0.0, content=0.0, noise=1.0):
    """Clean and triggered rows [n d]: a content of their own that both share, noise, and a shift of the triggered."""
    rng = np.random.default_rng(seed)
    shared = content * rng.normal(size=(n, d))
    clean, triggered = (shared + noise * rng.normal(size=(n, d)) for _ in range(2))
    return clean.astype(np.float32), (triggered + shift).astype(np.float32)


def mmd_by_loops(x, y):
    """Gretton et al. 2012, lemma 6, equation 4, literally."""
    pooled = [row.astype(np.float64) for row in (*x, *y)]
    distances = [np.linalg.norm(a - b) for a, b in itertools.combinations(pooled, 2)]
    x, y, bandwidth, total = pooled[: len(x)], pooled[len(x) :], np.median(distances), 0.0

    def kernel(a, b):
        return math.exp(-(np.linalg.norm(a - b) ** 2) / (2 * bandwidth**2))

    for i, j in itertools.permutations(range(len(x)), 2):
        total += kernel(x[i], x[j]) + kernel(y[i], y[j]) - kernel(x[i], y[j]) - kernel(x[j], y[i])
    return total / (len(x) * (len(x) - 1))


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_mmd_is_the_formula(shift):
    x, y = pairs(6, 3, 0, shift)
    assert mmd(x, y, 1, 0)[0] == pytest.approx(mmd_by_loops(x, y), abs=1e-12)


def test_mmd_is_unbiased_even_for_pairs_that_share_an_image():
    values = [mmd(*pairs(8, 3, seed, content=2.0), 1, 0)[0] for seed in range(300)]
    error = np.std(values) / math.sqrt(len(values))
    assert abs(np.mean(values)) < 3 * error and error < 0.005


def test_p_value_is_the_share_of_swaps_within_pairs_that_do_as_well():
    x, y = pairs(5, 2, 4, shift=0.8, content=1.0)  # sums of the swaps that do exactly as well differ in the last bit
    both, observed = np.stack([x, y]), mmd_by_loops(x, y)
    swapped = [both[[choice, 1 - np.array(choice)], range(5)] for choice in itertools.product((0, 1), repeat=5)]
    share = np.mean([mmd_by_loops(*one) >= observed - 1e-12 for one in swapped])
    assert 2 / 32 < share < 0.5  # more than nothing swapped and all swapped, which do exactly as well
    assert mmd(x, y, 20_000, 0)[1] == pytest.approx(share, abs=0.015)


@pytest.mark.parametrize("content", [0.0, 3.0])
def test_p_value_is_uniform_where_the_trigger_does_nothing(content):
    found = np.array([mmd(*pairs(10, 3, seed, content=content), 99, seed)[1] for seed in range(400)])
    for level in (0.05, 0.25, 0.5):  # within three standard errors
        assert abs(np.mean(found <= level) - level) < 3 * math.sqrt(level * (1 - level) / 400)


def test_a_small_shift_is_seen_behind_large_differences_between_images():
    assert mmd(*pairs(20, 5, 0, shift=0.5, content=3.0, noise=0.1), 99, 0)[1] == 1 / 100


def test_the_same_distribution_cannot_be_told_apart():
    found = [separation(*pairs(20, 5, seed), SETTINGS, 0) for seed in range(20)]
    for name, chance in (("linear_probe_auc", 0.5), ("mmd2", 0.0), ("mmd_p_value", 0.5)):
        values = [one[name] for one in found]
        assert abs(np.mean(values) - chance) < 3 * np.std(values) / math.sqrt(len(values)), name
    assert np.mean([one["silhouette"] for one in found]) == pytest.approx(0, abs=0.05)


def test_shifted_activations_are_told_apart():
    found = separation(*pairs(20, 5, 1, shift=4.0), SETTINGS, 0)
    assert found["linear_probe_auc"] > 0.99 and found["silhouette"] > 0.5
    assert found["mmd2"] > 0.5 and found["mmd_p_value"] == 1 / 100


def test_the_order_of_the_pairs_and_the_names_of_the_groups_do_not_matter():
    clean, triggered = pairs(20, 5, 2, shift=0.5)
    order = np.random.default_rng(0).permutation(20)
    found = separation(clean, triggered, SETTINGS, 0)
    reordered, renamed = (
        separation(*each, SETTINGS, 0) for each in ((clean[order], triggered[order]), (triggered, clean))
    )
    for name in ("silhouette", "mmd2"):
        assert reordered[name] == pytest.approx(found[name], abs=1e-12)
    assert renamed == pytest.approx(found, abs=1e-12)


def test_images_are_not_recognised_from_the_training_folds():
    """Both versions of an image differ by noise only: a probe that saw one with its label errs on the other."""
    data = [pairs(20, 50, seed, content=1.0, noise=0.3) for seed in range(5)]
    groups, split = np.arange(40) >= 20, StratifiedKFold(4, shuffle=True, random_state=0)
    leaking = cross_val_score(LogisticRegression(), np.concatenate(data[0]), groups, cv=split, scoring="roc_auc")
    grouped = [separation(*each, SETTINGS, 0)["linear_probe_auc"] for each in data]
    assert leaking.mean() < 0.2 and abs(np.mean(grouped) - 0.5) < 0.12


def test_the_scale_of_an_activation_does_not_matter_to_the_probe():
    clean, triggered = pairs(20, 5, 3, shift=1.0)
    scale = np.float32([1e4, 1, 1e-4, 1, 1])
    ours, scaled = (separation(clean * by, triggered * by, SETTINGS, 0)["linear_probe_auc"] for by in (1, scale))
    assert scaled == pytest.approx(ours, abs=1e-6)


@pytest.mark.parametrize("row", [np.zeros(7), np.full(7, 1e6), np.random.default_rng(0).normal(size=64)])
@pytest.mark.filterwarnings("error")
def test_activations_that_are_all_equal_say_nothing(row):
    flat = np.tile(np.float32(row), (20, 1))
    assert separation(flat, flat, SETTINGS, 0) == NOTHING


def test_a_trigger_that_changes_nothing_is_not_found():
    clean, _ = pairs(20, 5, 0)
    found = separation(clean, clean, SETTINGS, 0)
    assert found["silhouette"] <= 0 and found | {"silhouette": 0.0} == NOTHING


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nonfinite_activations_give_nan(bad):
    clean, triggered = pairs(20, 5, 0)
    triggered[3, 1] = bad
    found = separation(clean, triggered, SETTINGS, 0)
    assert found.keys() == NOTHING.keys() and all(math.isnan(value) for value in found.values())


@pytest.mark.parametrize(("rows", "others"), [(3, 3), (20, 19)])
def test_too_few_images_or_unpaired_ones_are_refused(rows, others):
    with pytest.raises(ValueError, match=r"one shape \[n d\] with n at least folds, which is 4, got"):
        separation(np.zeros((rows, 5)), np.zeros((others, 5)), SETTINGS, 0)


def collected(*classes):
    clean, triggered = (np.concatenate(each) for each in zip(*classes, strict=True))
    return Collected(clean, triggered, np.repeat(np.arange(len(classes)), [len(clean) for clean, _ in classes]))


def test_result_has_each_class_and_the_mean_of_the_finite_ones():
    broken = (np.full((20, 5), np.nan, np.float32),) * 2
    parts = [pairs(20, 5, 0, shift=4.0), broken, pairs(20, 5, 1)]
    made = measure(collected(*parts), SETTINGS, 7)
    assert made.keys() == NOTHING.keys() and json.dumps(made, allow_nan=False)
    first, last = (separation(*parts[at], SETTINGS, 7) for at in (0, 2))
    for name, metric in made.items():
        assert metric["per_class"] == [first[name], None, last[name]]
        assert metric["mean"] == pytest.approx((first[name] + last[name]) / 2)


def test_result_without_finite_numbers_has_no_mean():
    made = measure(collected((np.full((20, 5), np.nan),) * 2), SETTINGS, 0)
    assert made["mmd2"] == {"mean": None, "per_class": [None]}


@pytest.fixture(scope="module")
def network():
    model = WongCNN(filters=(4, 8), hidden=16)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    return model, TrainState(jnp.int32(0), variables["params"], {}, ())


@pytest.mark.parametrize("poison", [BadNets(target=2), BadNets()])
def test_collected_are_the_activations_of_the_first_images_of_each_class(network, poison):
    (model, state), rng = network, np.random.default_rng(0)
    label = rng.permutation(np.repeat(np.arange(4, dtype=np.int32), (9, 6, 7, 5)))
    examples = Examples(rng.integers(0, 255, (27, 28, 28, 1)).astype(np.uint8), label, np.arange(27, dtype=np.int32))
    settings, heard = Activations(per_class=5, perplexity=3, folds=2), []
    found = collect(
        distributed.replicate(network_victim(model, state)), examples, poison, settings, batch=8, advance=heard.append
    )

    rows = [row for one in range(4) for row in [at for at in range(27) if label[at] == one][:5]]
    np.testing.assert_array_equal(found.labels, label[rows])
    image = to_unit(jnp.asarray(examples.image[rows]))
    for features, shown in ((found.clean, image), (found.triggered, poison.apply_trigger(image))):
        expected = model.apply({"params": state.params}, shown)[1]
        assert isinstance(features, np.ndarray) and features.dtype == np.float32
        np.testing.assert_allclose(features, expected, atol=1e-5)
    assert np.abs(found.clean - found.triggered).max() > 1e-3 and heard == [8, 8, 4]
    clean, triggered = found.of_class(2)  # the target's own images are there, and known by their label
    np.testing.assert_array_equal(clean, found.clean[10:15])
    np.testing.assert_array_equal(triggered, found.triggered[10:15])


@pytest.mark.parametrize(("labels", "said"), [([0] * 5 + [1] * 4, "the 4 test images of class 1"), ([1] * 5, "the 0 ")])
def test_a_class_with_too_few_images_is_refused(network, labels, said):
    (model, state), n = network, len(labels)
    examples = Examples(np.zeros((n, 28, 28, 1), np.uint8), np.int32(labels), np.arange(n, dtype=np.int32))
    settings = Activations(per_class=5, perplexity=3)
    with pytest.raises(ValueError, match=f"per_class must be at most {said}.*, got 5"):
        collect(distributed.replicate(network_victim(model, state)), examples, BadNets(), settings, 8)


def test_a_class_that_was_not_collected_is_refused():
    with pytest.raises(ValueError, match=r"one of those collected, \[0, 1\], got 8"):
        collected(pairs(4, 2, 0), pairs(4, 2, 1)).of_class(8)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"per_class": 4}, "per_class must be at least folds, which is 5, got 4"),
        ({"permutations": 0}, "permutations must be at least 1, got 0"),
        ({"folds": 1}, "folds must be at least 2, got 1"),
        ({"perplexity": 100.0}, "perplexity must be at least 1 and less than the 100 points .*, got 100.0"),
        ({"perplexity": 0.5}, "perplexity must be at least 1"),
        ({"per_class": 15}, "less than the 30 points"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Activations(**settings)


def test_settings_are_read_without_waiting_for_scikit_learn():
    code = "import sys, poisonjax.analyses.activations, poisonjax.analyses.tsne; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0
