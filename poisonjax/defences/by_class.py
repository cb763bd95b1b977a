"""Rows of a training set looked at class by class, as most filters do."""

from collections.abc import Callable

import numpy as np


def by_class(rows: np.ndarray, labels: np.ndarray, fn: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """fn(rows of one class [m ...]) -> [m] for each class of labels [n] int, put together: [n]."""
    labels = np.asarray(labels)
    places = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    found = [np.asarray(fn(rows[at])) for at in places]
    whole = np.empty(len(labels), np.result_type(*found))
    for at, values in zip(places, found, strict=True):
        whole[at] = values
    return whole
