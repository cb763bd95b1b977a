"""Gradient-boosted trees on the rows that each network learnt from: do they learn the backdoor as well?"""

import dataclasses
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np

from poisonjax.evaluation import metrics
from poisonjax.evaluation.analysis import Analysis, Subject, Table
from poisonjax.models import boosted_trees
from poisonjax.models.boosted_trees import BoostedTrees
from poisonjax.poisons.base import Poison
from poisonjax.reports import statistics
from poisonjax.reports.table import spread
from poisonjax.training.objectives import hard
from poisonjax.types import Examples, to_unit

MEASURED = ("clean_accuracy", "attack_success_rate")


class Predicted(NamedTuple):
    """Classes that the trees predict for test rows [n], clean and with the trigger."""

    clean: np.ndarray
    triggered: np.ndarray


@dataclasses.dataclass(frozen=True)
class GradientBoostedTrees(Analysis):
    """Clean accuracy and attack success rate of LightGBM, trained on the rows of each arm (Ke et al. 2017).

    Of a defence it has what chooses or relabels rows, and nothing that changes a loss or a network: an arm with another
    objective has the trees of standard training. trees: the settings.
    """

    trees: BoostedTrees = BoostedTrees()

    name: ClassVar[str] = "boosted_trees"
    arrays: ClassVar[type] = Predicted
    heading: ClassVar[str] = "Gradient-boosted trees on the rows of each arm"

    def check(self, examples: Examples, poison: Poison) -> None:
        """ValueError without LightGBM."""
        boosted_trees.installed()

    def collect(self, subject: Subject) -> Predicted:
        """The predictions of trees on the rows that the network learnt from."""
        train, test = subject.train(), to_unit(jnp.asarray(subject.examples.image))
        labels, classes = np.asarray(hard(train.label)), subject.poison.classes
        booster = self.trees.fit(_flat(to_unit(jnp.asarray(train.image))), labels, classes)
        shown = test, subject.poison.apply_trigger(test)
        return Predicted(*(boosted_trees.predict(booster, _flat(x)) for x in shown))

    def measure(self, arrays: Predicted, subject: Subject) -> dict:
        """{metric: [hits, of]} as for a network."""
        labels = np.asarray(subject.examples.label)
        targets = np.asarray(subject.poison.target_labels(jnp.asarray(labels)))
        found = metrics.Predictions(arrays.clean, arrays.triggered, arrays.triggered, np.ones(len(labels), bool))
        counts = metrics.measure(labels, targets, found, subject.poison.classes)
        return {name: [counts[name].numerator, counts[name].denominator] for name in MEASURED}

    def summary(self, measured: list[dict]) -> dict:
        """The shares over seeds; None of a metric that counts nothing."""
        return {
            name: statistics.spread([seed[name][0] / seed[name][1] if seed[name][1] else None for seed in measured])
            for name in MEASURED
        }

    def tables(self, summaries: dict[str, dict]) -> list[Table]:
        """A row for each arm."""
        header = ["arm", *(f"{metrics.METRICS[name]} %" for name in MEASURED)]
        rows = [[arm, *(spread(of[name]) for name in MEASURED)] for arm, of in summaries.items()]
        return [
            Table("", header, rows, ["Trained on the rows that the arm's defence keeps; its objective plays no part."])
        ]


def _flat(x: np.ndarray) -> np.ndarray:
    """Rows [n ...] as [n d]."""
    return np.asarray(x).reshape(len(x), -1)
