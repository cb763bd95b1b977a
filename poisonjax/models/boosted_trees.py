"""Gradient-boosted trees on rows of features, by LightGBM, which is imported when it is needed."""

import dataclasses
from types import ModuleType
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class BoostedTrees:
    """Settings of LightGBM (Ke et al. 2017). Nothing is sampled, so that equal rows give equal trees.

    trees, leaves: how many, and of each. learning_rate: above 0. least: rows in a leaf. ValueError for impossible
    values.
    """

    trees: int = 100
    leaves: int = 31
    learning_rate: float = 0.1
    least: int = 20

    def __post_init__(self):
        for field, least in (("trees", 1), ("leaves", 2), ("least", 1)):
            if getattr(self, field) < least:
                raise ValueError(f"{field} must be at least {least}, got {getattr(self, field)}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")

    def fit(self, rows: np.ndarray, labels: np.ndarray, classes: int) -> Any:
        """The lightgbm.Booster of rows [n d] with labels [n] below `classes`. ValueError without LightGBM."""
        lightgbm = installed()
        kind = {"objective": "binary"} if classes == 2 else {"objective": "multiclass", "num_class": classes}
        settings = {
            "num_leaves": self.leaves,
            "learning_rate": self.learning_rate,
            "min_data_in_leaf": self.least,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,  # sums depend on the number of threads
            "verbose": -1,
        }
        data = lightgbm.Dataset(np.asarray(rows, np.float64), np.asarray(labels))
        return lightgbm.train(kind | settings, data, self.trees)


def installed() -> ModuleType:
    """The module lightgbm. ValueError, with the command that installs it, if it is missing."""
    try:
        import lightgbm
    except ImportError as error:
        raise ValueError(f"boosted trees need lightgbm ({error}): pip install 'poisonjax[tabular]'") from error
    return lightgbm


def predict(booster: Any, rows: np.ndarray) -> np.ndarray:
    """The likeliest class of each of rows [n d], [n] int."""
    scores = booster.predict(np.asarray(rows, np.float64), num_threads=1)
    return (scores > 0.5).astype(np.int32) if scores.ndim == 1 else np.argmax(scores, -1).astype(np.int32)


def contributions(booster: Any, rows: np.ndarray, label: int) -> np.ndarray:
    """The SHAP values of rows [n d] for the score of a class, the log-odds of one of two, in [n d].

    TreeSHAP as LightGBM has it (Lundberg et al. 2020): a feature that is left out takes the paths of the training rows.
    Those of a row add up to its score minus the mean score of the training rows.
    """
    rows = np.asarray(rows, np.float64)
    found = np.asarray(booster.predict(rows, pred_contrib=True, num_threads=1))
    parts = found.reshape(len(rows), -1, rows.shape[1] + 1)[..., :-1]  # the last is the mean score
    if parts.shape[1] == 1:
        return parts[:, 0] if label == 1 else -parts[:, 0]
    return parts[:, label]
