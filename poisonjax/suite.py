"""Many test-time attacks on one network: how robust it is against each, how far each had to go, and what it costs."""

import dataclasses
import time
from typing import NamedTuple

import numpy as np
from flax import linen as nn

from poisonjax.adversarial_example import attacked
from poisonjax.attacks import AnyAttack, AutoAttack
from poisonjax.training import TrainState
from poisonjax.types import Array, Examples, take


@dataclasses.dataclass(frozen=True)
class Trial:
    """An attack and what it is called."""

    name: str
    attack: AnyAttack


@dataclasses.dataclass(frozen=True)
class Suite:
    """Which attacks, on how many images, the first of the test split, and how many at a time.

    shown: images in the picture. ValueError for an impossible value or a name that comes twice.
    """

    trials: tuple[Trial, ...]
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


class Tried(NamedTuple):
    """What an attack made of images: adversarial [n h w c]; before, after: classes predicted [n]. rate: images/s
    without compiling, nan where it is not known. left: share still classified as labelled after each stage."""

    adversarial: np.ndarray
    before: np.ndarray
    after: np.ndarray
    rate: float
    left: dict[str, float]


class Pictures(NamedTuple):
    """adversarial: a few images [n h w c]. after: the classes predicted for them [n]."""

    adversarial: np.ndarray
    after: np.ndarray


def attempt(
    model: nn.Module, state: TrainState, examples: Examples, attack: AnyAttack, key: Array, batch: int
) -> Tried:
    """The attack on examples [n]; one with stages passes on to each the images that are left.

    state and key are those that `distributed.put` gave.
    """
    if not isinstance(attack, AutoAttack):
        return _one(model, state, examples, attack, key, batch)
    found, spent, left = None, 0.0, {}
    idle = take(examples, slice(batch))._replace(label=np.full_like(examples.label[:batch], -1))
    for name, stage in attack.stages:
        _one(model, state, idle, stage, key, batch)  # compiles; no image is of class -1, so there is nothing to do
        begin = time.monotonic()
        found = _stage(model, state, examples, stage, key, batch, found)
        spent += time.monotonic() - begin
        left[name] = float(np.mean(found.after == examples.label))
    return found._replace(rate=len(examples.label) / spent, left=left)


def _one(model, state, examples: Examples, attack, key, batch: int) -> Tried:
    marks = [(0, time.monotonic())]
    _, adversarial, before, after = attacked(model, attack)(
        examples, batch, state, key, advance=lambda rows: marks.append((marks[-1][0] + rows, time.monotonic()))
    )
    (rows, start), (total, end) = marks[1], marks[-1]  # the first call compiles
    rate = (total - rows) / (end - start) if total > rows else float("nan")
    return Tried(adversarial, before.argmax(-1), after.argmax(-1), rate, {})


def _stage(model, state, examples: Examples, attack, key, batch: int, found: Tried | None) -> Tried:
    """What was found so far, and what this attack finds for the images that are left."""
    if found is None:
        return _one(model, state, examples, attack, key, batch)
    rows = np.flatnonzero(found.after == examples.label)
    if not len(rows):
        return found
    whole = np.resize(rows, -(-len(rows) // batch) * batch)  # full batches: one program for any number of rows
    new = _one(model, state, take(examples, whole), attack, key, batch)
    adversarial, after = found.adversarial.copy(), found.after.copy()
    adversarial[whole], after[whole] = new.adversarial, new.after
    return found._replace(adversarial=adversarial, after=after)


def measure(clean: np.ndarray, labels: np.ndarray, tried: Tried, attack: AnyAttack) -> dict:
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
