"""Isolation forest: poisoned rows are taken for the outliers of their class.

Falls to poisons whose rows are no outliers, as watermarks of values that are common in the class, and to data with
clean outliers of their own, which it drops in their place.
"""

import dataclasses

import numpy as np

from poisonjax.attacks.settings import check_counts
from poisonjax.defences.base import Context, Defence, Selection
from poisonjax.defences.by_class import LEAST, by_class
from poisonjax.types import take


@dataclasses.dataclass(frozen=True)
class IsolationForest(Defence):
    """Drop the rows of each class that random trees isolate early (Liu et al. 2008).

    Severi et al. (2021, section 7) try it on the benign class, reduced to its most important features; here it looks at
    every class, and all features. share: of each class, how many rows to drop, in (0, 1/2]; None leaves it to the
    original paper's threshold on the scores. trees: how many. ValueError for impossible values.
    """

    share: float | None = None
    trees: int = 100

    def __post_init__(self):
        if self.share is not None and not 0 < self.share <= 0.5:
            raise ValueError(f"share must lie in (0, 0.5], got {self.share}")
        check_counts(self, "trees")

    def select(self, context: Context) -> Selection:
        """The rows that are no outliers. Suspicion is above 0 for those to drop."""
        rows = np.asarray(context.train.image).reshape(len(context.train.label), -1)
        suspicion = by_class(rows, context.train.label, self.suspicion)
        return Selection(take(context.train, suspicion <= 0), suspicion)

    def suspicion(self, rows: np.ndarray) -> np.ndarray:
        """The outlyingness of rows [m d] of a class, by how early they are isolated, above 0 for outliers: [m]."""
        from sklearn.ensemble import IsolationForest as Forest  # slow to import

        if len(rows) < LEAST:
            return np.full(len(rows), -1.0)
        share = "auto" if self.share is None else self.share
        forest = Forest(n_estimators=self.trees, contamination=share, random_state=0).fit(rows)
        return -forest.decision_function(rows)
