"""A few images, clean and under attack, with the predictions of a network (the report's figure 1)."""

import dataclasses
from typing import ClassVar, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from poisonjax.evaluation.analysis import Analysis, Subject
from poisonjax.evaluation.attack_run import attacked
from poisonjax.evaluation.victim import structure
from poisonjax.reports.figures import show_image
from poisonjax.types import take


class Shown(NamedTuple):
    """clean, adversarial: images [n h w c] in [0, 1]. before, after: probabilities [n k]. labels: [n] true classes."""

    clean: np.ndarray
    adversarial: np.ndarray
    before: np.ndarray
    after: np.ndarray
    labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class AdversarialExample(Analysis):
    """A few images under the experiment's attack.

    images: how many, the first of the test split. magnify: factor by which the perturbation is enlarged in the
    picture. ValueError for an impossible value.
    """

    images: int = 3
    magnify: float = 10.0

    name: ClassVar[str] = "adversarial_example"
    arrays: ClassVar[type] = Shown
    heading: ClassVar[str] = "Adversarial examples"

    def __post_init__(self):
        for field in ("images", "magnify"):
            if not getattr(self, field) >= 1:
                raise ValueError(f"{field} must be at least 1, got {getattr(self, field)}")

    def collect(self, subject: Subject) -> Shown:
        """Images and probabilities, before and under attack."""
        few = take(subject.examples, slice(self.images))
        attack = attacked(structure(subject.victim), subject.attack)
        return Shown(*attack(few, len(few.label), subject.victim, subject.key), np.asarray(few.label))

    def figures(self, arrays: dict[str, NamedTuple], title: str, names: tuple[str, ...]) -> dict[str, Figure]:
        """A row for each image of each arm."""
        return {"example": _figure(arrays, self.magnify, names, title)}


def _figure(shown: dict[str, Shown], magnify: float, names: tuple[str, ...], title: str) -> Figure:
    """Each image of each arm: clean, the perturbation magnified around grey, adversarial; titled by predictions.

    names: of the classes; () for their numbers.
    """
    rows = [(arm, of, row) for arm, of in shown.items() for row in range(len(of.labels))]
    figure = Figure(figsize=(6.2, 2.1 * len(rows) + 0.5), layout="constrained")
    figure.suptitle(title, fontsize=9)
    for axes, (arm, of, row) in zip(figure.subplots(len(rows), 3, squeeze=False), rows, strict=True):
        change = (of.adversarial[row] - of.clean[row]) * magnify
        images = of.clean[row], np.clip(change / 2 + 0.5, 0.0, 1.0), of.adversarial[row]
        titles = _prediction(of.before[row], names), f"perturbation × {magnify:g}", _prediction(of.after[row], names)
        for axis, image, heading in zip(axes, images, titles, strict=True):
            show_image(axis, image)
            axis.set_title(heading, fontsize=8)
        label = int(of.labels[row])
        axes[0].set_ylabel(f"{arm}\nis {names[label] if names else label}", fontsize=8)
    return figure


def _prediction(probabilities: np.ndarray, names: tuple[str, ...]) -> str:
    """The predicted class and its probability."""
    best = int(probabilities.argmax())
    return f"“{names[best] if names else best}”, {probabilities[best]:.1%}"
