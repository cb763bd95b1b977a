"""Neural Cleanse: a class that a small patch turns every image into is the target of a backdoor.

Falls to backdoors without such a class, as all-to-all ones and those that work on images of some classes only, and to
triggers as large as what turns a clean class into another (Wang et al. 2019, section VII). Of few classes, the median
and its deviation are uncertain: one of ten is easily missed, or flagged for nothing.
"""

import dataclasses
import functools
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial

from poisonjax.attacks.settings import check_counts, check_positive
from poisonjax.defences.base import Context, Defence, Shield, instead
from poisonjax.evaluation.victim import Victim
from poisonjax.training.objectives import Objective, Standard
from poisonjax.types import Array, Examples, LogitsFn, to_bytes, to_unit

CONSISTENCY = 1.4826  # times the median absolute deviation is the standard deviation of a normal distribution


class Inversion(NamedTuple):
    """The smallest trigger found for each of k classes, and which are smaller than the others allow for.

    masks: [k h w 1] in [0, 1], how much of each pixel the trigger replaces. patterns: [k h w c] in [0, 1], what
    by. norms: [k], sums of the masks, in pixels. success: [k], the share of all given images that become the class.
    anomaly: [k], `anomaly_index` of the norms. flagged: [k] bool.
    """

    masks: np.ndarray
    patterns: np.ndarray
    norms: np.ndarray
    success: np.ndarray
    anomaly: np.ndarray
    flagged: np.ndarray


@dataclasses.dataclass(frozen=True)
class TriggerInversion:
    """Settings of `invert_triggers`, with the values of the authors' code but for the batch (Wang et al. 2019, IV).

    steps: of Adam with `learning_rate` for each class, each on `batch` images drawn anew; a step of that code is a pass
    over 1,000 images in batches of 32. cost: of a pixel of the mask, to begin with; after `patience` steps in a row in
    which a share `success` of the batch becomes the class, it is multiplied by `multiplier`, after as many in which
    less does, divided by multiplier ** 1.5. Of the triggers that turn such a share of all images, the smallest is
    found. outlier: classes with a higher anomaly index, and a smaller mask than the median, are flagged. ValueError for
    impossible values.
    """

    steps: int = 1000
    batch: int = 128
    learning_rate: float = 0.1
    cost: float = 1e-3
    multiplier: float = 2.0
    patience: int = 5
    success: float = 0.99
    outlier: float = 2.0

    def __post_init__(self):
        check_counts(self, "steps", "batch", "patience")
        check_positive(self, "learning_rate", "cost", "outlier")
        if not self.multiplier > 1:
            raise ValueError(f"multiplier must be above 1, got {self.multiplier}")
        if not 0 < self.success <= 1:
            raise ValueError(f"success must lie in (0, 1], got {self.success}")


@dataclasses.dataclass(frozen=True)
class NeuralCleanse(Defence):
    """Unlearn the triggers of classes that small ones lead to (Wang et al. 2019, sections IV and VI.C).

    The network goes on from where it is for so many `epochs` over the clean rows, a `share` of them, in (0, 1], with
    the trigger of a flagged class and their true labels; a fifth and one epoch in the paper. It stays as it is if no
    class is flagged. inversion: how triggers are found. repair: how the network goes on. ValueError for impossible
    values.
    """

    inversion: TriggerInversion = TriggerInversion()
    share: float = 0.2
    epochs: int = 1
    repair: Objective = Standard()

    needs_clean: ClassVar[bool] = True
    needs_images: ClassVar[bool] = True

    def __post_init__(self):
        if not 0 < self.share <= 1:
            raise ValueError(f"share must lie in (0, 1], got {self.share}")
        check_counts(self, "epochs")

    def shield(self, victim: Victim, context: Context) -> Shield:
        """The network without its backdoors, or an empty shield. ValueError for logits that are not finite."""
        search, draw = jax.random.split(context.key)
        found = invert_triggers(Partial(Victim.logits, victim), context.clean.image, search, self.inversion)
        if not found.flagged.any():
            return Shield()
        training = dataclasses.replace(context.training, epochs=self.epochs)
        rows = self.stamped(context.clean, found, draw)
        repaired = context.fit("unlearnt", self.repair, rows, training=training, start=victim)
        return instead(repaired)

    def stamped(self, clean: Examples, found: Inversion, key: Array) -> Examples:
        """Clean rows [m], round(share * m) of them with a flagged trigger, each as often; the labels stay true."""
        rows = np.asarray(jax.random.permutation(key, len(clean.label)))[: round(self.share * len(clean.label))]
        flagged = np.flatnonzero(found.flagged)
        which, image = flagged[np.arange(len(rows)) % len(flagged)], np.array(clean.image)
        image[rows] = to_bytes(stamp(to_unit(image[rows]), found.masks[which], found.patterns[which]))
        return clean._replace(image=image)


def stamp(x: Array, mask: Array, pattern: Array) -> Array:
    """Images x [b h w c] with a trigger: mask [.. h w 1] and pattern [.. h w c] in [0, 1], one or one for each."""
    return (1 - mask) * x + mask * pattern


def anomaly_index(norms: np.ndarray) -> np.ndarray:
    """The distance of norms [k] from their median, in standard deviations as the median absolute deviation has them."""
    away = np.abs(norms - np.median(norms))
    return away / max(CONSISTENCY * np.median(away), 1e-12)


def invert_triggers(
    logits_fn: LogitsFn, images: Array, key: Array, settings: TriggerInversion = TriggerInversion()
) -> Inversion:
    """Find a small trigger for each class of a network, on images [n h w c], uint8 or in [0, 1], of any classes.

    A logits_fn that is a `jax.tree_util.Partial` of its weights shares its compiled program with others of its kind.
    ValueError if a search diverges, or the logits are not finite.
    """
    function = logits_fn if isinstance(logits_fn, Partial) else Partial(logits_fn)
    masks, patterns, success = jax.device_get(_inverted(function, jnp.asarray(images), key, settings))
    norms = masks.sum((1, 2, 3))
    if not np.isfinite(norms).all():
        raise ValueError("the search for triggers diverged; see that the network's logits are finite")
    anomaly = anomaly_index(norms)
    flagged = (anomaly > settings.outlier) & (norms < np.median(norms))
    return Inversion(masks, patterns, norms, success, anomaly, flagged)


class _Trigger(NamedTuple):
    """mask [h w 1] and pattern [h w c]: in [0, 1], or as the free variables that a sigmoid maps there."""

    mask: Array
    pattern: Array


class _Run(NamedTuple):
    """A descent. streak: steps in a row that reached the class, or minus those that did not. best: smallest so far."""

    free: _Trigger
    adam: optax.OptState
    cost: Array
    streak: Array
    norm: Array
    best: _Trigger


@functools.partial(jax.jit, static_argnames="settings")
def _inverted(logits_fn: Partial, images: Array, key: Array, settings: TriggerInversion) -> tuple[Array, Array, Array]:
    """Masks [k h w 1], patterns [k h w c] and success [k], one class at a time, so that k costs no memory."""
    classes = jax.eval_shape(logits_fn, to_unit(images[:1])).shape[-1]

    def of_class(target: Array) -> tuple[Array, Array, Array]:
        trigger = _smallest(logits_fn, images, target, jax.random.fold_in(key, target), settings)
        return *trigger, _success(logits_fn, images, trigger, target, settings.batch)

    return jax.lax.map(of_class, jnp.arange(classes))


def _smallest(logits_fn, images: Array, target: Array, key: Array, settings: TriggerInversion) -> _Trigger:
    """The smallest trigger that reached the class; the last one if none did, or if the search diverged."""
    adam = optax.adam(settings.learning_rate, b1=0.5, b2=0.9)
    start, draw = jax.random.split(key)

    def loss(free: _Trigger, x: Array, cost: Array) -> tuple[Array, tuple[_Trigger, Array]]:
        trigger = _visible(free)
        logits = logits_fn(stamp(x, *trigger))
        entropy = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.full(len(x), target))
        hits = jnp.mean(jnp.argmax(logits, -1) == target)
        return jnp.mean(entropy) + cost * jnp.sum(trigger.mask), (trigger, hits)

    def confirmed(trigger: _Trigger) -> Array:
        return _success(logits_fn, images, trigger, target, settings.batch) >= settings.success

    def step(number: Array, run: _Run) -> _Run:
        rows = jax.random.randint(jax.random.fold_in(draw, number), (settings.batch,), 0, len(images))
        slope, (trigger, hits) = jax.grad(loss, has_aux=True)(run.free, to_unit(images[rows]), run.cost)
        update, moments = adam.update(slope, run.adam)
        reached, smaller = hits >= settings.success, jnp.sum(trigger.mask) < run.norm
        kept = jax.lax.cond(reached & smaller, confirmed, lambda trigger: False, trigger)
        run = _adapted(_kept(run, trigger, kept), reached, settings)
        return run._replace(free=optax.apply_updates(run.free, update), adam=moments)

    free = _random_start(images.shape[1:], start)
    first = _Run(free, adam.init(free), jnp.float32(settings.cost), jnp.int32(0), jnp.float32(jnp.inf), _visible(free))
    end = jax.lax.fori_loop(0, settings.steps, step, first)
    last = _visible(end.free)
    usable = jnp.isfinite(end.norm) & jnp.isfinite(jnp.sum(last.mask))
    return jax.tree.map(lambda best, other: jnp.where(usable, best, other), end.best, last)


def _kept(run: _Run, trigger: _Trigger, kept: Array) -> _Run:
    """The run with this trigger as its best, if it is to be kept."""
    norm, best = jax.tree.map(
        lambda new, old: jnp.where(kept, new, old), (jnp.sum(trigger.mask), trigger), (run.norm, run.best)
    )
    return run._replace(norm=norm, best=best)


def _adapted(run: _Run, reached: Array, settings: TriggerInversion) -> _Run:
    """The run with its cost raised after enough steps in a row that reached the class, lowered after as many not."""
    streak = jnp.where(reached, jnp.maximum(run.streak, 0) + 1, jnp.minimum(run.streak, 0) - 1)
    due = jnp.abs(streak) >= settings.patience
    factor = jnp.where(reached, settings.multiplier, settings.multiplier**-1.5)
    return run._replace(cost=jnp.where(due, run.cost * factor, run.cost), streak=jnp.where(due, 0, streak))


def _visible(free: _Trigger) -> _Trigger:
    """(tanh + 1) / 2 of the free variables."""
    return jax.tree.map(lambda w: jax.nn.sigmoid(2 * w), free)


def _random_start(shape: tuple[int, ...], key: Array) -> _Trigger:
    """Free variables of a mask and a pattern that are uniform between 0 and 1, for images of a shape (h w c)."""
    mask, pattern = jax.random.split(key)
    uniform = functools.partial(jax.random.uniform, minval=-0.999, maxval=0.999)
    return _Trigger(jnp.arctanh(uniform(mask, (*shape[:2], 1))), jnp.arctanh(uniform(pattern, shape)))


def _success(logits_fn, images: Array, trigger: _Trigger, target: Array, batch: int) -> Array:
    """The share of images [n] that the trigger turns into the class, a batch at a time."""
    rows = jnp.arange(-(-len(images) // batch) * batch).reshape(-1, batch)

    def hits(at: Array) -> Array:
        classes = jnp.argmax(logits_fn(stamp(to_unit(images[at % len(images)]), *trigger)), -1)
        return jnp.sum((classes == target) & (at < len(images)))

    return jnp.sum(jax.lax.map(hits, rows)) / len(images)
