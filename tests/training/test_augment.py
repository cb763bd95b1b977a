"""Augmented images are the images, changed by their own key alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poisonjax.overrides import members
from poisonjax.training import Augmentation, CropFlip

IMAGES = jax.random.randint(jax.random.key(0), (64, 6, 7, 3), 1, 256).astype(jnp.uint8)
KEYS = jax.random.split(jax.random.key(1), 64)


AUGMENTATIONS = (CropFlip(pad=2),)


def test_the_contract_is_tested_for_every_augmentation():
    own = {kind for kind in members(Augmentation) if kind.__module__.startswith("poisonjax.")}
    assert own == set(map(type, AUGMENTATIONS))


def places(image, pad):
    """All images that a crop and a flip can make of one, by numpy."""
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    height, width, _ = image.shape
    for row in range(2 * pad + 1):
        for column in range(2 * pad + 1):
            moved = padded[row : row + height, column : column + width]
            yield (row, column, False), moved
            yield (row, column, True), moved[:, ::-1]


def test_every_image_is_one_of_its_own_crops_and_all_kinds_occur():
    out = np.asarray(CropFlip(pad=1)(IMAGES, KEYS))
    assert out.dtype == np.uint8 and out.shape == IMAGES.shape
    kinds = [
        next(kind for kind, made in places(np.asarray(image), 1) if np.array_equal(made, got))
        for image, got in zip(IMAGES, out, strict=True)
    ]
    assert len({kind[0] for kind in kinds}) == len({kind[1] for kind in kinds}) == 3
    assert 16 < sum(kind[2] for kind in kinds) < 48


@pytest.mark.parametrize("augment", AUGMENTATIONS, ids=str)
def test_an_image_depends_on_its_own_key_only(augment):
    whole, part = augment(IMAGES, KEYS), augment(IMAGES[5:9], KEYS[5:9])
    assert whole.shape == IMAGES.shape and whole.dtype == IMAGES.dtype
    np.testing.assert_array_equal(whole[5:9], part)
    assert not np.array_equal(whole, augment(IMAGES, jax.random.split(jax.random.key(2), 64)))


def test_a_negative_pad_is_refused():
    with pytest.raises(ValueError, match="pad must be at least 0 pixels, got -1"):
        CropFlip(-1)
