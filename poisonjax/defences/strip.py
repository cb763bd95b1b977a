"""STRIP: what the network says of an image with a trigger hardly changes when clean images are laid over it.

Falls to triggers that depend on the class of the image, as all-to-all ones, and to an attacker who also poisons rows
with an overlay, so that triggered images look as uncertain as clean ones (Gao et al. 2019, sections 6.5 and 6.6).
"""

import dataclasses
from statistics import NormalDist
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from poisonjax.attacks.settings import check_counts
from poisonjax.defences.base import Context, Defence, Shield, shielded
from poisonjax.evaluation.victim import Victim, row_suspicions
from poisonjax.types import Array, Examples, LogitsFn, take, to_unit


@dataclasses.dataclass(frozen=True)
class STRIP(Defence):
    """Reject images that are classified with little entropy under overlays (Gao et al. 2019, sections 4.4 and 5.3).

    overlays: how many clean rows are laid over each image, one at a time; 100 in the paper. rejection: the share of
    clean images to reject, in (0, 1), if the entropies of clean rows are normal, which is fitted to the clean rows that
    are no overlays. weight: of both images in their sum, in (0, 1]. 1 adds them, as the authors' code does, and leaves
    an opaque trigger as it is; 0.5 blends them, which halves its contrast. Sums are clipped to [0, 1], where images of
    this library lie; those of the authors' code are not. ValueError for impossible values.
    """

    overlays: int = 100
    rejection: float = 0.01
    weight: float = 1.0

    needs_clean: ClassVar[bool] = True

    def __post_init__(self):
        check_counts(self, "overlays")
        if not 0 < self.rejection < 1:
            raise ValueError(f"rejection must lie in (0, 1), got {self.rejection}")
        if not 0 < self.weight <= 1:
            raise ValueError(f"weight must lie in (0, 1], got {self.weight}")

    def shield(self, victim: Victim, context: Context) -> Shield:
        """A detector of images with little entropy. ValueError for too few clean rows, or logits that are not finite.

        Where the fitted normal distribution has its percentile below 0, as with a network that is certain of most
        overlaid images, nothing is rejected (table 3, note 1): take a higher `rejection` then.
        """
        over, others = self._split(context)
        suspicion = Partial(_suspicion, victim, to_unit(over.image), self.weight)
        entropies = -context.map(row_suspicions, shielded(victim, Shield(suspicion=suspicion)), others)
        return Shield(suspicion=suspicion, threshold=-boundary(entropies, self.rejection))

    def _split(self, context: Context) -> tuple[Examples, Examples]:
        """The clean rows to lay over images, and the others."""
        rows = len(context.clean.label)
        if rows < self.overlays + 2:
            raise ValueError(
                f"STRIP needs {self.overlays} clean rows as overlays and at least 2 others; data.clean has {rows}"
            )
        order = np.asarray(jax.random.permutation(context.key, rows))
        return take(context.clean, order[: self.overlays]), take(context.clean, order[self.overlays :])


def overlaid_entropy(logits_fn: LogitsFn, overlays: Array, weight: Array | float, x: Array) -> Array:
    """The mean entropy of the predictions of images under overlays, in bits (Gao et al. 2019, equations 2 to 4).

    overlays [m h w c] and x [b h w c] in [0, 1] -> [b]. The entropy is that of the classes, for each overlay. One
    overlay at a time, so that the memory does not grow with their number.
    """

    def under(overlay: Array) -> Array:
        log = jax.nn.log_softmax(logits_fn(jnp.clip(weight * (x + overlay), 0.0, 1.0)))
        return -jnp.sum(jnp.exp(log) * log, -1)

    return jnp.mean(jax.lax.map(under, overlays), 0) / jnp.log(2.0)


def boundary(entropies: np.ndarray, rejection: float) -> float:
    """The entropy below which a share `rejection` of a normal distribution fitted to entropies [n] lies.

    ValueError for entropies that are not finite.
    """
    if not np.isfinite(entropies).all():
        raise ValueError("the network's predictions of clean rows are not all finite; train it with a smaller rate")
    return float(np.mean(entropies) + np.std(entropies) * NormalDist().inv_cdf(rejection))


def _suspicion(victim: Victim, overlays: Array, weight: Array, x: Array) -> Array:
    return -overlaid_entropy(victim.logits, overlays, weight, x)
