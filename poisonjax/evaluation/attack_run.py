"""One attack on a network, stage by stage: adversarial images, predictions, distances and costs."""

import contextlib
import functools
import time
from collections.abc import Callable, Hashable, Iterable
from contextlib import AbstractContextManager
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from poisonjax.attacks import Attack, CrossEntropy
from poisonjax.attacks.rows import linf
from poisonjax.evaluation.victim import Victim, structure
from poisonjax.keys import row_keys
from poisonjax.runtime import distributed
from poisonjax.types import Array, Examples, take, to_unit

_NO_CLASS = -1  # label of padding rows: no prediction matches it, so attacks treat them as already misclassified


def _under_attack(victim: Victim, attack: Attack, examples: Examples, key: Array) -> tuple[list[Array], list[Array]]:
    """Images [b ...], clean and under attack, and the probabilities [b k] of both."""
    x = to_unit(examples.image)
    images = [x, attack(victim.logits, x, examples.label, row_keys(key, examples.index, 0))]
    return images, [jax.nn.softmax(victim.logits(image).astype(jnp.float32)) for image in images]


@distributed.cached
def attacked(victim: Hashable, attack: Attack) -> Callable:
    """over_rows program (examples, batch, victim, key) -> images, under attack, and the probabilities of both.

    victim: its `structure`.
    """

    def show(examples: Examples, victim: Victim, key: Array) -> tuple:
        images, probabilities = _under_attack(victim, attack, examples, key)
        return *images, *probabilities

    return distributed.over_rows(show)


@distributed.cached
def _classified(victim: Hashable, attack: Attack) -> Callable:
    """over_rows program (examples, batch, victim, key) -> images under attack, classes predicted before and after."""

    def classify(examples: Examples, victim: Victim, key: Array) -> tuple:
        images, probabilities = _under_attack(victim, attack, examples, key)
        return images[1], *(victim.classify(*pair) for pair in zip(images, probabilities, strict=True))

    return distributed.over_rows(classify)


class AttackResult(NamedTuple):
    """Result of an attack on n images.

    adversarial: [n ...]. before, after: classes predicted [n]; REJECTED where the victim refuses. images_per_second:
    without compilation, nan where it is not known. stages: share still classified as labelled after each stage.
    """

    adversarial: np.ndarray
    before: np.ndarray
    after: np.ndarray
    images_per_second: float
    stages: dict[str, float]


class Stage(NamedTuple):
    """Results of an ensemble up to the end of a stage, as in `AttackResult`. seconds: spent on this stage."""

    adversarial: np.ndarray
    before: np.ndarray
    after: np.ndarray
    seconds: np.ndarray


StageCache = Callable[[str, Callable[[], Stage]], Stage]  # (name of a stage, its computation) -> its result, maybe kept
Advance = Callable[[int], None]  # takes numbers of images done
Progress = Callable[[str, int], AbstractContextManager[Advance]]  # (name of a stage or "", images) -> progress report


def no_cache(name: str, make: Callable[[], Stage]) -> Stage:
    """Compute every stage anew."""
    return make()


def no_progress(name: str, images: int) -> AbstractContextManager[Advance]:
    """Report no progress."""
    return contextlib.nullcontext(_silent)


def _silent(rows: int) -> None:
    pass


def run(
    victim: Victim,
    examples: Examples,
    attack: Attack,
    key: Array,
    batch: int,
    cache: StageCache = no_cache,
    progress: Progress = no_progress,
) -> AttackResult:
    """The attack on examples [n]; each stage of an ensemble gets the images that those before left.

    victim and key come from `distributed.replicate`. cache: may return what a stage computed earlier.
    """
    batch = min(batch, len(examples.label))
    if not attack.stages:
        with progress("", len(examples.label)) as advance:
            return _run_one(victim, examples, attack, key, batch, advance)
    result, seconds, left = None, 0.0, {}
    for name, stage in attack.stages:
        make = functools.partial(_run_stage, victim, examples, stage, key, batch, result)
        result = cache(name, functools.partial(make, functools.partial(progress, name)))
        seconds, left[name] = seconds + float(result.seconds), float(np.mean(result.after == examples.label))
    return AttackResult(*result[:3], len(examples.label) / seconds, left)


def _run_one(
    victim: Victim, examples: Examples, attack: Attack, key: Array, batch: int, advance: Advance = _silent
) -> AttackResult:
    marks = [(0, time.monotonic())]

    def done(rows: int) -> None:
        marks.append((marks[-1][0] + rows, time.monotonic()))
        advance(rows)

    arrays = _classified(structure(victim), attack)(examples, batch, victim, key, advance=done)
    (rows, start), (total, end) = marks[1], marks[-1]  # the first call compiles
    rate = (total - rows) / (end - start) if total > rows else float("nan")
    return AttackResult(*arrays, rate, {})


def _run_stage(
    victim: Victim,
    examples: Examples,
    attack: Attack,
    key: Array,
    batch: int,
    earlier: Stage | None,
    progress: Callable[[int], AbstractContextManager[Advance]],
) -> Stage:
    """The earlier results, with those of this attack for the images that are left."""
    left = np.arange(len(examples.label)) if earlier is None else np.flatnonzero(earlier.after == examples.label)
    if not len(left):
        return earlier._replace(seconds=np.float64(0))
    padding = take(examples, slice(batch))._replace(label=np.full(batch, _NO_CLASS, examples.label.dtype))
    batches = _batches(take(examples, left), batch)
    with progress(len(batches) * batch) as advance:
        _run_one(victim, padding, attack, key, batch)  # compiles
        begin = time.monotonic()
        parts = [_run_one(victim, rows, attack, key, batch, advance)[:3] for rows in batches]
    new = [np.concatenate(fields)[: len(left)] for fields in zip(*parts, strict=True)]
    if earlier is None:
        earlier = Stage(*new, np.float64(0))
    adversarial, after = earlier.adversarial.copy(), earlier.after.copy()
    adversarial[left], after[left] = new[0], new[2]
    return Stage(adversarial, earlier.before, after, np.float64(time.monotonic() - begin))


def _batches(examples: Examples, batch: int) -> list[Examples]:
    """Full batches, so that one program serves any number of rows; the last is filled up with padding rows."""
    rows = np.arange(-(-len(examples.label) // batch) * batch)
    full = take(examples, rows % len(examples.label))
    full = full._replace(label=np.where(rows < len(examples.label), full.label, _NO_CLASS))
    return [take(full, slice(start, start + batch)) for start in range(0, len(rows), batch)]


class CleanOutputs(NamedTuple):
    """Outputs of a network for clean images: logits [n k]. slope: the largest absolute value in the gradient of the
    cross-entropy with respect to each image, [n]; None if it was not computed."""

    logits: np.ndarray
    slope: np.ndarray | None


@distributed.cached
def _outputs(victim: Hashable, slopes: bool) -> Callable:
    """over_rows program (examples, batch, victim) -> CleanOutputs."""

    def outputs(examples: Examples, victim: Victim) -> CleanOutputs:

        def loss(x: Array) -> tuple[Array, Array]:
            logits = victim.logits(x).astype(jnp.float32)
            return CrossEntropy()(logits, examples.label).sum(), logits

        x = to_unit(examples.image)
        if not slopes:
            return CleanOutputs(loss(x)[1], None)
        gradient, logits = jax.grad(loss, has_aux=True)(x)
        return CleanOutputs(logits, linf(gradient))

    return distributed.over_rows(outputs)


def clean_outputs(victim: Victim, examples: Examples, attacks: Iterable[Attack], batch: int) -> CleanOutputs:
    """Outputs for examples [n], clean; without slopes if none of the attacks takes gradients.

    victim comes from `distributed.replicate`.
    """
    slopes = any(attack.cost.gradients for attack in attacks)
    return _outputs(structure(victim), slopes)(examples, min(batch, len(examples.label)), victim)


def numbers(clean: np.ndarray, labels: np.ndarray, result: AttackResult, attack: Attack) -> dict:
    """The numbers of one attack on images clean [n ...] in [0, 1], as a record holds them.

    robust: [images classified as labelled under attack, all]. Distances are medians over the images that were
    classified as labelled before and no longer are; None where there is none. gradients, queries: at most, per image.
    """
    fooled = (result.before == labels) & (result.after != labels)
    change = (result.adversarial - clean)[fooled].reshape(int(fooled.sum()), clean[0].size)
    return {
        "robust": [int(np.sum(result.after == labels)), len(labels)],
        "median_l2": float(np.median(np.linalg.norm(change, axis=1))) if len(change) else None,
        "median_linf": float(np.median(np.abs(change).max(1))) if len(change) else None,
        "gradients": attack.cost.gradients,
        "queries": attack.cost.queries,
        "images_per_second": result.images_per_second if np.isfinite(result.images_per_second) else None,
        "stages": result.stages,
    }
