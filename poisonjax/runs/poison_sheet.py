"""One sheet of all poisons: what each does to a few training images, and how a test image shows its trigger.

Rows are crafted in one round against one small network that was trained in the standard way: what they look like, not
what they would achieve.
"""

import pathlib
import tempfile
import textwrap
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from poisonjax.attacks import L2, PGD, Linf
from poisonjax.data import Dataset
from poisonjax.evaluation.victim import Victim, structure
from poisonjax.experiment import Arm, Data, Evaluation, Experiment, Surrogate
from poisonjax.keys import stream_key
from poisonjax.models import WongCNN
from poisonjax.poisons import (
    SIG,
    AdaptiveBlend,
    AdaptivePatch,
    AdversarialPoison,
    BadNets,
    BrightSquare,
    CentreDistance,
    ClassNoise,
    CleanLabel,
    EntangledFeatures,
    GradientAlignment,
    HiddenTrigger,
    NoisyLabels,
    NoisyWarp,
    NoPoison,
    Poison,
    SleeperAgent,
    Warp,
    WithCover,
)
from poisonjax.reports import style
from poisonjax.reports.images import caption, magnification, perturbation, show_image
from poisonjax.runs.crafting import crafter, needed
from poisonjax.runs.job import Run
from poisonjax.runs.pictures import Shown
from poisonjax.runs.training import surrogate
from poisonjax.runtime import distributed
from poisonjax.training import Adam, Standard, Training
from poisonjax.types import Array, Examples, take, to_unit

BUDGET = Linf(0.3)  # Madry et al. 2018, section 5, of attacks on MNIST
FEATURES = PGD(BUDGET, steps=100, random_start=False, loss=CentreDistance())
POISONS = {
    "BadNets, all to one": BadNets(0.1, 0),
    "BadNets, all to all": BadNets(0.1, trigger=BrightSquare(3)),
    "clean label": CleanLabel(0.33, 0, attack=PGD(L2(5.0), step=0.1, steps=100, random_start=False)),
    "SIG": SIG(0.3, 0),
    "sleeper agent": SleeperAgent(0.05, 0, 7, attack=PGD(BUDGET, steps=40, loss=GradientAlignment())),
    "hidden trigger": HiddenTrigger(0.05, 0, 7, attack=FEATURES),
    "adaptive blend": AdaptiveBlend(0.003, 0.003, 0),
    "adaptive patch": AdaptivePatch(0.003, 0.006, 0),
    "warp, with cover rows": WithCover(BadNets(0.1, 0, Warp()), 0.2, NoisyWarp()),
    "BadNets, noisy labels": NoisyLabels(BadNets(0.1, 0), 0.3, seed=4),
    "adversarial examples": AdversarialPoison(attack=PGD(BUDGET, steps=40)),
    "class-wise noise": ClassNoise(amplitude=0.3),
    "entangled features": EntangledFeatures(attack=PGD(BUDGET, steps=40, loss=CentreDistance())),
}
CRAFTED = 64  # training rows of a poison, of which two are shown
DPI = 120  # the file is to be one that a page can load
HEADINGS = ("", *("training row", "its change", "poisoned row") * 2, "test row", "as attacked")


class Sample(NamedTuple):
    """Two training rows of a poison, and a test row. cover: True if the second is a cover row."""

    shown: Shown
    cover: bool


def of_package(data_dir: str | None = None) -> Figure:
    """The sheet of POISONS on mnist_5k, against a network of a few epochs."""
    train, evaluation = Training(batch=100, epochs=4, optimizer=Adam(4e-3)), Evaluation(PGD(BUDGET, steps=1))
    plan = Experiment(
        name="poisons",
        title="",
        paper_table="",
        data=Data("mnist_5k"),
        model=WongCNN(),
        poison=NoPoison(),
        surrogate=Surrogate(Standard(), train),
        train=train,
        evaluation=evaluation,
        arms=(Arm("standard"),),
    )
    dataset = plan.data.load(data_dir)
    with tempfile.TemporaryDirectory() as folder:
        victim = surrogate(Run(plan, dataset, pathlib.Path(folder), "poisons"), 0)
    samples = {name: sample(poison, dataset, victim) for name, poison in POISONS.items()}
    return sheet(samples, "mnist_5k; rows are crafted in one round against one small network")


def sample(poison: Poison, dataset: Dataset, victim: Victim, seed: int = 0) -> Sample:
    """The first rows of the classes that a poison of images takes, poisoned, and the first test row that it is for.

    victim: the attacker's network. The second row is a cover row, if the poison has any.
    """
    train, test, key = dataset.train, dataset.test, stream_key(seed, "poison")
    chosen = poison.select(jnp.asarray(train.label), key)
    covering = np.asarray(poison.cover(jnp.asarray(train.label), chosen, key))
    rows = _of_classes(train, np.asarray(chosen))
    apply = poison.crafted(_crafted(poison, dataset, victim, rows, key)) if poison.needs_surrogate else poison.apply
    before, after = take(rows, slice(2)), apply(take(rows, slice(2)))
    if covering.any():
        second = take(_of_classes(train, covering), slice(1, 2))
        pairs = (before, second), (after, poison.apply_cover(second))
        before, after = (jax.tree.map(lambda one, other: np.append(one[:1], other, 0), *pair) for pair in pairs)
    targets = np.asarray(poison.target_labels(jnp.asarray(test.label)))
    at = np.flatnonzero(targets != test.label)[:1] if poison.has_trigger else np.arange(1)
    clean, changed, shown = (to_unit(jnp.asarray(image)) for image in (before.image, after.image, test.image[at]))
    made = clean, changed, before.label, after.label, shown, poison.apply_trigger(shown), test.label[at], targets[at]
    return Sample(Shown(*map(np.asarray, made)), bool(covering.any()))


def _of_classes(rows: Examples, chosen: np.ndarray) -> Examples:
    """The first rows of the classes of the chosen ones [n] bool."""
    return take(rows, np.flatnonzero(np.isin(rows.label, rows.label[chosen]))[:CRAFTED])


def _crafted(poison: Poison, dataset: Dataset, victim: Victim, rows: Examples, key: Array) -> Examples:
    victim = distributed.replicate(victim)
    given, key = distributed.replicate(needed(poison, dataset, victim, CRAFTED)), distributed.replicate(key)
    return crafter(structure(victim), poison, 0)(rows, CRAFTED, victim, given, key, advance=lambda rows: None)


@style.styled
def sheet(samples: Mapping[str, Sample], setting: str) -> Figure:
    """A row of images for each poison: two training rows before and after, and a test row. setting: a line above."""
    height = len(samples) * (style.WIDTH / 10.3 + 0.22) + 0.4
    figure = style.sheet(height, "Each poison, in training and at test time", setting)
    axes = figure.subplots(len(samples), 9, squeeze=False, width_ratios=[1.15] + [1] * 8)
    for axis, heading in zip(axes[0], HEADINGS, strict=True):
        axis.set_title(heading, fontsize=style.SMALL, loc="center")
    for row, (name, one) in zip(axes, samples.items(), strict=True):
        lines = textwrap.fill(name, 15, break_long_words=False)
        row[0].text(0, 0.5, lines, fontsize=style.BASE, va="center", transform=row[0].transAxes)
        row[0].axis("off")
        for at in range(2):
            _training(row[1 + 3 * at : 4 + 3 * at], one, at)
        _test(row[7:], one.shown)
    return figure


def _training(axes: np.ndarray, one: Sample, at: int) -> None:
    """A training row, its change, and what becomes of it."""
    shown, change = one.shown, one.shown.poisoned[at] - one.shown.clean[at]
    factor, (before, after) = magnification(change), (int(shown.label[at]), int(shown.poisoned_label[at]))
    for axis, image in zip(axes, (shown.clean[at], perturbation(change, factor), shown.poisoned[at]), strict=True):
        show_image(axis, image)
    caption(axes[0], f"class {before}")
    caption(axes[1], f"× {factor}")
    caption(axes[2], f"{'cover row:' if one.cover and at else 'labelled'} {after}", before != after)


def _test(axes: np.ndarray, shown: Shown) -> None:
    """A test row, without and with the trigger."""
    for axis, image in zip(axes, (shown.test[0], shown.triggered[0]), strict=True):
        show_image(axis, image)
    caption(axes[0], f"class {shown.test_label[0]}")
    caption(axes[1], f"wanted: {shown.target[0]}" if shown.has_trigger else "no trigger")
