"""Copies are found whatever was done to them that the eye hardly sees, and each row once."""

import io

import numpy as np
import pytest
from PIL import Image

from poisonjax.data import mnist_5k
from poisonjax.data.near_duplicates import DISTANCE, _rows, _small, near_duplicates
from poisonjax.types import Examples


def examples(images, labels=None):
    rows = np.arange(len(images), dtype=np.int32)
    return Examples(np.asarray(images, np.uint8), np.zeros(len(rows), np.int32) if labels is None else labels, rows)


def noise(rows=60, shape=(28, 28)):
    """Blobs, of which no two are alike."""
    coarse = np.random.default_rng(0).integers(20, 236, (rows, shape[0] // 7, shape[1] // 7, 1), np.uint8)
    return coarse.repeat(7, 1).repeat(7, 2).repeat(3, 3)


def jpeg(image):
    content = io.BytesIO()
    Image.fromarray(image).save(content, "JPEG", quality=75)
    return np.asarray(Image.open(content))


COPIES = {
    "the same": lambda image: image,
    "compressed": jpeg,
    "brighter": lambda image: image + 5,
    "noisy": lambda image: np.clip(image + np.random.default_rng(1).normal(0, 8, image.shape), 0, 255),
    "one pixel": lambda image: np.where(np.arange(image.size).reshape(image.shape) == 0, 255, image),
}


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_is_found(copy):
    images = noise()
    images[41] = COPIES[copy](images[12])
    (group,) = near_duplicates(examples(images))
    np.testing.assert_array_equal(group.rows, [12, 41])
    assert not group.disagree


@pytest.mark.parametrize("change", [lambda image: image[:, ::-1], lambda image: np.roll(image, 2, 1)])
def test_a_mirrored_or_shifted_copy_is_not_found(change):
    images = noise()
    images[41] = change(images[12])
    assert not near_duplicates(examples(images))


def test_groups_are_those_that_a_search_of_all_pairs_finds():
    images, labels = mnist_5k.splits()["train"]
    images, labels = images[:400].copy(), labels[:400].astype(np.int32)
    images[300:340] = np.clip(images[:40].astype(int) + 4, 0, 255)
    found = near_duplicates(examples(images, labels))
    small = _rows(_small(images))
    near = np.linalg.norm(small[:, None] - small, axis=-1) <= DISTANCE
    left, expected = np.ones(400, bool), []
    for row in range(400):
        group = np.flatnonzero(near[row] & left & left[row])
        left[group] = False
        expected += [group.tolist()] * (len(group) > 1)
    assert sorted(group.rows.tolist() for group in found) == expected and len(expected) >= 40


def test_different_labels_come_first_then_the_largest():
    images, labels = noise(), np.zeros(60, np.int32)
    images[[10, 11, 12]], images[20], images[30] = images[0], images[1], images[2]
    labels[30] = 1
    found = near_duplicates(examples(images, labels))
    assert [group.rows.tolist() for group in found] == [[2, 30], [0, 10, 11, 12], [1, 20]]
    assert [group.disagree for group in found] == [True, False, False]


def test_the_small_image_has_the_means_of_equal_parts():
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 48, 1), np.uint8)
    parts = image.reshape(1, 16, 2, 16, 3).mean((2, 4)) / 255
    np.testing.assert_allclose(_small(image)[0, ..., 0], parts[0], rtol=1e-5)
    np.testing.assert_allclose(_small(np.full((1, 21, 9, 3), 51, np.uint8)), np.full((1, 16, 9, 3), 0.2), rtol=1e-5)


@pytest.mark.parametrize("rows", [1, 2, 4000])
def test_rows_that_are_all_alike_are_one_group(rows):
    images = np.random.default_rng(0).integers(0, 3, (rows, 8, 8, 1), np.uint8)
    found = near_duplicates(examples(images))
    assert [len(group.rows) for group in found] == ([rows] if rows > 1 else [])
