"""A data set of one's own, from arrays."""

import numpy as np

from poisonjax.data import cache
from poisonjax.data.dataset import Dataset
from poisonjax.data.sources import DataError
from poisonjax.types import Examples

Split = tuple[np.ndarray, np.ndarray]


def from_arrays(name: str, train: Split, test: Split, label_names: tuple[str, ...] = (), version: str = "1") -> Dataset:
    """A data set from (images [n h w c] or rows of features [n d], labels [n]) of two splits; its digest is computed.

    Images and features are uint8, or floating in [0, 1], rounded to 8 bits. Labels are whole numbers from 0, and the
    training split has every class. DataError, one line, for anything else.
    """
    splits = [_checked(f"{name} {split}", *arrays) for split, arrays in (("train", train), ("test", test))]
    (image, label), (test_image, test_label) = splits
    classes = int(label.max()) + 1
    if len(np.unique(label)) != classes:
        missing = min(set(range(classes)) - set(label.tolist()))
        raise DataError(f"{name} train: class {missing} has no image; number the classes 0 to {classes - 1}")
    if test_label.max() >= classes or image.shape[1:] != test_image.shape[1:]:
        raise DataError(f"{name} test: must have the classes and the image shape of the training split")
    digest = cache.digest([image, label, test_image, test_label])
    return Dataset(
        name, version, classes, _examples(image, label), _examples(test_image, test_label), digest, label_names
    )


def class_ranks(labels: np.ndarray) -> np.ndarray:
    """The place of each row among those of its class, from 0: labels [n] -> [n]."""
    order = np.argsort(labels, kind="stable")
    ranks = np.empty(len(labels), np.int64)
    ranks[order] = np.arange(len(labels)) - np.searchsorted(labels[order], labels[order])
    return ranks


def _checked(where: str, image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    image, label = np.asarray(image), np.asarray(label)
    if image.ndim not in (2, 4) or not len(image):
        raise DataError(f"{where}: images must have shape [n h w c], rows of features [n d], got {list(image.shape)}")
    if label.shape != image.shape[:1] or not np.issubdtype(label.dtype, np.integer) or label.min() < 0:
        raise DataError(
            f"{where}: labels must be {len(image)} whole numbers from 0, got {label.dtype}{list(label.shape)}"
        )
    if np.issubdtype(image.dtype, np.floating):
        if not (np.isfinite(image).all() and image.min() >= 0 and image.max() <= 1):
            raise DataError(f"{where}: floating images must lie in [0, 1], got {image.min():g} to {image.max():g}")
        image = np.round(image * 255).astype(np.uint8)
    if image.dtype != np.uint8:
        raise DataError(f"{where}: images must be uint8 or floating in [0, 1], got {image.dtype}")
    return np.ascontiguousarray(image), label.astype(np.int32)


def _examples(image: np.ndarray, label: np.ndarray) -> Examples:
    return Examples(image, label, np.arange(len(label), dtype=np.int32))
