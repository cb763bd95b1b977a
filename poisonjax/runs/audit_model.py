"""An audit of a trained network: is one of its classes the target of a backdoor, and how robust is it."""

import os
import pathlib

import jax
import numpy as np
from jax.tree_util import Partial

from poisonjax.attacks import AutoAttack, Linf
from poisonjax.data import Dataset
from poisonjax.defences import PatchSearch, TriggerInversion, invert_triggers, search_patches
from poisonjax.evaluation.robustness import check_shapes, evaluate
from poisonjax.evaluation.victim import Victim, map_rows, row_outputs
from poisonjax.reports.audit import model
from poisonjax.reports.audit.calibration import Calibration
from poisonjax.reports.console import say
from poisonjax.runtime import distributed
from poisonjax.runtime.workdir import write_atomic
from poisonjax.types import Examples, take

IMAGES = 500  # of the test split, at most, that triggers are searched for on
BATCH = 100  # images at a time
ATTACKED = 100  # of them, under AutoAttack


def run(
    victim: Victim,
    dataset: Dataset,
    out: str | os.PathLike,
    name: str,
    eps: float | None = None,
    known: Calibration | None = None,
) -> model.Report:
    """Audit a network on the test split of a data set; write model_audit.html and model_audit.json to `out`.

    name: what the network is called. eps: Linf radius of AutoAttack; None for no attack. known: a calibration, by which
    the report has a probability. ValueError for a network that cannot take the images or gives other classes.
    """
    examples = take(dataset.test, slice(IMAGES))
    _check(victim, dataset, examples)
    function = Partial(Victim.logits, victim)
    say("looking for the smallest trigger of each class ...")
    inversion = invert_triggers(function, examples.image, jax.random.key(0), TriggerInversion())
    say("looking for the best patch of each class ...")
    settings = PatchSearch(seen=min(50, len(examples.label) // 2))
    patches = search_patches(function, examples.image, examples.label, settings)
    logits, _ = map_rows(row_outputs, distributed.replicate(victim), examples, BATCH)
    clean = float(np.mean(np.argmax(logits, -1) == examples.label))
    robust = None if eps is None else _robust(victim, examples, eps)
    report = model.Report(name, dataset, len(examples.label), clean, inversion, patches, eps, robust, known)
    folder = pathlib.Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "model_audit.html", model.render(report, examples))
    write_atomic(folder / "model_audit.json", model.to_json(report))
    return report


def _robust(victim: Victim, examples: Examples, eps: float) -> float:
    say(f"attacking {ATTACKED} images with AutoAttack, Linf {eps:g} ...")
    few = take(examples, slice(ATTACKED))
    return evaluate(victim, few.image, few.label, AutoAttack(Linf(eps)), jax.random.key(0)).robust_accuracy


def _check(victim: Victim, dataset: Dataset, examples: Examples) -> None:
    """ValueError for a network that cannot take the images, with other classes or no gradients, and for features."""
    if examples.image.ndim != 4:
        raise ValueError(f"{dataset.name}: has rows of features; an audit is for images")
    classes = check_shapes(victim.logits, examples.image.shape[1:])
    if classes != dataset.classes:
        raise ValueError(f"the network gives [1, {classes}] for an image; {dataset.name} has {dataset.classes} classes")
    image = jax.ShapeDtypeStruct((1, *examples.image.shape[1:]), np.float32)
    jax.eval_shape(jax.grad(lambda x: victim.logits(x).sum()), image)  # refused now, and not in a search
