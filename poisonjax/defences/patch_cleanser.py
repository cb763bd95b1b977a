"""PatchCleanser: predictions behind two rounds of masks, which no patch up to a size changes on certified images.

Falls to what its certificate leaves out: triggers larger than the patch, several patches at once, and triggers all over
the image, as a blend. The certificate is about one image at a time and costs hundreds of predictions of it.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from poisonjax.attacks.blocks import on_active_rows
from poisonjax.attacks.settings import check_counts
from poisonjax.defences.base import Context, Defence, Shield, guard, voted
from poisonjax.evaluation.victim import Victim
from poisonjax.training.objectives import Keys, Learner, Losses, Objective
from poisonjax.types import Array, LogitsFn

NONE = -1  # no disagreeing mask has been confirmed


def check_masks(size: int, masks: int) -> None:
    """ValueError for a patch without pixels, or a single mask, which would hide the whole image."""
    if size < 1:
        raise ValueError(f"size is the side of a patch in pixels and must be at least 1, got {size}")
    if masks < 2:
        raise ValueError(f"masks must be at least 2 a side, as one would hide the whole image, got {masks}")


@dataclasses.dataclass(frozen=True)
class MaskedTraining(Objective):
    """Another objective on images behind random masks of a `mask_set`, so that the network learns to do without a part.

    Xiang et al. (2022) train on images with squares cut out at random places; here they are masks of the set, the very
    ones that predictions are made behind. Images are masked before an attack of the objective sees them.

    size, masks: of the `mask_set`. draws: masks on each image, drawn anew at each step. ValueError for an impossible
    value.
    """

    objective: Objective
    size: int
    masks: int = 6
    draws: int = 2

    needs_images: ClassVar[bool] = True

    def __post_init__(self):
        check_masks(self.size, self.masks)
        check_counts(self, "draws")

    @property
    def attack(self):
        """The attack of the objective."""
        return self.objective.attack

    @property
    def passes(self) -> int:
        """The passes of the objective."""
        return self.objective.passes

    @property
    def aux(self) -> tuple[str, ...]:
        """The names that the objective records."""
        return self.objective.aux

    @property
    def single_step(self) -> bool:
        """True if the objective trains against one gradient step."""
        return self.objective.single_step

    @property
    def replays(self) -> int:
        """The updates of the objective on each batch."""
        return self.objective.replays

    @property
    def carries_perturbation(self) -> bool:
        """True if the objective carries one."""
        return self.objective.carries_perturbation

    def ascend(self, perturbation: Array, gradient: Array, progress: Array) -> Array:
        """The objective's own move."""
        return self.objective.ascend(perturbation, gradient, progress)

    def __call__(self, network: Learner, x: Array, y: Array, keys: Keys, progress: Array) -> Losses:
        drawn, attack = jnp.moveaxis(jax.vmap(jax.random.split)(keys.attack), 1, 0)
        return self.objective(network, self._masked(x, drawn), y, keys._replace(attack=attack), progress)

    def _masked(self, x: Array, keys: Array) -> Array:
        shown = jnp.asarray(mask_set(x.shape[1:], self.size, self.masks))
        picked = jax.vmap(lambda key: jax.random.randint(key, (self.draws,), 0, len(shown)))(keys)
        return behind(shown[picked].all(1), x)


@dataclasses.dataclass(frozen=True)
class DoubleMasking:
    """Logits by `double_masking` of a victim: in [-1, 1], with the gradient of the victim's own logits."""

    size: int
    masks: int

    def __call__(self, victim: Victim, x: Array) -> Array:
        own = victim.logits(x)
        classes = double_masking(victim.logits, jax.lax.stop_gradient(x), self.size, self.masks)
        return voted(jax.nn.one_hot(classes, own.shape[-1]), own)


@dataclasses.dataclass(frozen=True)
class PatchCleanser(Defence):
    """Predict behind two rounds of masks of which one hides any patch (Xiang et al. 2022).

    On the images of `certified` no patch of size x size pixels at any one place, whatever it shows, changes the
    prediction: nor does a trigger of that size, whatever the network was trained on. `analyses.CertifiedPatch` counts
    them.

    size: side in pixels of the largest patch. masks: positions a side, 6 in the paper. draws: masks that each training
    image is shown behind, 0 for none; see `MaskedTraining`. ValueError for an impossible value.
    """

    size: int
    masks: int = 6
    draws: int = 2

    needs_images: ClassVar[bool] = True

    def __post_init__(self):
        check_masks(self.size, self.masks)
        if self.draws < 0:
            raise ValueError(f"draws must be at least 0, got {self.draws}")

    def objective(self, objective: Objective) -> Objective:
        """The arm's objective on masked images."""
        return MaskedTraining(objective, self.size, self.masks, self.draws) if self.draws else objective

    def shield(self, victim: Victim, context: Context) -> Shield:
        """The network behind its masks."""
        return Shield(logits=Partial(DoubleMasking(self.size, self.masks), victim))


def inside(victim: Victim) -> LogitsFn:
    """The logits of the network that is masked where a victim is behind double masking; else the victim's own."""
    logits = guard(victim)
    masked = logits is not None and isinstance(logits.func, DoubleMasking)
    return logits.args[0].logits if masked else victim.logits


def mask_set(shape: tuple[int, ...], size: int, masks: int = 6) -> np.ndarray:
    """Masks of which one at least hides any size x size patch of an image [h w c]: [m h w 1], False where they hide.

    At most masks x masks of them, with sides s + size - 1 at strides of s = ceil((h - size + 1) / masks), and likewise
    for w (Xiang et al. 2022). ValueError for a patch that is larger than the image.
    """
    if size > min(shape[:2]):
        raise ValueError(f"size must be at most {min(shape[:2])} for images of shape {list(shape)}, got {size}")
    rows, columns = (_bands(side, size, masks) for side in shape[:2])
    hidden = rows[:, None, :, None] & columns[None, :, None, :]
    return ~hidden.reshape(-1, *shape[:2], 1)


def _bands(side: int, size: int, masks: int) -> np.ndarray:
    """Where the masks lie along one axis, [m side] bool."""
    stride = -(-(side - size + 1) // masks)
    width = stride + size - 1
    starts = np.unique(np.minimum(np.arange(masks) * stride, side - width))[:, None]
    return (np.arange(side) >= starts) & (np.arange(side) < starts + width)


def behind(mask: Array, x: Array) -> Array:
    """Images x [b h w c] with black where a mask [h w 1], or one for each [b h w 1], is False."""
    return jnp.where(mask, x, 0.0)


def _unanimous(logits_fn: LogitsFn, x: Array, classes: Array, masks: Array, left: Array) -> Array:
    """The rows left [b] whose images x [b h w c] are of the classes [b] behind each of masks [m h w 1]: [b] bool.

    Mask after mask, and each only for the rows that have passed all before it.
    """

    def one(left: Array, mask: Array) -> tuple[Array, None]:
        def passed(given: tuple[Array, Array], old: Array) -> Array:
            images, said = given
            return jnp.argmax(logits_fn(behind(mask, images)), -1) == said

        return jax.lax.cond(jnp.any(left), lambda: on_active_rows(passed, (x, classes), left, left), lambda: left), None

    return jax.lax.scan(one, left, masks)[0]


def double_masking(logits_fn: LogitsFn, x: Array, size: int, masks: int = 6) -> Array:
    """The classes of images x [b h w c] by two rounds of masks, [b] (Xiang et al. 2022, algorithm 1).

    The class of the majority of masks, the smallest of a draw, unless a mask disagrees whose own class stands behind
    every second mask: then that of the first such mask. Only images with a disagreement are masked twice.
    """
    x, shown = jnp.asarray(x), jnp.asarray(mask_set(x.shape[1:], size, masks))
    first = jax.lax.map(lambda mask: jnp.argmax(logits_fn(behind(mask, x)), -1), shown)
    majority = jax.scipy.stats.mode(first, 0).mode

    def second(confirmed: Array, look: tuple[Array, Array]) -> tuple[Array, None]:
        mask, said = look
        disagrees = (said != majority) & (confirmed == NONE)
        return jnp.where(_unanimous(logits_fn, behind(mask, x), said, shown, disagrees), said, confirmed), None

    confirmed, _ = jax.lax.scan(second, jnp.full_like(majority, NONE), (shown, first))
    return jnp.where(confirmed == NONE, majority, confirmed)


def certified(logits_fn: LogitsFn, x: Array, labels: Array, size: int, masks: int = 6) -> Array:
    """True for images x [b h w c] whose label [b] is predicted behind any two masks, [b] (ibid., algorithm 2).

    `double_masking` predicts that label whatever a patch up to size x size pixels at any one place shows (theorem 1).
    Each pair of masks is looked at once.
    """
    shown = mask_set(x.shape[1:], size, masks)
    one, two = np.triu_indices(len(shown))
    pairs = jnp.asarray(shown[one] & shown[two])
    return _unanimous(logits_fn, jnp.asarray(x), jnp.asarray(labels), pairs, jnp.ones(len(x), bool))
