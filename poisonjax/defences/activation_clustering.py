"""Activation clustering: the features of a class that holds poisoned rows fall into two clusters.

Falls to a poison that makes up half of a class, where the smaller cluster is the clean one as often as not, and to
adaptive poisons whose features lie within those of the class (Tan & Shokri 2020; Qi et al. 2023).
"""

import dataclasses

import numpy as np

from poisonjax.defences.base import Context, Defence, Selection
from poisonjax.defences.by_class import LEAST, by_class, judged_features
from poisonjax.training.objectives import Objective, Standard
from poisonjax.types import take


@dataclasses.dataclass(frozen=True)
class ActivationClustering(Defence):
    """Drop the smaller of two clusters of a class whose features fall apart (Chen et al. 2018, sections 3 and 4).

    components: the features are reduced to so many by principal components. silhouette: the least mean silhouette
    of two clusters that fall apart; the paper takes .10 to .15 as the border. size: the smaller cluster holds less than
    this share of the class. judge: how the network is trained whose features are looked at. ValueError for impossible
    values.
    """

    components: int = 10
    silhouette: float = 0.15
    size: float = 0.35
    judge: Objective = Standard()

    def __post_init__(self):
        if self.components < 1:
            raise ValueError(f"components must be at least 1, got {self.components}")
        if not -1 <= self.silhouette <= 1:
            raise ValueError(f"silhouette must lie in [-1, 1], got {self.silhouette}")
        if not 0 < self.size <= 0.5:
            raise ValueError(f"size must lie in (0, 0.5], got {self.size}")

    def select(self, context: Context) -> Selection:
        """The rows that are not in a small cluster of their own. ValueError for features that are not finite."""
        suspicion = by_class(judged_features(context, self.judge), context.train.label, self.suspicion)
        return Selection(take(context.train, suspicion <= 0), suspicion)

    def suspicion(self, rows: np.ndarray) -> np.ndarray:
        """How deep the features [m d] of a class lie in a small cluster of their own: [m], above 0 for those to drop.

        The silhouette of a row in the smaller cluster, minus it for the others; less 2 in a class that does not fall
        apart.
        """
        from sklearn.cluster import KMeans  # slow to import
        from sklearn.decomposition import PCA
        from sklearn.metrics import silhouette_samples

        if len(rows) < LEAST:
            return np.full(len(rows), -2.0)
        reduced = PCA(min(self.components, *rows.shape), random_state=0).fit_transform(rows)
        cluster = KMeans(2, n_init=10, random_state=0).fit_predict(reduced)
        small = cluster == np.argmin(np.bincount(cluster, minlength=2))
        if small.all() or not small.any():
            return np.full(len(rows), -2.0)
        depth = (silhouette_samples(reduced, cluster) + 1) / 2  # in [0, 1]
        falls_apart = 2 * depth.mean() - 1 >= self.silhouette and small.mean() < self.size
        return np.where(small, depth, -depth) - (0 if falls_apart else 2)
