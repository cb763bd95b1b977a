"""Certified accuracy against patches: images whose prediction behind double masking no patch of a size changes."""

import dataclasses
from typing import ClassVar, NamedTuple

import numpy as np

from poisonjax.attacks.settings import check_counts
from poisonjax.defences.patch_cleanser import certified, check_masks, double_masking, inside
from poisonjax.evaluation.analysis import Analysis, Subject, Table
from poisonjax.evaluation.victim import Victim
from poisonjax.reports import statistics
from poisonjax.reports.table import spread
from poisonjax.types import Array, Examples, take, to_unit


class Certified(NamedTuple):
    """correct: [n] bool, images whose label is predicted behind the masks. certified: those that no patch changes."""

    correct: np.ndarray
    certified: np.ndarray


@dataclasses.dataclass(frozen=True)
class CertifiedPatch(Analysis):
    """The share of test images on which double masking is right, and provably so under any patch (Xiang et al. 2022).

    No patch of size x size pixels at any one place, whatever it shows, changes those predictions, hence no trigger of
    that size, whatever the network was trained on. Any network is looked at as if it stood behind these masks, one
    that is behind masks already without its own. A detector's rejections do not count.

    size: side of the patch in pixels. masks: positions a side; the certificate takes masks^2 (masks^2 + 1) / 2
    predictions of an image at most. images: how many, the first of the test split. ValueError for an impossible value.
    """

    size: int
    masks: int = 6
    images: int = 200

    name: ClassVar[str] = "certified_patch"
    arrays: ClassVar[type] = Certified
    heading: ClassVar[str] = "Certified accuracy against patches"
    needs_images: ClassVar[bool] = True

    def __post_init__(self):
        check_masks(self.size, self.masks)
        check_counts(self, "images")

    def collect(self, subject: Subject) -> Certified:
        """The images that are predicted as labelled, and those that are certified."""
        few = take(subject.examples, slice(self.images))
        return Certified(*subject.map(_certified, few, self.size, self.masks))

    def measure(self, arrays: Certified, subject: Subject) -> dict:
        """{name: [images, of all]}."""
        return {name: [int(np.sum(of)), len(of)] for name, of in arrays._asdict().items()}

    def summary(self, measured: list[dict]) -> dict:
        """The shares over seeds, and the number of images."""
        shares = {
            f"{name}_accuracy": statistics.spread([seed[of][0] / seed[of][1] for seed in measured])
            for name, of in (("masked", "correct"), ("certified", "certified"))
        }
        return {**shares, "images": measured[0]["certified"][1]}

    def tables(self, summaries: dict[str, dict]) -> list[Table]:
        """A row for each arm."""
        header = ["arm", "certified accuracy %", "clean accuracy behind the masks %"]
        rows = [[arm, spread(of["certified_accuracy"]), spread(of["masked_accuracy"])] for arm, of in summaries.items()]
        note = (
            f"On the first {next(iter(summaries.values()))['images']} test images, each network behind double masking, "
            f"{self.masks} masks a side. Certified: no patch of {self.size} x {self.size} pixels at any one place, "
            "whatever it shows, hence no such trigger, changes the right prediction."
        )
        return [Table("", header, rows, [note])]


def _certified(victim: Victim, examples: Examples, size: int, masks: int) -> tuple[Array, Array]:
    """The examples [b] that are predicted as labelled behind the masks, and those that are certified, [b] each."""
    x, network = to_unit(examples.image), inside(victim)
    right = double_masking(network, x, size, masks) == examples.label
    return right, certified(network, x, examples.label, size, masks)
