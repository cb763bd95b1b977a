"""The figures of a run that do not follow from its record alone."""

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from poisonjax.reports import figures
from poisonjax.runs.job import PoisonedData, Run, folder, target_labels
from poisonjax.runtime.workdir import load_arrays
from poisonjax.training.prefetch import HostData
from poisonjax.types import take, to_unit


def pictures(job: Run, poisoned: PoisonedData) -> dict[str, Figure]:
    """{name: figure} of the first seed: what the attacker does, and those of the analyses."""
    plan, made = job.experiment, {}
    if plan.poisoned:
        made["images"] = figures.image_grid(*poison_grid(job, poisoned), f"{plan.name}: what the attacker does")
    for analysis in plan.analyses:
        paths = {arm.name: folder(job, 0, arm.name) / analysis.name / "arrays.npz" for arm in plan.arms}
        arrays = {arm: load_arrays(path, analysis.arrays) for arm, path in paths.items()}
        made |= analysis.figures(arrays, plan.name, job.dataset.label_names)
    return made


def poison_grid(job: Run, poisoned: PoisonedData, rows: int = 4) -> tuple[dict[str, np.ndarray], list[str]]:
    """Some poisoned training images beside the clean ones, and test images with the trigger; one label per row."""
    at = np.flatnonzero(np.isin(job.dataset.train.index, poisoned.rows))[:rows]
    clean = take(job.dataset.train, at)
    changed = poisoned.train.read(at) if isinstance(poisoned.train, HostData) else take(poisoned.train, at)
    labels, targets = target_labels(job)
    shown = to_unit(jnp.asarray(job.dataset.test.image[np.flatnonzero(labels != targets)[:rows]]))
    before, after = to_unit(jnp.asarray(clean.image)), to_unit(jnp.asarray(changed.image))
    columns = {
        "training image": before,
        "perturbation": after - before,
        "poisoned": after,
        "test image, triggered": job.experiment.poison.apply_trigger(shown),
    }
    names = [f"{a} labelled {b}" for a, b in zip(clean.label, changed.label, strict=True)]
    return {name: np.asarray(images) for name, images in columns.items()}, names
