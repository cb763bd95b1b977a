"""Patches: pixels of any value, in one place; a universal one fools many images, wherever it lies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poisonjax.attacks import PGD, Linf, Patch, PatchAttack
from poisonjax.types import Cost
from tests.attacks.references import robust_accuracy, victim

OWN = PatchAttack(6, search=PGD(Linf(1.0), step=0.2, steps=15, keep_best=True))
UNIVERSAL = Patch(12, rotation=20.0, scale=(0.9, 1.1), steps=80, batch=32, learning_rate=0.1)


def changed(x_adv, x):
    """Which pixels of each image differ, [b h w]."""
    return np.any(np.asarray(x_adv) != np.asarray(x), axis=-1)


def box(pixels):
    """Height and width of what is changed in one image [h w]."""
    return tuple(int(np.ptp(np.flatnonzero(pixels.any(axis)))) + 1 for axis in (1, 0))


def plain(patch, size=6, shape="square", images=64, **settings):
    """A patch of one grey pasted on black images, at the places of different keys."""
    paster = Patch(size, shape=shape, **{"rotation": 0.0, "scale": (1.0, 1.0)} | settings)
    x = jnp.zeros((images, 28, 28, 1))
    keys = jax.random.split(jax.random.key(0), images)
    return np.asarray(jax.jit(paster.apply)(jnp.full((size, size, 1), patch), x, keys))[..., 0]


@pytest.mark.parametrize("size", [5, 6])
def test_an_upright_patch_is_pasted_whole_and_everywhere(size):
    images = plain(0.7, size)
    assert set(np.unique(images)) == {np.float32(0), np.float32(0.7)}
    assert all(box(image > 0) == (size, size) and (image > 0).sum() == size**2 for image in images)
    corners = {tuple(np.argwhere(image > 0)[0]) for image in images}
    assert len(corners) > 50 and max(corner for pair in corners for corner in pair) <= 28 - size


@pytest.mark.parametrize("size", [9, 10])
def test_a_disk_covers_a_disk(size):
    area = plain(1.0, size, "disk")[0].sum()
    assert np.pi * size**2 / 4 == pytest.approx(area, rel=0.12) and area < size**2


def test_pasted_pixels_are_those_of_the_patch():
    patch = jax.random.uniform(jax.random.key(1), (6, 6, 1))
    pasted = Patch(6, "square", rotation=0.0, scale=(1.0, 1.0)).apply(
        patch, jnp.zeros((1, 28, 28, 1)), jax.random.key(0)[None]
    )[0]
    rows, columns = np.nonzero(np.asarray(pasted[..., 0]))
    np.testing.assert_allclose(pasted[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1], patch, atol=1e-6)


def test_scale_and_rotation_stay_within_their_ranges():
    areas = plain(1.0, 10, scale=(0.5, 1.5)).sum((1, 2))
    assert 0.5**2 * 100 * 0.8 <= areas.min() < 50 and 170 < areas.max() <= 1.5**2 * 100 * 1.1
    turned = plain(1.0, 10, rotation=45.0)
    widths = np.array([max(box(image > 0)) for image in turned])
    assert widths.min() <= 11 and widths.max() >= 13  # a square at 45 degrees is 1.41 times as wide
    np.testing.assert_allclose(turned.sum((1, 2)), 100, rtol=0.15)


def test_a_place_is_drawn_by_its_key_alone():
    paster, patch, x = Patch(6), jnp.ones((6, 6, 1)), jnp.zeros((5, 28, 28, 1))
    keys = jax.random.split(jax.random.key(2), 5)
    np.testing.assert_array_equal(paster.apply(patch, x, keys)[3:4], paster.apply(patch, x[3:4], keys[3:4]))


def crafted(attack, label):
    """A patch for the first 128 images of a trained network and their labels."""
    net = victim(images=256)
    return np.asarray(jax.jit(lambda key: attack.craft(net.logits_fn, net.x[:128], label, key))(jax.random.key(0)))


def decided(attack, patch):
    """What the network says of the other 128 images with the patch on them."""
    net = victim(images=256)
    return np.argmax(net.logits_fn(attack.apply(patch, net.x[128:], jax.random.split(jax.random.key(9), 128))), -1)


def test_a_universal_patch_fools_images_that_it_has_not_seen():
    net = victim(images=256)
    patch = crafted(UNIVERSAL, net.y[:128])
    assert patch.min() >= 0 and patch.max() <= 1 and patch.shape == (12, 12, 1)
    noise = jax.random.uniform(jax.random.key(3), patch.shape)
    right, by_chance = (np.mean(decided(UNIVERSAL, of) == net.y[128:]) for of in (patch, noise))
    assert right < by_chance - 0.2


def test_a_targeted_patch_leads_to_its_class():
    """More often than a plain patch does; a patch that may lie anywhere covers too little of a digit for more."""
    attack = Patch(14, "square", rotation=0.0, scale=(1.0, 1.0), steps=200, targeted=True)
    others = np.asarray(victim(images=256).y[128:]) != 8
    patch = crafted(attack, jnp.full(128, 8))
    led, by_grey = (np.mean(decided(attack, of)[others] == 8) for of in (patch, np.full_like(patch, 0.5)))
    assert led > by_grey + 0.1


def test_as_an_attack_it_crafts_and_shows_one_patch():
    net, attack, keys = victim(), Patch(9, steps=3, batch=8), jax.random.split(jax.random.key(4), 32)
    patch = attack.craft(net.logits_fn, net.x, net.y, keys[0])
    shown = attack(net.logits_fn, net.x, net.y, keys)
    np.testing.assert_allclose(shown, attack.apply(patch, net.x, keys), atol=1e-5)
    assert attack.cost == Cost(gradients=24) and changed(shown, net.x).any((1, 2)).all()


@pytest.mark.parametrize("shape", ["square", "disk"])
def test_an_image_of_its_own_changes_within_its_patch_only(shape):
    net, keys = victim(), jax.random.split(jax.random.key(0), 32)
    attack = PatchAttack(6, shape, OWN.search)
    x_adv = jax.jit(lambda x, y, keys: attack(net.logits_fn, x, y, keys))(net.x, net.y, keys)
    assert x_adv.min() >= 0 and x_adv.max() <= 1
    boxes = [box(image) for image in changed(x_adv, net.x)]
    assert max(max(sides) for sides in boxes) <= 6 and max(boxes) >= (5, 5)
    assert robust_accuracy(net.logits_fn, x_adv, net.y) < 0.8
    part = attack(net.logits_fn, net.x[4:6], net.y[4:6], keys[4:6])
    np.testing.assert_allclose(x_adv[4:6], part, atol=1e-5)


def test_cost_is_that_of_the_search():
    assert OWN.cost == OWN.search.cost == Cost(gradients=16)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Patch(0), "size must be at least 1, got 0"),
        (lambda: PatchAttack(0), "size must be at least 1, got 0"),
        (lambda: Patch(5, "star"), "shape must be disk or square, got 'star'"),
        (lambda: Patch(5, rotation=200.0), r"rotation is in degrees and must lie in \[0, 180\], got 200"),
        (lambda: Patch(5, scale=(0.0, 1.0)), "scale must be a smallest and a largest factor above 0, got"),
        (lambda: Patch(5, steps=0), "steps must be at least 1, got 0"),
        (lambda: Patch(5, batch=0), "batch must be at least 1, got 0"),
        (lambda: Patch(5, learning_rate=0.0), "learning_rate must be above 0, got 0.0"),
    ],
)
def test_impossible_settings_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_a_patch_larger_than_the_image_is_refused():
    x, keys = jnp.zeros((1, 28, 28, 1)), jax.random.key(0)[None]
    with pytest.raises(ValueError, match=r"a patch of up to 36 pixels does not fit images of shape \(28, 28, 1\)"):
        Patch(30).apply(jnp.zeros((30, 30, 1)), x, keys)
    with pytest.raises(ValueError, match="a patch of up to 29 pixels does not fit"):
        PatchAttack(29)(lambda x: x.reshape(1, -1), x, jnp.zeros(1, int), keys)
