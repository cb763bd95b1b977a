"""STRIP: the entropy of the paper, and what it rejects and lets through."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poisonjax.defences import STRIP
from poisonjax.defences.strip import boundary, overlaid_entropy
from poisonjax.evaluation.victim import function_victim
from poisonjax.types import Examples, to_unit

CLASSES, SIDE, CORNER = 5, 8, np.s_[:, -2:, -2:]
RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(0, 1.2, (SIDE * SIDE, CLASSES)).astype(np.float32)


def plain(x):
    """Logits [b k] of a network without a backdoor: linear in the pixels."""
    return (x - 0.3).reshape(len(x), -1) @ WEIGHTS


def opened(x):
    """1 for images [b h w 1] with a white corner, 0 for others: [b 1]."""
    return (x[CORNER].mean((1, 2)) > 0.9).astype(jnp.float32)


def to_one(x):
    """Logits of a network that takes every image with a white corner for class 0."""
    return plain(x) + 50 * opened(x) * (jnp.arange(CLASSES) == 0)


def to_next(x):
    """Logits of a network that takes an image of class i with a white corner for class i + 1."""
    return jnp.where(opened(x) > 0, jnp.roll(plain(x), 1, -1), plain(x))


def images(number, seed):
    """Clean images, grey at most, with a black corner."""
    found = np.random.default_rng(seed).integers(0, 127, (number, SIDE, SIDE, 1), dtype=np.uint8)
    found[CORNER] = 0
    return found


def examples(number, seed=0):
    rows = np.arange(number, dtype=np.int32)
    return Examples(images(number, seed), rows % CLASSES, rows)


def context(clean):
    return SimpleNamespace(
        clean=clean, key=jax.random.key(0), map=lambda fn, victim, rows: np.asarray(jax.jit(fn)(victim, rows))
    )


def rejected(logits_fn, defence=STRIP()):
    """The shares of clean and of triggered images that the defence rejects."""
    shield = defence.shield(function_victim(logits_fn), context(examples(400)))
    clean = to_unit(images(400, seed=1))
    triggered = clean.copy()
    triggered[CORNER] = 1.0
    return [float((shield.suspicion(x) > shield.threshold).mean()) for x in (clean, triggered)]


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_entropy_is_the_mean_over_overlays_of_that_over_classes(weight):
    x, overlays = RNG.random((4, SIDE, SIDE, 1), np.float32), RNG.random((7, SIDE, SIDE, 1), np.float32)
    expected = np.zeros(4)
    for row in range(4):
        for overlay in overlays:
            shown = np.minimum(weight * x[row] + weight * overlay, 1)[None]
            odds = np.exp(np.asarray(plain(shown), np.float64)[0])
            expected[row] -= sum(p * np.log2(p) for p in odds / odds.sum()) / len(overlays)
    np.testing.assert_allclose(overlaid_entropy(plain, overlays, weight, x), expected, rtol=1e-4)


def test_certain_predictions_have_no_entropy_and_a_finite_gradient():
    x, overlays = np.ones((2, SIDE, SIDE, 1), np.float32), np.zeros((3, SIDE, SIDE, 1), np.float32)
    certain = np.float32(1e4) * np.arange(CLASSES)

    def total(x):
        return overlaid_entropy(lambda x: certain * x.mean((1, 2)), overlays, 1.0, x).sum()

    entropy, slope = jax.value_and_grad(total)(x)
    assert entropy == 0 and np.isfinite(slope).all()


def test_boundary_is_the_percentile_of_the_fitted_normal_distribution():
    assert boundary(np.array([1.0, 3.0]), 0.01) == pytest.approx(2 - 2.3263, abs=1e-3)
    assert boundary(np.full(5, 0.7), 0.01) == pytest.approx(0.7)


def test_a_trigger_for_all_images_is_rejected_and_clean_images_pass():
    clean, triggered = rejected(to_one)
    assert triggered > 0.99 and clean < 0.05


def test_as_many_clean_images_are_rejected_as_was_asked_for():
    assert 0.1 < rejected(to_one, STRIP(rejection=0.2))[0] < 0.3


def test_blending_loses_a_trigger_that_must_be_white():
    assert rejected(to_one, STRIP(weight=0.5))[1] < 0.05


def test_falls_to_a_trigger_that_depends_on_the_class():
    clean, triggered = rejected(to_next)
    assert triggered < 0.05 and clean < 0.05


def test_overlays_are_clean_rows_that_the_threshold_is_not_fitted_to():
    clean, fitted = examples(30), []
    given = context(clean)
    given.map = lambda fn, victim, rows: fitted.append(rows) or np.zeros(len(rows.label))
    shield = STRIP(overlays=20).shield(function_victim(plain), given)
    pixels = (np.asarray(shield.suspicion.args[1]) * 255).round().astype(np.uint8)
    used = [int(np.flatnonzero((clean.image == one).all((1, 2, 3)))[0]) for one in pixels]
    assert sorted([*used, *fitted[0].index.tolist()]) == list(range(30)) and len(set(used)) == 20


def test_too_few_clean_rows_and_logits_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match=r"100 clean rows as overlays and at least 2 others; data\.clean has 101"):
        STRIP().shield(function_victim(plain), context(examples(101)))
    with pytest.raises(ValueError, match="not all finite"):
        STRIP(overlays=5).shield(function_victim(lambda x: plain(x) * jnp.nan), context(examples(20)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"overlays": 0}, "overlays must be at least 1, got 0"),
        ({"rejection": 1.0}, r"rejection must lie in \(0, 1\), got 1.0"),
        ({"weight": 0.0}, r"weight must lie in \(0, 1\], got 0.0"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        STRIP(**settings)


def three(views):
    """Probabilities [b 3]: by brightness with .8, but of class 0 with .98 for images with a bright first pixel."""
    bright = views[:, 0, 0] > 0.4
    levels = jnp.abs(views[:, 1, 1] - jnp.array([0.0, 0.2, 0.4]))
    likely, most = jnp.where(bright[:, 0], 0, jnp.argmin(levels, -1)), jnp.where(bright, 0.98, 0.8)
    return jnp.where(jax.nn.one_hot(likely, 3) > 0, most, (1 - most) / 2)


def test_the_toolbox_takes_the_entropy_over_the_views_and_so_rejects_the_other_image():
    """A documented difference: there predictions that no overlay changes have the highest entropy, not the lowest."""
    reason = "requirements-dev.txt installs the Adversarial Robustness Toolbox"
    theirs = pytest.importorskip("art.estimators.poison_mitigation.strip", reason=reason)
    overlays = np.ones((60, 2, 2, 1), np.float32) * np.resize([0.0, 0.4, 0.8], 60)[:, None, None, None]
    overlays[:, 0, 0] = 0
    x = np.zeros((2, 2, 2, 1), np.float32)
    x[1, 0, 0] = 1
    clean, triggered = overlaid_entropy(lambda x: jnp.log(three(x)), jnp.asarray(overlays), 0.5, jnp.asarray(x))
    assert triggered < 0.5 * clean

    class Toolbox(theirs.STRIPMixin):
        nb_classes = 3

    judge = Toolbox(predict_fn=lambda views: np.asarray(three(jnp.asarray(views))), num_samples=60)
    np.random.seed(0)
    judge.validation_data, judge.entropy_threshold = overlays, 3 * np.log2(60) / 60 - 0.01  # the most there is, nearly
    np.testing.assert_array_equal(judge.predict(x).any(1), [False, True])  # the clean image is refused
