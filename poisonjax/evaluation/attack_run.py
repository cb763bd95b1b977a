"""One attack on a network, stage by stage: what it makes of images, how far it had to go, and what it costs."""

import contextlib
import functools
import time
from collections.abc import Callable, Hashable, Iterable
from contextlib import AbstractContextManager
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from poisonjax.attacks import AnyAttack, AutoAttack, CrossEntropy
from poisonjax.evaluation.victim import Victim, structure
from poisonjax.keys import row_keys
from poisonjax.runtime import distributed
from poisonjax.types import Array, Attack, Examples, take, to_unit

_NO_CLASS = -1  # the label of rows that nothing is to be done for: whatever the network says of them is wrong


@distributed.cached
def attacked(victim: Hashable, attack: Attack) -> Callable:
    """over_rows program (examples, batch, victim, key) -> images, under attack, and the probabilities of both.

    victim: its `structure`.
    """

    def show(examples: Examples, victim: Victim, key: Array) -> tuple:
        x = to_unit(examples.image)
        x_adv = attack(victim.logits, x, examples.label, row_keys(key, examples.index, 0))
        return x, x_adv, *(jax.nn.softmax(victim.logits(images).astype(jnp.float32)) for images in (x, x_adv))

    return distributed.over_rows(show)


class AttackResult(NamedTuple):
    """What an attack made of images: adversarial [n h w c]; before, after: classes predicted [n]. rate: images/s
    without compiling, nan where it is not known. left: share still classified as labelled after each stage."""

    adversarial: np.ndarray
    before: np.ndarray
    after: np.ndarray
    rate: float
    left: dict[str, float]


class Stage(NamedTuple):
    """What attacks with stages found up to the end of one, as in `AttackResult`. seconds: that this one took."""

    adversarial: np.ndarray
    before: np.ndarray
    after: np.ndarray
    seconds: np.ndarray


StageCache = Callable[
    [str, Callable[[], Stage]], Stage
]  # (name of a stage, how to make it) -> it, made or kept from before
Advance = Callable[[int], None]  # is told of images done
Progress = Callable[[str, int], AbstractContextManager[Advance]]  # (name of a stage or "", images) -> who looks on


def no_cache(name: str, make: Callable[[], Stage]) -> Stage:
    """Nothing is kept."""
    return make()


def no_progress(name: str, images: int) -> AbstractContextManager[Advance]:
    """Nobody looks on."""
    return contextlib.nullcontext(lambda rows: None)


def attempt(
    victim: Victim,
    examples: Examples,
    attack: AnyAttack,
    key: Array,
    batch: int,
    keep: StageCache = no_cache,
    follow: Progress = no_progress,
) -> AttackResult:
    """The attack on examples [n]; one with stages passes on to each the images that are left.

    victim and key come from `distributed.replicate`. keep: may give back what a stage made earlier.
    """
    batch = min(batch, len(examples.label))
    if not isinstance(attack, AutoAttack):
        with follow("", len(examples.label)) as advance:
            return _one(victim, examples, attack, key, batch, advance)
    found, seconds, left = None, 0.0, {}
    for name, stage in attack.stages:
        watched = functools.partial(follow, name)
        found = keep(name, functools.partial(_stage, victim, examples, stage, key, batch, found, watched))
        seconds, left[name] = seconds + float(found.seconds), float(np.mean(found.after == examples.label))
    return AttackResult(*found[:3], len(examples.label) / seconds, left)


def _one(victim, examples: Examples, attack, key, batch: int, advance: Advance = lambda rows: None) -> AttackResult:
    marks = [(0, time.monotonic())]

    def done(rows: int) -> None:
        marks.append((marks[-1][0] + rows, time.monotonic()))
        advance(rows)

    _, adversarial, before, after = attacked(structure(victim), attack)(examples, batch, victim, key, advance=done)
    (rows, start), (total, end) = marks[1], marks[-1]  # the first call compiles
    rate = (total - rows) / (end - start) if total > rows else float("nan")
    return AttackResult(adversarial, before.argmax(-1), after.argmax(-1), rate, {})


def _stage(victim, examples: Examples, attack, key, batch: int, found: Stage | None, follow) -> Stage:
    """What was found so far, and what this attack finds for the images that are left."""
    left = np.arange(len(examples.label)) if found is None else np.flatnonzero(found.after == examples.label)
    if not len(left):
        return found._replace(seconds=np.float64(0))
    idle = take(examples, slice(batch))._replace(label=np.full(batch, _NO_CLASS, examples.label.dtype))
    _one(victim, idle, attack, key, batch)  # compiles
    begin, batches = time.monotonic(), _batches(take(examples, left), batch)
    with follow(len(batches) * batch) as advance:
        parts = [_one(victim, rows, attack, key, batch, advance)[:3] for rows in batches]
    new = [np.concatenate(fields)[: len(left)] for fields in zip(*parts, strict=True)]
    if found is None:
        found = Stage(*new, np.float64(0))
    adversarial, after = found.adversarial.copy(), found.after.copy()
    adversarial[left], after[left] = new[0], new[2]
    return Stage(adversarial, found.before, after, np.float64(time.monotonic() - begin))


def _batches(examples: Examples, batch: int) -> list[Examples]:
    """Full ones, which one program serves, whatever their number; the rows that fill up the last are of no class."""
    rows = np.arange(-(-len(examples.label) // batch) * batch)
    full = take(examples, rows % len(examples.label))
    full = full._replace(label=np.where(rows < len(examples.label), full.label, _NO_CLASS))
    return [take(full, slice(start, start + batch)) for start in range(0, len(rows), batch)]


class CleanOutputs(NamedTuple):
    """What a network says of images as they are: logits [n k]. slope: the largest absolute value in the gradient of
    the cross-entropy with respect to each image, [n]; None if nobody asked."""

    logits: np.ndarray
    slope: np.ndarray | None


@distributed.cached
def _inspector(victim: Hashable, slopes: bool) -> Callable:
    def see(examples: Examples, victim: Victim) -> CleanOutputs:
        def loss(x: Array) -> tuple[Array, Array]:
            logits = victim.logits(x).astype(jnp.float32)
            return CrossEntropy()(logits, examples.label).sum(), logits

        x = to_unit(examples.image)
        if not slopes:
            return CleanOutputs(loss(x)[1], None)
        gradient, logits = jax.grad(loss, has_aux=True)(x)
        return CleanOutputs(logits, jnp.max(jnp.abs(gradient), (1, 2, 3)))

    return distributed.over_rows(see)


def inspect(victim: Victim, examples: Examples, attacks: Iterable[Attack], batch: int) -> CleanOutputs:
    """The network on examples [n], as the attacks will find it; without slopes if none of them takes gradients.

    victim comes from `distributed.replicate`.
    """
    slopes = any(attack.cost.gradients for attack in attacks)
    return _inspector(structure(victim), slopes)(examples, min(batch, len(examples.label)), victim)


def measure(clean: np.ndarray, labels: np.ndarray, tried: AttackResult, attack: AnyAttack) -> dict:
    """What a record holds of one attack on images clean [n h w c] in [0, 1].

    robust: how many are classified as labelled under attack, of all. Distances are medians over the images that were
    classified as labelled before and no longer are; None where there is none.
    """
    fooled = (tried.before == labels) & (tried.after != labels)
    change = (tried.adversarial - clean)[fooled].reshape(int(fooled.sum()), clean[0].size)
    return {
        "robust": [int(np.sum(tried.after == labels)), len(labels)],
        "median_l2": float(np.median(np.linalg.norm(change, axis=1))) if len(change) else None,
        "median_linf": float(np.median(np.abs(change).max(1))) if len(change) else None,
        "gradients": attack.cost.gradients,
        "queries": attack.cost.queries,
        "images_per_second": tried.rate if np.isfinite(tried.rate) else None,
        "stages": tried.left,
    }
