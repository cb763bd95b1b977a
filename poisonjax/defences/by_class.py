"""Rows of a training set looked at class by class, as most filters do."""

from collections.abc import Callable

import numpy as np

from poisonjax.defences.base import Context
from poisonjax.evaluation.victim import Victim
from poisonjax.training.objectives import Objective
from poisonjax.types import Array, Examples, to_unit

LEAST = 20  # rows of a class, below which no groups are looked for


def by_class(rows: np.ndarray, labels: np.ndarray, fn: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """fn(rows of one class [m ...]) -> [m] for each class of labels [n] int, put together: [n]."""
    labels = np.asarray(labels)
    places = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    found = [np.asarray(fn(rows[at])) for at in places]
    whole = np.empty(len(labels), np.result_type(*found))
    for at, values in zip(places, found, strict=True):
        whole[at] = values
    return whole


def highest(scores: np.ndarray, count: int) -> np.ndarray:
    """The so many highest of the scores [m], the first ones of equals: [m] bool."""
    return np.isin(np.arange(len(scores)), np.argsort(-scores, kind="stable")[:count])


def features(victim: Victim, examples: Examples) -> Array:
    """The activations before the last layer of each row, [b d]."""
    return victim.features(to_unit(examples.image))


def judged_features(context: Context, judge: Objective) -> np.ndarray:
    """The features of the training rows [n d] in a network trained by `judge`. ValueError if not all are finite."""
    found = context.map(features, context.fit("judge", judge, context.train), context.train)
    if not np.isfinite(found).all():
        raise ValueError("the judge's features are not all finite; train it with a smaller learning rate")
    return found
