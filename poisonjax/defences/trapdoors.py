"""Trapdoors: shortcuts to every class that attacks are drawn to, and that give them away.

Falls to an attack that keeps the features of its images away from the signatures of the trapdoors (Carlini 2020), for
example on a network with the detector as a further class. That attack was shown on the plain detector that is here; the
paper's answer to it, several trapdoors a class and a random choice of neurons, is not.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial

from poisonjax.attacks.settings import check_counts
from poisonjax.defences.base import Context, Defence, Shield
from poisonjax.evaluation.victim import Victim, row_outputs
from poisonjax.types import Array, Examples, take, to_bytes, to_unit


@dataclasses.dataclass(frozen=True)
class Trapdoors(Defence):
    """Learn a trapdoor to each class, and reject images whose features resemble its signature (Shan et al. 2020).

    Copies of training rows bear the pattern of another class and are labelled with it. The signature of a class is the
    mean of their features, the suspicion of an image the cosine of its features with the signature of the class that is
    predicted for it.

    clusters, size: a pattern is so many squares of size x size pixels at random places, of random colours. ratio: the
    share of the pattern in a pixel that it covers, in (0, 1]. inject: the share of copies among the rows to learn from,
    in (0, 1/2]. false_positives: the share of the clean rows of each class to reject, in (0, 1). The defaults are those
    of the authors' code for MNIST; small networks that learn from few rows need a higher ratio. That code compares
    attacked images with clean ones of other classes; here the threshold of a class is set on clean rows that are
    predicted as it, the only ones that its signature is compared with once the detector is in use. ValueError for
    impossible values.
    """

    clusters: int = 7
    size: int = 3
    ratio: float = 0.1
    inject: float = 0.5
    false_positives: float = 0.05

    needs_images: ClassVar[bool] = True

    def __post_init__(self):
        check_counts(self, "clusters", "size")
        if not 0 < self.ratio <= 1:
            raise ValueError(f"ratio must lie in (0, 1], got {self.ratio}")
        if not 0 < self.inject <= 0.5:
            raise ValueError(f"inject must lie in (0, 0.5], as no row is copied twice, got {self.inject}")
        if not 0 < self.false_positives < 1:
            raise ValueError(f"false_positives must lie in (0, 1), got {self.false_positives}")

    def select(self, context: Context) -> Examples:
        """All rows and, after them, the copies, of one row and one class each.

        The `index` of a copy is -1 minus that of its row: it has randomness of its own, and is no row of the data set.
        ValueError for images that are too small.
        """
        pattern_key, row_key, class_key = jax.random.split(context.key, 3)
        rows, copies = context.train, round(len(context.train.label) * self.inject / (1 - self.inject))
        copied = take(rows, np.asarray(jax.random.permutation(row_key, len(rows.label)))[:copies])
        others = np.asarray(jax.random.randint(class_key, (copies,), 1, context.classes))
        label = ((copied.label + others) % context.classes).astype(rows.label.dtype)
        patterns = self.patterns(pattern_key, context.classes, rows.image.shape[1:])
        stamped = Examples(np.asarray(stamp(copied.image, label, self.ratio, *patterns)), label, -1 - copied.index)
        return Examples(*map(np.concatenate, zip(rows, stamped, strict=True)))

    def patterns(self, key: Array, classes: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Where the pattern of each class is [k h w 1] bool, and its colours [k h w c] in [0, 1].

        shape: of an image, (h, w, c). The brightness of a square is normal, of a mean and a deviation of its own, both
        uniform in [0, 1], as in the authors' code. ValueError for images that are too small.
        """
        if min(shape[:2]) < self.size:
            raise ValueError(f"a trapdoor of {self.size} x {self.size} pixels needs larger images than {shape[:2]}")
        squares, keys = (classes, self.clusters), jax.random.split(key, 4)
        corners = jax.random.randint(keys[0], (*squares, 2), 0, jnp.array(shape[:2]) - self.size + 1)
        mean, deviation = (jax.random.uniform(each, (*squares, 1, 1, 1)) for each in keys[1:3])
        noise = jax.random.normal(keys[3], (*squares, self.size, self.size, shape[2]))
        colours = np.clip(mean + deviation * noise, 0, 1)
        covered, pattern = np.zeros((classes, *shape[:2], 1), bool), np.zeros((classes, *shape), np.float32)
        for square in np.ndindex(squares):
            top, left = np.asarray(corners[square])
            at = np.s_[square[0], top : top + self.size, left : left + self.size]
            covered[at], pattern[at] = True, colours[square]
        return covered, pattern

    def shield(self, victim: Victim, context: Context) -> Shield:
        """The network behind its detector, whose suspicion is above 0 where the threshold of a class is passed.

        The thresholds are those of `context.clean` if it is there, else of the training rows that are no copies.
        """
        copy = context.train.index < 0
        stamped, clean = take(context.train, copy), context.clean or take(context.train, ~copy)
        signatures = means(context.map(row_outputs, victim, stamped)[1], stamped.label, context.classes)
        logits, features = context.map(row_outputs, victim, clean)
        found = np.asarray(similarity(logits, features, signatures))
        thresholds = self.thresholds(found, np.argmax(logits, -1), context.classes)
        return Shield(suspicion=Partial(suspicion, victim, signatures, thresholds))

    def thresholds(self, similarity: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
        """The similarity that a share `false_positives` of the clean rows [n] predicted as each class exceeds: [k].

        -1, so that every image is rejected, for a class that no row is predicted as.
        """
        of_class = [similarity[predicted == label] for label in range(classes)]
        passed = [np.quantile(each, 1 - self.false_positives) if len(each) else -1.0 for each in of_class]
        return np.array(passed, np.float32)


@jax.jit
def stamp(image: Array, label: Array, ratio: float, covered: Array, pattern: Array) -> Array:
    """Images [n h w c] uint8 with the patterns [k h w c] of labels [n] blended in where covered [k h w 1]."""
    x = to_unit(image)
    return to_bytes(jnp.where(covered[label], ratio * pattern[label] + (1 - ratio) * x, x))


def means(features: np.ndarray, label: np.ndarray, classes: int) -> np.ndarray:
    """The mean of the features [n d] of the rows of each label [n]: [k d], 0 for a class without rows."""
    members = np.eye(classes, dtype=features.dtype)[label]
    return members.T @ features / np.maximum(members.sum(0), 1)[:, None]


def similarity(logits: Array, features: Array, signatures: Array) -> Array:
    """The cosine of features [b d] with the signature [k d] of the class that the logits [b k] predict: [b]."""
    return optax.cosine_similarity(features, jnp.asarray(signatures)[jnp.argmax(logits, -1)], epsilon=1e-12)


def suspicion(victim: Victim, signatures: Array, thresholds: Array, x: Array) -> Array:
    """How far the similarity of images [b ...] in [0, 1] lies above the threshold [k] of the class predicted: [b]."""
    logits, features = victim.outputs(x)
    return similarity(logits, features, signatures) - jnp.asarray(thresholds)[jnp.argmax(logits, -1)]
