"""Many test-time attacks on one network: how robust it is against each, how far each had to go, and what it costs."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from poisonjax.attacks import FAB, L2, PGD, AnyAttack, AutoAttack, CrossEntropy, Linf
from poisonjax.attacks.balls import Ball
from poisonjax.evaluation.adversarial_example import attacked
from poisonjax.evaluation.victim import Victim
from poisonjax.runtime import distributed
from poisonjax.types import Array, Attack, Examples, take, to_unit

_NO_CLASS = -1  # the label of rows that nothing is to be done for: whatever the network says of them is wrong
MARGIN = 0.05  # of the images: how much less an attack must leave than it should, for `masking` to speak of it


@dataclasses.dataclass(frozen=True)
class NamedAttack:
    """An attack and what it is called."""

    name: str
    attack: AnyAttack


@dataclasses.dataclass(frozen=True)
class AttackSuite:
    """Which attacks, on how many images, the first of the test split, and how many at a time.

    shown: images in the picture. ValueError for an impossible value or a name that comes twice.
    """

    trials: tuple[NamedAttack, ...]
    images: int = 200
    batch: int = 100
    shown: int = 4

    def __post_init__(self):
        for field in ("images", "batch", "shown"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, got {getattr(self, field)}")
        names = [trial.name for trial in self.trials]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"trials must have names of their own, got {twice[0]} twice")


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


class Pictures(NamedTuple):
    """adversarial: a few images [n h w c]. after: the classes predicted for them [n]."""

    adversarial: np.ndarray
    after: np.ndarray


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
    state: Any,
    examples: Examples,
    attack: AnyAttack,
    key: Array,
    batch: int,
    keep: StageCache = no_cache,
    follow: Progress = no_progress,
) -> AttackResult:
    """The attack on examples [n]; one with stages passes on to each the images that are left.

    state and key are those that `distributed.replicate` gave. keep: may give back what a stage made earlier.
    """
    batch = min(batch, len(examples.label))
    if not isinstance(attack, AutoAttack):
        with follow("", len(examples.label)) as advance:
            return _one(victim, state, examples, attack, key, batch, advance)
    found, seconds, left = None, 0.0, {}
    for name, stage in attack.stages:
        watched = functools.partial(follow, name)
        found = keep(name, functools.partial(_stage, victim, state, examples, stage, key, batch, found, watched))
        seconds, left[name] = seconds + float(found.seconds), float(np.mean(found.after == examples.label))
    return AttackResult(*found[:3], len(examples.label) / seconds, left)


def _one(
    victim, state, examples: Examples, attack, key, batch: int, advance: Advance = lambda rows: None
) -> AttackResult:
    marks = [(0, time.monotonic())]

    def done(rows: int) -> None:
        marks.append((marks[-1][0] + rows, time.monotonic()))
        advance(rows)

    _, adversarial, before, after = attacked(victim, attack)(examples, batch, state, key, advance=done)
    (rows, start), (total, end) = marks[1], marks[-1]  # the first call compiles
    rate = (total - rows) / (end - start) if total > rows else float("nan")
    return AttackResult(adversarial, before.argmax(-1), after.argmax(-1), rate, {})


def _stage(victim, state, examples: Examples, attack, key, batch: int, found: Stage | None, follow) -> Stage:
    """What was found so far, and what this attack finds for the images that are left."""
    left = np.arange(len(examples.label)) if found is None else np.flatnonzero(found.after == examples.label)
    if not len(left):
        return found._replace(seconds=np.float64(0))
    idle = take(examples, slice(batch))._replace(label=np.full(batch, _NO_CLASS, examples.label.dtype))
    _one(victim, state, idle, attack, key, batch)  # compiles
    begin, batches = time.monotonic(), _batches(take(examples, left), batch)
    with follow(len(batches) * batch) as advance:
        parts = [_one(victim, state, rows, attack, key, batch, advance)[:3] for rows in batches]
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
def _inspector(victim: Victim, slopes: bool) -> Callable:
    def see(examples: Examples, state: Any) -> CleanOutputs:
        def loss(x: Array) -> tuple[Array, Array]:
            logits = logits_fn(x).astype(jnp.float32)
            return CrossEntropy()(logits, examples.label).sum(), logits

        x, logits_fn = to_unit(examples.image), victim(state)
        if not slopes:
            return CleanOutputs(loss(x)[1], None)
        gradient, logits = jax.grad(loss, has_aux=True)(x)
        return CleanOutputs(logits, jnp.max(jnp.abs(gradient), (1, 2, 3)))

    return distributed.over_rows(see)


def inspect(victim: Victim, state: Any, examples: Examples, attacks: Iterable[Attack], batch: int) -> CleanOutputs:
    """The network on examples [n], as the attacks will find it; without slopes if none of them takes gradients.

    state is that which `distributed.replicate` gave.
    """
    slopes = any(attack.cost.gradients for attack in attacks)
    return _inspector(victim, slopes)(examples, min(batch, len(examples.label)), state)


class AttackOutcome(NamedTuple):
    """What an attack, or a stage of one, left: robust, the share of the images still classified as labelled."""

    name: str
    attack: Attack
    robust: float


def outcomes(name: str, attack: AnyAttack, measured: dict) -> list[AttackOutcome]:
    """Those of an attack of which `measure` said so; of one with stages, what was left after each."""
    if isinstance(attack, AutoAttack):
        return [AttackOutcome(f"{name} {stage}", of, measured["stages"][stage]) for stage, of in attack.stages]
    hits, of = measured["robust"]
    return [AttackOutcome(name, attack, hits / of)]


def masking(found: Iterable[AttackOutcome], seen: CleanOutputs) -> list[str]:
    """Signs that a network hides its gradient from the attacks instead of being robust, one line each.

    Of those that Athalye et al. 2018, section 3.1, and Carlini et al. 2019 name, these three, each with a margin of
    more than 5 points of the images, so that chance no_progress seldom makes one:
    - the gradient with respect to the image is zero everywhere, or no number, for so many of the images;
    - an attack that takes no gradients leaves so many fewer images than the best one that climbs a gradient in the
      same ball;
    - so does a single step along the gradient.
    An attack climbs if it is not targeted, takes several gradients and can cross the ball. Among attacks that were not
    tried on the same images nothing can be compared, so only the first sign shows where one attack was. No sign is
    no proof that nothing is hidden, and a line is a reason to try `adaptive.bpda` or `adaptive.eot`, no proof either.
    """
    lines, found = [], list(found)
    if seen.slope is not None and (flat := float(np.mean(~(seen.slope > 0)))) > MARGIN:
        lines.append(f"gradient masking: the gradient of {flat:.1%} of the images is zero or no number")
    for ball in dict.fromkeys(_ball(each.attack) for each in found):
        here = [each for each in found if ball is not None and _ball(each.attack) == ball]
        if climbing := [each for each in here if _climbs(each.attack)]:
            best = min(climbing, key=lambda each: each.robust)
            lines += [_beaten(each, best, ball) for each in here if _too_good(each, best)]
    return lines


def _ball(attack: Attack) -> Ball | None:
    """Where it may go; None for one that may go anywhere."""
    if isinstance(attack, FAB):
        return attack.eps and (Linf if attack.norm == "Linf" else L2)(attack.eps)
    return getattr(attack, "ball", None)


def _climbs(attack: Attack) -> bool:
    """Whether a network that hides nothing should withstand it less than it withstands a single step or chance."""
    if isinstance(attack, PGD):
        return attack.steps > 1 and attack.step * attack.steps >= attack.ball.eps and not attack.targeted
    return attack.cost.gradients > 0


def _too_good(each: AttackOutcome, best: AttackOutcome) -> bool:
    single = isinstance(each.attack, PGD) and each.attack.steps == 1
    return (single or not each.attack.cost.gradients) and best.robust - each.robust > MARGIN


def _beaten(each: AttackOutcome, best: AttackOutcome, ball: Ball) -> str:
    means = "a single step" if each.attack.cost.gradients else "without gradients"
    return (
        f"gradient masking: {each.name}, {means}, leaves {each.robust:.1%} of the images, and {best.name}, which "
        f"climbs the gradient, {best.robust:.1%} in the same ball, {ball}"
    )


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
