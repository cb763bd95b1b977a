"""PatchCleanser: masks that cover every patch, two rounds as in the paper, and a certificate that no patch breaks."""

import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from poisonjax.analyses import CertifiedPatch
from poisonjax.attacks import PGD, Linf
from poisonjax.defences import MaskedTraining, PatchCleanser, shielded
from poisonjax.defences.patch_cleanser import certified, double_masking, inside, mask_set
from poisonjax.evaluation.victim import Victim, function_victim
from poisonjax.training import AdversarialTraining, FreeAdversarialTraining, Losses, Standard
from poisonjax.training.objectives import Keys


@pytest.mark.parametrize("masks", [2, 3, 6])
@pytest.mark.parametrize("shape", [(5, 5, 1), (9, 12, 3), (28, 28, 1)])
def test_every_patch_at_every_place_is_hidden_by_one_mask(shape, masks):
    height, width, _ = shape
    for size in {1, 2, 3, 5, min(shape[:2])}:
        hidden = ~mask_set(shape, size, masks)[..., 0]
        assert len(hidden) <= masks**2 and hidden.shape[1:] == shape[:2]
        for row, column in itertools.product(range(height - size + 1), range(width - size + 1)):
            assert hidden[:, row : row + size, column : column + size].all((1, 2)).any(), (size, row, column)


def test_masks_have_the_sides_and_strides_of_the_paper():
    hidden = ~mask_set((28, 28, 1), 5, 6)[..., 0]
    stride = -(-(28 - 5 + 1) // 6)
    assert len(hidden) == 36 and set(hidden.sum((1, 2))) == {(5 + stride - 1) ** 2}
    assert sorted({int(mask.any(1).argmax()) for mask in hidden}) == [0, 4, 8, 12, 16, 20]


def linear(weights, x):
    """Logits [b k] of a linear network, weights [d k]."""
    return x.reshape(len(x), -1) @ weights


def case(seed, images=60):
    """A linear network of three classes, and images of 7 x 7 that show a class from not at all to plainly."""
    rng = np.random.default_rng(seed)
    weights = rng.choice([-1.0, 1.0], (49, 3))
    plainly = np.linspace(0, 0.5, images)[:, None] * weights.T[rng.integers(0, 3, images)]
    x = np.clip(0.5 + plainly + rng.normal(0, 0.2, (images, 49)), 0, 1).reshape(-1, 7, 7, 1)
    return Partial(linear, jnp.asarray(weights, jnp.float32)), jnp.asarray(x, jnp.float32)


MASKS = mask_set((7, 7, 1), 2, 3)
masked = jax.jit(double_masking, static_argnums=(2, 3))


def two_masks(network, x):
    """The classes of images behind all pairs of masks, [b m m], in NumPy."""
    shown = (MASKS[:, None] & MASKS).reshape(len(MASKS), len(MASKS), -1)
    return np.argmax((np.asarray(x).reshape(len(x), 1, 1, -1) * shown) @ np.asarray(network.args[0]), -1)


def read_from_the_paper(pairs):
    """Algorithm 1 for one image whose classes behind pairs of masks are given [m m], and the case that it ends in."""
    first = np.diag(pairs)
    majority = np.bincount(first).argmax()
    if (first == majority).all():
        return majority, 1
    for said, second in zip(first, pairs, strict=True):
        if said != majority and (second == said).all():
            return said, 2
    return majority, 3


def both(network, x):
    """The outputs of a victim without features."""
    return network(x), None


def test_two_rounds_are_those_of_algorithm_1_in_all_three_cases():
    network, x = case(0, images=400)
    expected, cases = zip(*map(read_from_the_paper, two_masks(network, x)), strict=True)
    assert set(cases) == {1, 2, 3}
    np.testing.assert_array_equal(masked(network, x, 2, 3), expected)
    logits = jax.jit(PatchCleanser(2, 3).shield(Victim(Partial(both, network)), None).logits)(x)
    np.testing.assert_array_equal(logits, 2 * np.eye(3)[list(expected)] - 1)


def test_certificate_is_that_all_two_mask_predictions_are_the_label():
    network, x = case(1)
    labels = jnp.argmax(network(x), -1)
    expected = (two_masks(network, x) == np.asarray(labels)[:, None, None]).all((1, 2))
    assert 5 < expected.sum() < len(x) - 5
    np.testing.assert_array_equal(certified(network, x, labels, 2, 3), expected)


def patched(x):
    """Images [b h w c] with every 2 x 2 patch of black and white pixels at every place: [n b h w c]."""
    views = []
    for row, column in itertools.product(range(x.shape[1] - 1), range(x.shape[2] - 1)):
        for content in itertools.product((0.0, 1.0), repeat=4):
            views.append(np.array(x))
            views[-1][:, row : row + 2, column : column + 2, 0] = np.reshape(content, (2, 2))
    return np.stack(views)


def test_no_patch_changes_what_is_certified_even_on_a_network_with_a_backdoor():
    """The network sees one thing above all: a white pixel in the corner, by which any image gets into class 0."""
    clean, x = case(2, images=20)
    network, x = Partial(linear, clean.args[0].at[-1, 0].add(50.0)), x.at[:, -1, -1].set(0.0)
    labels = np.asarray(jnp.argmax(network(x), -1))
    sure = np.asarray(certified(network, x, labels, 2, 3))
    views = patched(x)
    flat = views.reshape(-1, 7, 7, 1)
    behind, plain = (each.reshape(-1, len(x)) for each in (masked(network, flat, 2, 3), network(flat).argmax(-1)))
    assert sure.sum() >= 3 and (behind[:, sure] == labels[sure]).all()
    assert (behind != labels).any()  # not so on the others
    assert (plain == 0).any(0).all()  # without masks every image falls to the trigger


def test_attacks_by_gradient_see_the_gradient_of_the_network():
    network, x = case(3)
    logits = PatchCleanser(2, 3).shield(Victim(Partial(both, network)), None).logits
    gradient = jax.jit(jax.grad(lambda x: logits(x)[:, 0].sum()))(x)
    np.testing.assert_allclose(gradient.reshape(60, 49), np.tile(network.args[0][:, 0], (60, 1)), rtol=1e-6)


def test_certificate_is_of_the_network_inside_its_masks():
    network, x = case(4)
    victim = Victim(Partial(both, network))
    for one in (victim, shielded(victim, PatchCleanser(2).shield(victim, None)), function_victim(network)):
        np.testing.assert_array_equal(inside(one)(x), network(x))


def test_training_images_stand_behind_two_masks_of_the_set():
    seen = []

    def losses(network, x, y, keys, progress):
        seen.append((x, keys))
        return Losses(jnp.zeros(len(x)), x, {})

    images, keys = jnp.ones((40, 9, 9, 1)), jax.random.split(jax.random.key(0), 40)
    MaskedTraining(losses, 2, 3)(None, images, None, Keys(keys, keys), 0.0)
    [(x, passed)] = seen
    masks = mask_set((9, 9, 1), 2, 3)
    pairs = {(one & two).tobytes() for one, two in itertools.product(masks, masks)}
    given = [np.asarray(image).astype(bool).tobytes() for image in x]
    assert set(given) <= pairs and len(set(given)) > 10
    assert not (jax.random.key_data(passed.attack) == jax.random.key_data(keys)).all(-1).any()


def test_the_objective_of_an_arm_is_kept_behind_the_masks():
    hard = AdversarialTraining(PGD(Linf(0.1), 0.1, 1))
    masked = PatchCleanser(3).objective(hard)
    assert (masked.objective, masked.attack, masked.passes, masked.single_step) == (hard, hard.attack, 1, True)
    free = FreeAdversarialTraining(Linf(0.2), replays=4)
    masked = PatchCleanser(size=5).objective(free)
    assert (masked.replays, masked.carries_perturbation, masked.single_step, masked.attack) == (4, True, True, None)
    np.testing.assert_allclose(masked.ascend(np.zeros(2), np.array([3.0, -1.0]), 1.0), [0.2, -0.2])
    assert PatchCleanser(3, draws=0).objective(Standard()) == Standard()


def test_analysis_counts_what_is_certified():
    analysis, subject = CertifiedPatch(2, 2), SimpleNamespace(seed=0)
    arrays = analysis.arrays(np.array([True, True, True, False]), np.array([True, False, False, False]))
    summary = analysis.summary([analysis.measure(arrays, subject)])
    assert (summary["certified_accuracy"]["mean"], summary["masked_accuracy"]["mean"]) == (0.25, 0.75)
    [table] = analysis.tables({"arm": summary})
    assert table.rows == [["arm", "25.00", "75.00"]] and "no patch of 2 x 2 pixels" in table.notes[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: PatchCleanser(0), "size is the side of a patch in pixels and must be at least 1"),
        (lambda: PatchCleanser(3, masks=1), "masks must be at least 2 a side"),
        (lambda: PatchCleanser(3, draws=-1), "draws must be at least 0"),
        (lambda: MaskedTraining(Standard(), 3, draws=0), "draws must be at least 1"),
        (lambda: CertifiedPatch(3, 1), "masks must be at least 2 a side"),
        (lambda: CertifiedPatch(3, images=0), "images must be at least 1"),
        (lambda: mask_set((5, 8, 1), 6), "size must be at most 5 for images of shape"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        change()
