"""A few images, clean and under attack, with the predictions of a network (the report's figure 1)."""

import dataclasses
from typing import ClassVar, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from poisonjax.attacks.settings import check_counts
from poisonjax.evaluation.analysis import Analysis, Subject
from poisonjax.evaluation.attack_run import attacked
from poisonjax.evaluation.victim import structure
from poisonjax.reports.images import Column, class_name, perturbation, sheet
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
    needs_images: ClassVar[bool] = True

    def __post_init__(self):
        check_counts(self, "images", "magnify")

    def collect(self, subject: Subject) -> Shown:
        """Images and probabilities, before and under attack."""
        few = take(subject.examples, slice(self.images))
        attack = attacked(structure(subject.victim), subject.attack)
        return Shown(*attack(few, len(few.label), subject.victim, subject.key), np.asarray(few.label))

    def figures(self, arrays: dict[str, NamedTuple], title: str, names: tuple[str, ...]) -> dict[str, Figure]:
        """A row for each image; what each network says of it before and under attack."""
        labels = [f"true: {class_name(label, names)}" for label in next(iter(arrays.values())).labels]
        columns = [column for arm, of in arrays.items() for column in self._columns(arm, of, names)]
        title = f"{title}: what each network says of images, clean and under attack"
        return {"example": sheet(title, labels, columns, group=3)}

    def _columns(self, arm: str, of: Shown, names: tuple[str, ...]) -> list[Column]:
        """The clean images with the predictions for them, the perturbations, the adversarial images with theirs."""

        def said(heading: str, images: np.ndarray, probabilities: np.ndarray) -> Column:
            captions = [_prediction(row, names) for row in probabilities]
            return Column(heading, images, captions, (probabilities.argmax(-1) != of.labels).tolist())

        change = perturbation(of.adversarial - of.clean, self.magnify)
        return [
            said(f"{arm}: clean", of.clean, of.before),
            Column(f"perturbation × {self.magnify:g}", change),
            said(f"{arm}: adversarial", of.adversarial, of.after),
        ]


def _prediction(probabilities: np.ndarray, names: tuple[str, ...]) -> str:
    """The predicted class and its probability."""
    best = int(probabilities.argmax())
    return f"{class_name(best, names)}, {probabilities[best]:.0%}"
