"""The figures of a run that do not follow from its record alone."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from poisonjax.evaluation.metrics import Predictions
from poisonjax.reports import figures
from poisonjax.runs.job import PoisonedData, Run, folder, target_labels
from poisonjax.runtime.workdir import load_arrays
from poisonjax.training.prefetch import HostData
from poisonjax.types import take, to_unit

ROWS = 4


class Shown(NamedTuple):
    """Some images [r h w c] in [0, 1] of the first seed: poisoned training rows, before and after, and test images.

    label, poisoned_label: classes [r] of the training rows before and after. test_label, target: those of the test
    images, and the ones that the attacker wants for them.
    """

    clean: np.ndarray
    poisoned: np.ndarray
    label: np.ndarray
    poisoned_label: np.ndarray
    test: np.ndarray
    triggered: np.ndarray
    test_label: np.ndarray
    target: np.ndarray


def pictures(job: Run, shown: Shown | None) -> dict[str, Figure]:
    """{name: figure} of the first seed: what the attacker does, and those of the analyses."""
    plan, made = job.experiment, {}
    if shown is not None:
        made["images"] = figures.image_grid(*poison_grid(shown), f"{plan.name}: what the attacker does")
    for analysis in plan.analyses:
        paths = {arm.name: folder(job, 0, arm.name) / analysis.name / "arrays.npz" for arm in plan.arms}
        arrays = {arm: load_arrays(path, analysis.arrays) for arm, path in paths.items()}
        made |= analysis.figures(arrays, plan.name, job.dataset.label_names)
    return made


def victims(job: Run) -> np.ndarray:
    """Places in the test split of the images that are shown: the first that the attacker wants another class for."""
    labels, targets = target_labels(job)
    return np.flatnonzero(labels != targets)[:ROWS]


def says(job: Run, predictions: Predictions) -> dict[str, list[int]]:
    """The classes that a network sees in the test images that are shown, without and with the trigger."""
    if not job.experiment.poisoned:
        return {}
    at = victims(job)
    return {"clean": predictions.clean[at].tolist(), "triggered": predictions.triggered[at].tolist()}


def shown(job: Run, poisoned: PoisonedData) -> Shown | None:
    """Some poisoned training images beside the clean ones, and test images with the trigger; None without a poison."""
    if not job.experiment.poisoned:
        return None
    at = np.flatnonzero(np.isin(job.dataset.train.index, poisoned.rows))[:ROWS]
    clean, train = take(job.dataset.train, at), poisoned.train()
    changed = train.read(at) if isinstance(train, HostData) else take(train, at)
    test, (labels, targets) = victims(job), target_labels(job)
    images = to_unit(jnp.asarray(job.dataset.test.image[test]))
    triggered = job.experiment.poison.apply_trigger(images)
    before, after = to_unit(jnp.asarray(clean.image)), to_unit(jnp.asarray(changed.image))
    made = (before, after, clean.label, changed.label, images, triggered, labels[test], targets[test])
    return Shown(*map(np.asarray, made))


def poison_grid(shown: Shown) -> tuple[dict[str, np.ndarray], list[str]]:
    """The columns of a grid of the images that are shown, {heading: [r h w c]}, and one label per row."""
    columns = {
        "training image": shown.clean,
        "perturbation": shown.poisoned - shown.clean,
        "poisoned": shown.poisoned,
        "test image, triggered": shown.triggered,
    }
    return columns, [f"{a} labelled {b}" for a, b in zip(shown.label, shown.poisoned_label, strict=True)]
