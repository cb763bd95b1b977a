"""Patch search: a class that a small patch at one place turns most images into is the target of a backdoor.

Sees what Neural Cleanse misses in adversarially trained networks, triggers of a few pixels beside which every other
class takes a large change. Misses triggers that are no patch or larger, and backdoors without one target class.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial

from poisonjax.attacks.settings import check_counts
from poisonjax.types import Array, LogitsFn, to_unit

TOGETHER = 8  # places that are searched at once


class Patches(NamedTuple):
    """The most successful patch for each of k classes.

    patterns: [k s s c] in [0, 1]. places: [k 2], row and column of the upper left corner. success: [k], the share of
    images of other classes that become the class, of those that the search has not seen. flagged: [k] bool.
    """

    patterns: np.ndarray
    places: np.ndarray
    success: np.ndarray
    flagged: np.ndarray


@dataclasses.dataclass(frozen=True)
class PatchSearch:
    """Settings of `search_patches`.

    size: of the patch, in pixels. stride: between the places that are tried. steps: of signed gradients, for each class
    and place. seen: images that a patch is made for. success: share of the other images at which a class is flagged, if
    it exceeds that of the median class by half of what that leaves. ValueError for impossible values.
    """

    size: int = 5
    stride: int = 2
    steps: int = 20
    seen: int = 50
    success: float = 0.8

    def __post_init__(self):
        check_counts(self, "size", "stride", "steps", "seen")
        if not 0 < self.success <= 1:
            raise ValueError(f"success must lie in (0, 1], got {self.success}")

    def places(self, height: int, width: int) -> np.ndarray:
        """Upper left corners [m 2] of the patches to try, the last of each row and column flush with the border.

        ValueError for images smaller than the patch.
        """
        if min(height, width) < self.size:
            raise ValueError(f"size must be at most {min(height, width)} for images of {height} x {width} pixels")
        last = height - self.size, width - self.size
        sides = [np.unique(np.r_[np.arange(0, end, self.stride), end]) for end in last]
        return np.stack(np.meshgrid(*sides, indexing="ij"), -1).reshape(-1, 2)

    def flagged(self, success: np.ndarray) -> np.ndarray:
        """The classes that are flagged, [k] bool."""
        usual = np.median(success)
        return (success >= self.success) & (success - usual >= (1 - usual) / 2)


def search_patches(logits_fn: LogitsFn, images: Array, labels: Array, settings: PatchSearch = PatchSearch()) -> Patches:
    """Find the best patch for each class of a network, on images [n h w c], uint8 or in [0, 1], and labels [n].

    A logits_fn that is a `jax.tree_util.Partial` of its weights shares its compiled program with others of its kind.
    ValueError for fewer images than twice those that are seen, or images smaller than the patch.
    """
    if len(images) < 2 * settings.seen:
        raise ValueError(f"at least {2 * settings.seen} images are needed, twice seen, got {len(images)}")
    places = settings.places(*images.shape[1:3])
    function = logits_fn if isinstance(logits_fn, Partial) else Partial(logits_fn)
    found = _searched(function, jnp.asarray(images), jnp.asarray(labels), jnp.asarray(places), settings)
    patterns, chosen, success = jax.device_get(found)
    return Patches(patterns, places[chosen], success, settings.flagged(success))


@functools.partial(jax.jit, static_argnames="settings")
def _searched(logits_fn: Partial, images: Array, labels: Array, places: Array, settings: PatchSearch):
    """Patterns [k s s c], their places [k] among `places` [m 2], and their success [k] on images not seen."""
    x, seen = to_unit(images), settings.seen
    classes = jax.eval_shape(logits_fn, x[:1]).shape[-1]

    def of_class(target: Array) -> tuple[Array, Array, Array]:
        def at(place: Array) -> tuple[Array, Array]:
            pattern = _pattern(logits_fn, x[:seen], labels[:seen], target, place, settings)
            return pattern, _hits(logits_fn, x[:seen], labels[:seen], target, place, pattern)

        patterns, hits = jax.lax.map(at, places, batch_size=TOGETHER)
        best = jnp.argmax(hits)
        return patterns[best], best, _hits(logits_fn, x[seen:], labels[seen:], target, places[best], patterns[best])

    return jax.lax.map(of_class, jnp.arange(classes))


def _pattern(logits_fn, x: Array, y: Array, target: Array, place: Array, settings: PatchSearch) -> Array:
    """A patch [s s c] in [0, 1] for one place, of all images [b h w c] of other classes."""

    def loss(pattern: Array) -> Array:
        logits = logits_fn(pasted(x, pattern, place))
        entropy = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.full(len(x), target))
        return jnp.mean(entropy, where=y != target)

    def step(number: Array, pattern: Array) -> Array:
        length = 1 - number / settings.steps  # long at first, to get across the range, then shorter
        return jnp.clip(pattern - 0.5 * length * jnp.sign(jax.grad(loss)(pattern)), 0.0, 1.0)

    grey = jnp.full((settings.size, settings.size, x.shape[-1]), 0.5)
    return jax.lax.fori_loop(0, settings.steps, step, grey)


def pasted(x: Array, pattern: Array, place: Array) -> Array:
    """Images [b h w c] with a pattern [s s c] at one place, its upper left corner (row, column)."""
    return jax.vmap(lambda image: jax.lax.dynamic_update_slice(image, pattern, (place[0], place[1], 0)))(x)


def _hits(logits_fn, x: Array, y: Array, target: Array, place: Array, pattern: Array) -> Array:
    """The share of images of other classes that the patch turns into the target."""
    said = jnp.argmax(logits_fn(pasted(x, pattern, place)), -1)
    return jnp.sum((said == target) & (y != target)) / jnp.maximum(jnp.sum(y != target), 1)
