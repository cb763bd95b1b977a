"""Activation clustering: the features of a class that holds poisoned rows fall into two clusters.

Falls to a poison that makes up half of a class, where the smaller cluster is the clean one as often as not, and to
adaptive poisons whose features lie within those of the class (Tan & Shokri 2020; Qi et al. 2023). Reclassification
falls to clean-label poisons, whose rows are of their class for a network that never saw the cluster.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np

from poisonjax.attacks.settings import check_counts
from poisonjax.defences.base import Context, Defence, Selection
from poisonjax.defences.by_class import LEAST, by_class, judged_features
from poisonjax.evaluation.victim import Victim
from poisonjax.training.objectives import Objective, Standard
from poisonjax.types import Array, Examples, take, to_unit


@dataclasses.dataclass(frozen=True)
class ActivationClustering(Defence):
    """Drop the smaller of two clusters of a class whose features fall apart (Chen et al. 2018, sections 3 and 4).

    components: the features are reduced to so many by principal components. silhouette: the least mean silhouette
    of two clusters that fall apart; the paper takes .10 to .15 as the border. size: the smaller cluster holds less than
    this share of the class. judge: how the network is trained whose features are looked at. independent: reduce to
    independent components, as the paper does, of the same number.

    reclassification: drop of the clusters found so only those that a network trained without any of them gives to
    another class: `own_to_other` is at most this, 1 in the paper (exclusionary reclassification). None trains no such
    network. With silhouette=-1 and size=0.5 it alone decides on the smaller cluster of every class. ValueError for
    impossible values.
    """

    components: int = 10
    silhouette: float = 0.15
    size: float = 0.35
    judge: Objective = Standard()
    independent: bool = False
    reclassification: float | None = None

    def __post_init__(self):
        check_counts(self, "components")
        if not -1 <= self.silhouette <= 1:
            raise ValueError(f"silhouette must lie in [-1, 1], got {self.silhouette}")
        if not 0 < self.size <= 0.5:
            raise ValueError(f"size must lie in (0, 0.5], got {self.size}")
        if self.reclassification is not None and not self.reclassification > 0:
            raise ValueError(f"reclassification must be above 0, or None for none, got {self.reclassification}")

    def select(self, context: Context) -> Selection:
        """The rows that are not in a small cluster of their own. ValueError for features that are not finite."""
        suspicion = by_class(judged_features(context, self.judge), context.train.label, self.suspicion)
        if self.reclassification is not None and (suspicion > 0).any():
            suspicion = np.where(self._cleared(context, suspicion > 0), suspicion - 2, suspicion)
        return Selection(take(context.train, suspicion <= 0), suspicion)

    def suspicion(self, rows: np.ndarray) -> np.ndarray:
        """How deep the features [m d] of a class lie in a small cluster of their own: [m], above 0 for those to drop.

        The silhouette of a row in the smaller cluster, minus it for the others; less 2 in a class that does not fall
        apart.
        """
        from sklearn.cluster import KMeans  # slow to import
        from sklearn.metrics import silhouette_samples

        if len(rows) < LEAST:
            return np.full(len(rows), -2.0)
        reduced = self._reduced(rows)
        cluster = KMeans(2, n_init=10, random_state=0).fit_predict(reduced)
        small = cluster == np.argmin(np.bincount(cluster, minlength=2))
        if small.all() or not small.any():
            return np.full(len(rows), -2.0)
        depth = (silhouette_samples(reduced, cluster) + 1) / 2  # in [0, 1]
        falls_apart = 2 * depth.mean() - 1 >= self.silhouette and small.mean() < self.size
        return np.where(small, depth, -depth) - (0 if falls_apart else 2)

    def _reduced(self, rows: np.ndarray) -> np.ndarray:
        """The principal or independent components of rows [m d], [m c]."""
        from sklearn.decomposition import PCA, FastICA  # slow to import

        reduced = PCA(min(self.components, *rows.shape), random_state=0).fit_transform(rows)
        varying = reduced.std(0) > 1e-6 * reduced.std()  # of no variance, a component cannot be whitened
        if not self.independent or not varying.any():
            return reduced
        return FastICA(whiten="unit-variance", max_iter=1000, random_state=0).fit_transform(reduced[:, varying])

    def _cleared(self, context: Context, asked: np.ndarray) -> np.ndarray:
        """The rows [n] bool of the classes whose cluster, of rows asked about [n] bool, is theirs by reclassification.

        A class without one is among neither.
        """
        network = context.fit("without_clusters", self.judge, take(context.train, ~asked))
        said = context.map(classified, network, take(context.train, asked))
        labels = np.asarray(context.train.label)
        own = labels[asked]
        ratios = {label: own_to_other(said[own == label], label) for label in np.unique(own)}
        return np.isin(labels, [label for label, ratio in ratios.items() if ratio > self.reclassification])


def classified(victim: Victim, examples: Examples) -> Array:
    """The class of each row for a network, [b]."""
    return jnp.argmax(victim.logits(to_unit(examples.image)), -1)


def own_to_other(said: np.ndarray, label: int) -> float:
    """The number of rows that are said [m] to be of a class, to that of any other class at most; inf without others."""
    counts = np.bincount(said, minlength=label + 1)
    others = np.delete(counts, label).max(initial=0)
    return counts[label] / others if others else np.inf
