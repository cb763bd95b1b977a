"""The figures of a run that do not follow from its record alone."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec

from poisonjax.evaluation.metrics import Predictions
from poisonjax.reports import style
from poisonjax.reports.images import caption, class_name, magnification, perturbation, show_image
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

    @property
    def has_trigger(self) -> bool:
        """True if the attacker wants some class of images with a trigger; otherwise any but the true one."""
        return bool((self.target != self.test_label).any())


def pictures(job: Run, shown: Shown | None, record: dict) -> dict[str, Figure]:
    """{name: figure} of the first seed: what the attacker does, and those of the analyses."""
    plan, names, made = job.experiment, job.dataset.label_names, {}
    if shown is not None:
        says = {arm: fields["says"] for arm, fields in record["arms"].items() if fields.get("says")}
        made["images"] = attack_sheet(shown, says, names, f"{plan.name}, {record['scale']} scale, first seed")
    for analysis in plan.analyses:
        paths = {arm.name: folder(job, 0, arm.name) / analysis.name / "arrays.npz" for arm in plan.arms}
        arrays = {arm: load_arrays(path, analysis.arrays) for arm, path in paths.items()}
        made |= analysis.figures(arrays, plan.name, names)
    return made


def victims(job: Run) -> np.ndarray:
    """Places in the test split of the images that are shown: the first that the attacker wants another class for.

    The first of all, twice as many, where no class is wanted, so that there is no trigger to show beside them.
    """
    labels, targets = target_labels(job)
    wanted = np.flatnonzero(labels != targets)
    return wanted[:ROWS] if len(wanted) else np.arange(min(len(labels), 2 * ROWS))


def says(job: Run, predictions: Predictions) -> dict[str, list[int]]:
    """The classes that a network sees in the test images that are shown, without and with the trigger, if any."""
    if not job.experiment.poisoned:
        return {}
    at, (labels, targets) = victims(job), target_labels(job)
    seen = {"clean": predictions.clean[at].tolist()}
    return seen | ({"triggered": predictions.triggered[at].tolist()} if (labels != targets).any() else {})


def shown(job: Run, poisoned: PoisonedData) -> Shown | None:
    """Some poisoned training images beside the clean ones, and test images with the trigger.

    None without a poison, and for rows of features, of which there are no pictures.
    """
    if not job.experiment.poisoned or job.dataset.test.image.ndim != 4:
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


LINE = 13  # points between lines of what networks say


@style.styled
def attack_sheet(shown: Shown, says: dict[str, dict], names: tuple[str, ...], setting: str) -> Figure:
    """Some training images, poisoned, and below test images, without and with the trigger, as networks see them.

    says: {arm: what `says` made}. names: of the classes; () for their numbers.
    """
    rows, words = -(-len(shown.clean) // 2), (len(says) * LINE + 8) / 72
    heights, note = [1.87 * rows, 1.5 + words], "; bold: what the attacker wants" if says else ""
    seen = "with and without the trigger" if shown.has_trigger else "as each network sees them"
    title = f"Poisoned training images, and test images {seen}"
    figure = style.sheet(sum(heights), title, setting + note)
    above, below = figure.add_gridspec(2, 1, height_ratios=heights)
    _training(_grouped(figure, above, rows, 2, 3), shown, names)
    _tests(_grouped(figure, below, 1, len(shown.test), 1 + shown.has_trigger), shown, says, names)
    return figure


def _grouped(figure: Figure, place: SubplotSpec, rows: int, groups: int, size: int) -> np.ndarray:
    """Axes [rows * groups, size], with a gap between groups side by side."""
    ratios = ([1.0] * size + [0.12]) * groups
    grid = place.subgridspec(rows, len(ratios) - 1, width_ratios=ratios[:-1])
    starts = [(row, group * (size + 1)) for row in range(rows) for group in range(groups)]
    return np.array([[figure.add_subplot(grid[row, at + k]) for k in range(size)] for row, at in starts])


def _training(axes: np.ndarray, shown: Shown, names: tuple[str, ...]) -> None:
    """Clean image, change and poisoned image for each row of axes."""
    factor = magnification(shown.poisoned - shown.clean)
    changes = perturbation(shown.poisoned - shown.clean, factor)
    for row, trio in enumerate(axes):
        if row >= len(shown.clean):
            for axis in trio:
                axis.set_visible(False)
            continue
        before, after = shown.label[row], shown.poisoned_label[row]
        for axis, image in zip(trio, (shown.clean[row], changes[row], shown.poisoned[row]), strict=True):
            show_image(axis, image)
        caption(trio[0], f"training image: {class_name(before, names)}")
        caption(trio[1], f"change × {factor} (grey: none)")
        caption(trio[2], f"labelled {class_name(after, names)}", before != after)


def _tests(axes: np.ndarray, shown: Shown, says: dict[str, dict], names: tuple[str, ...]) -> None:
    """Clean and, if there is a trigger, triggered image for each row of axes; below, a line for each network."""
    for row, (clean, *triggered) in enumerate(axes):
        true, wanted = int(shown.test_label[row]), int(shown.target[row])
        _test(clean, shown.test[row], "true class", true, names)
        for axis in triggered:
            _test(axis, shown.triggered[row], "target class", wanted, names)
        for line, said in enumerate(says.values()):
            _say(clean, line, class_name(said["clean"][row], names), not triggered and said["clean"][row] != true)
            for axis in triggered:
                _say(axis, line, class_name(said["triggered"][row], names), said["triggered"][row] == wanted)
    for line, arm in enumerate(says):
        place = {"xytext": (-6, -LINE * (line + 1)), "textcoords": "offset points", "fontsize": style.SMALL}
        axes[0, 0].annotate(f"{arm} says", (0, 0), xycoords="axes fraction", ha="right", va="center", **place)


def _test(axis: Axes, image: np.ndarray, what: str, label: int, names: tuple[str, ...]) -> None:
    """A test image, below a class."""
    show_image(axis, image)
    axis.set_title(f"{what}\n{class_name(label, names)}", fontsize=style.SMALL, loc="center")


def _say(axis: Axes, line: int, text: str, fooled: bool) -> None:
    """What a network says, below an image; set off if it is what the attacker wants."""
    place = {"xytext": (0, -LINE * (line + 1)), "textcoords": "offset points", "fontsize": style.SMALL}
    look = {"color": style.LIGHT.series[1], "fontweight": "bold"} if fooled else {}
    axis.annotate(text, (0.5, 0), xycoords="axes fraction", ha="center", va="center", **place, **look)
