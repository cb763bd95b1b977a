"""Every poison changes exactly the promised rows, and the same ones in memory and in a stream."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poisonjax.attacks import APGD, L2, PGD, Linf
from poisonjax.poisons import BadNets, CleanLabel, Corners, Crafted, FourPixels, Square, poisoned
from poisonjax.poisons.triggers import stamp
from poisonjax.types import Examples, take, to_unit

ROWS, CLASSES = 203, 10
TRIGGERS = {"four_pixels": (FourPixels, 4), "square": (Square, 9), "corners": (Corners, 36)}


@pytest.fixture(scope="module")
def examples():
    """Random grey images; their index is not their place, as after a subset."""
    rng = np.random.default_rng(0)
    image = rng.integers(60, 190, (ROWS, 12, 14, 1)).astype(np.uint8)
    return Examples(image, rng.integers(0, CLASSES, ROWS).astype(np.int32), np.arange(ROWS, dtype=np.int32) * 3 + 5)


def logits_fn(x):
    return x.reshape(len(x), -1) @ jnp.asarray(np.random.default_rng(1).normal(size=(168, CLASSES)), jnp.float32)


def crafted(poison, examples, chosen):
    rows = take(examples, np.flatnonzero(chosen))
    return Crafted(poison, poison.perturb(logits_fn, rows, jax.random.key(9)))


LINF, TWO = PGD(Linf(0.3), 0.1, 5), PGD(L2(2.0), 0.5, 5, random_start=False)
POISONS = {
    "badnets_all_to_one": BadNets(rate=0.1, target=3),
    "badnets_all_to_all": BadNets(rate=0.25, trigger=Square(4, 0.5)),
    "badnets_every_row": BadNets(rate=1.0, trigger=Corners(0.3)),
    "clean_label_linf": CleanLabel(rate=0.33, target=9, attack=LINF, trigger=Corners(0.25)),
    "clean_label_apgd": CleanLabel(rate=0.5, target=2, attack=APGD(Linf(0.2), steps=5, best_loss=True)),
    "clean_label_l2": CleanLabel(rate=1.0, target=4, attack=TWO),
}


def promised(poison, labels):
    pool = len(labels) if isinstance(poison, BadNets) else int((labels == poison.target).sum())
    return round(poison.rate * pool)


def apply_of(poison, examples, chosen):
    return poison.apply if isinstance(poison, BadNets) else crafted(poison, examples, chosen).apply


@pytest.mark.parametrize("name", POISONS)
def test_exactly_the_promised_rows_change(name, examples):
    poison = POISONS[name]
    chosen = np.asarray(poison.select(jnp.asarray(examples.label), jax.random.key(1)))
    assert chosen.dtype == bool and chosen.sum() == promised(poison, examples.label)
    after = jax.tree.map(np.asarray, poisoned(apply_of(poison, examples, chosen), examples, examples.index[chosen]))
    chex.assert_trees_all_equal_shapes_and_dtypes(after, examples)
    np.testing.assert_array_equal(after.image[~chosen], examples.image[~chosen])
    np.testing.assert_array_equal(after.label[~chosen], examples.label[~chosen])
    np.testing.assert_array_equal(after.index, examples.index)
    changed = (after.image != examples.image).any((1, 2, 3))
    np.testing.assert_array_equal(changed, chosen)


@pytest.mark.parametrize("name", POISONS)
def test_a_stream_gives_the_same_rows_and_pixels(name, examples):
    poison = POISONS[name]
    chosen = np.asarray(poison.select(jnp.asarray(examples.label), jax.random.key(1)))
    apply, rows = apply_of(poison, examples, chosen), examples.index[chosen]
    whole = poisoned(apply, examples, rows)
    batches = [poisoned(apply, take(examples, slice(at, at + 37)), rows) for at in range(0, ROWS, 37)]
    chex.assert_trees_all_equal(whole, jax.tree.map(lambda *parts: jnp.concatenate(parts), *batches))


@pytest.mark.parametrize("name", POISONS)
def test_the_draw_depends_on_the_key_alone(name, examples):
    poison, labels = POISONS[name], jnp.asarray(examples.label)
    first, again, other = (np.asarray(poison.select(labels, jax.random.key(seed))) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert poison.rate == 1.0 or (first != other).any()


def test_badnets_labels_are_the_attackers(examples):
    one, every = BadNets(0.1, target=3), BadNets(0.1)
    np.testing.assert_array_equal(one.apply(examples).label, 3)
    np.testing.assert_array_equal(every.apply(examples).label, (examples.label + 1) % CLASSES)
    chosen = np.asarray(one.select(jnp.asarray(examples.label), jax.random.key(0)))
    assert not (examples.label[chosen] == 3).any()


@pytest.mark.parametrize("name", ["clean_label_linf", "clean_label_l2"])
def test_clean_label_keeps_labels_and_the_ball_in_bytes(name, examples):
    poison = POISONS[name]
    chosen = np.asarray(poison.select(jnp.asarray(examples.label), jax.random.key(1)))
    assert (examples.label[chosen] == poison.target).all()
    before, made = take(examples, chosen), crafted(poison, examples, chosen)
    np.testing.assert_array_equal(made.apply(before).label, before.label)
    change = np.asarray(to_unit(made.rows.image) - to_unit(jnp.asarray(before.image))).reshape(chosen.sum(), -1)
    size = np.abs(change).max(1) if isinstance(poison.attack.ball, Linf) else np.linalg.norm(change, axis=1)
    assert (size <= poison.attack.ball.eps + 1e-5).all() and (size > 0.5 * poison.attack.ball.eps).all()
    stamped = stamp(poison.trigger, to_unit(made.rows.image))
    np.testing.assert_allclose(to_unit(made.apply(before).image), stamped, atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize("name", TRIGGERS)
def test_amplitude_one_replaces_and_less_adds(name):
    kind, pixels = TRIGGERS[name]
    signs = kind().pattern(12, 14)
    assert np.abs(signs).sum() == pixels
    image = jnp.full((2, 12, 14, 3), 0.4)
    full, part = (
        np.asarray(stamp(kind(), image)),
        np.asarray(stamp(kind(0.25) if name != "square" else Square(3, 0.25), image)),
    )
    np.testing.assert_array_equal(full[:, signs == 1], 1.0)
    np.testing.assert_array_equal(full[:, signs == -1], 0.0)
    np.testing.assert_allclose(part, np.asarray(image) + 0.25 * signs[None, :, :, None], atol=1e-6)
    np.testing.assert_array_equal(full[:, signs == 0], np.asarray(image)[:, signs == 0])


def test_the_reports_four_pixels_are_where_it_says():
    signs = FourPixels().pattern(28, 28)
    assert {tuple(at) for at in np.argwhere(signs)} == {(26, 26), (25, 25), (26, 24), (24, 26)}


def test_turners_corners_mirror_left_and_right():
    signs = Corners().pattern(32, 32)
    np.testing.assert_array_equal(signs, signs[:, ::-1])
    np.testing.assert_array_equal(signs[:3, :3], [[1, -1, -1], [-1, 1, -1], [1, -1, 1]])
    np.testing.assert_array_equal(signs[-3:, :3], signs[:3, :3])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: BadNets(rate=1.5), r"rate must lie in \(0, 1\], got 1.5"),
        (lambda: BadNets(rate=0.0), "rate must lie"),
        (lambda: BadNets(target=10), "target must be one of the classes 0 to 9, got 10"),
        (lambda: CleanLabel(rate=-1), "rate must lie"),
        (lambda: CleanLabel(target=-1), "target must be one of the classes"),
        (lambda: FourPixels(0.0), r"amplitude must lie in \(0, 1\]"),
        (lambda: Corners(1.2), "amplitude must lie"),
        (lambda: Square(0), "size must be at least 1"),
        (lambda: BadNets(1.0, target=3).select(jnp.arange(10), jax.random.key(0)), "10 rows are to be .* only 9"),
    ],
)
def test_impossible_settings_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
