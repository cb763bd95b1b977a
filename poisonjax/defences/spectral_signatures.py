"""Spectral signatures: poisoned rows stand out along the top singular direction of their class's features.

Falls to a poison that makes up half of a class, where neither side stands out, and to adaptive poisons whose rows with
the true label ("cover" rows) pull the features together (Tan & Shokri 2020; Qi et al. 2023).
"""

import dataclasses

import numpy as np

from poisonjax.defences.base import Context, Defence, Selection
from poisonjax.defences.by_class import by_class, highest, judged_features
from poisonjax.training.objectives import Objective, Standard
from poisonjax.types import take


@dataclasses.dataclass(frozen=True)
class SpectralSignatures(Defence):
    """Drop the rows of each class with the highest spectral score (Tran et al. 2018, algorithm 1).

    expected: share of a class that is poisoned at most, in (0, 2/3); 1.5 times as many are dropped of every class.
    judge: how the network is trained whose features are looked at. ValueError for an impossible share.
    """

    expected: float = 0.1
    judge: Objective = Standard()

    def __post_init__(self):
        if not 0 < self.expected < 2 / 3:
            raise ValueError(f"expected must lie in (0, 2/3), as 1.5 times as many are dropped, got {self.expected}")

    def select(self, context: Context) -> Selection:
        """The rows with low scores. ValueError for features that are not finite."""
        scores = by_class(judged_features(context, self.judge), context.train.label, spectral_scores)
        dropped = by_class(scores, context.train.label, self._top)
        return Selection(take(context.train, ~dropped), scores)

    def _top(self, scores: np.ndarray) -> np.ndarray:
        """The round(1.5 * expected * m) highest of the scores [m] of a class, [m] bool."""
        return highest(scores, round(1.5 * self.expected * len(scores)))


def spectral_scores(rows: np.ndarray) -> np.ndarray:
    """The squared projection of the centred features [m d] of a class on their top right singular vector: [m]."""
    centred = np.asarray(rows, np.float64) - np.mean(rows, 0, dtype=np.float64)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    return (centred @ directions[0]) ** 2
