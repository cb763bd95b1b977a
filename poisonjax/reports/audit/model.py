"""The report of an audit of a network: a page, and a document for programs."""

import json
from typing import NamedTuple

import numpy as np

from poisonjax.data import Dataset
from poisonjax.defences import Inversion, Patches
from poisonjax.reports.audit.page import Picture, picture, templates
from poisonjax.reports.audit.tables import OWASP
from poisonjax.reports.images import class_name
from poisonjax.types import Examples

FORMAT = 1  # of model_audit.json
TAGS = ("AML.T0018", OWASP)  # the former: Manipulate AI Model, of MITRE ATLAS
LIMITS = (
    "A trigger that is no patch of a few pixels at one place and no small change, such as one over the whole image, a "
    "warp, or one at random places.",
    "A backdoor from every class to the next, or one for images of some classes only: no class is its target.",
    "Of few classes the comparison between them is uncertain: one of ten is easily missed, or flagged for nothing.",
)


class Report(NamedTuple):
    """The findings. images: how many were looked at. clean, robust: accuracies; robust under AutoAttack within eps."""

    name: str
    dataset: Dataset
    images: int
    clean: float
    inversion: Inversion
    patches: Patches
    eps: float | None
    robust: float | None

    @property
    def flagged(self) -> np.ndarray:
        """The classes [k] bool that one of the searches takes for the target of a backdoor.

        Outliers of Neural Cleanse count if they take less than half of what the median class does.
        """
        norms = self.inversion.norms
        return (self.inversion.flagged & (norms < np.median(norms) / 2)) | self.patches.flagged

    @property
    def suspicious(self) -> bool:
        """True if a class is flagged."""
        return bool(self.flagged.any())

    @property
    def verdict(self) -> str:
        """The verdict in a sentence."""
        if not self.suspicious:
            return f"No backdoor was found in {self.name}."
        names = [class_name(int(label), self.dataset.label_names) for label in np.flatnonzero(self.flagged)]
        return f"{self.name} looks backdoored: its target is class {' or '.join(names)}."


class Row(NamedTuple):
    """A class as the page shows it."""

    name: str
    flagged: bool
    mask: float
    anomaly: float
    patch: float
    place: str
    trigger: Picture
    patched: Picture


def to_json(report: Report) -> str:
    """The document of model_audit.json."""
    names = [class_name(label, report.dataset.label_names) for label in range(report.dataset.classes)]
    classes = [
        {
            "class": name,
            "flagged": bool(report.flagged[label]),
            "mask_pixels": round(float(report.inversion.norms[label]), 3),
            "anomaly_index": round(float(report.inversion.anomaly[label]), 3),
            "patch_success": round(float(report.patches.success[label]), 4),
            "patch_place": report.patches.places[label].tolist(),
        }
        for label, name in enumerate(names)
    ]
    content = {
        "format": FORMAT,
        "network": report.name,
        "suspicious": report.suspicious,
        "verdict": report.verdict,
        "tags": TAGS,
        "limits": LIMITS,
        "dataset": {"name": report.dataset.name, "sha256": report.dataset.sha256},
        "images": report.images,
        "clean_accuracy": report.clean,
        "autoattack_linf": report.eps,
        "robust_accuracy": report.robust,
        "classes": classes,
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def render(report: Report, examples: Examples) -> str:
    """The page. examples: images [n h w c] that triggers are shown on."""
    order = np.argsort(~report.flagged, kind="stable")
    rows = [_row(report, examples, int(label)) for label in order]
    return templates().get_template("model.html").render(report=report, rows=rows, limits=LIMITS)


def _row(report: Report, examples: Examples, label: int) -> Row:
    found, patches = report.inversion, report.patches
    image = examples.image[int(np.argmax(examples.label != label))] / 255
    top, left = map(int, patches.places[label])
    size = patches.patterns.shape[1]
    patched = np.array(image)
    patched[top : top + size, left : left + size] = patches.patterns[label]
    return Row(
        name=class_name(label, report.dataset.label_names),
        flagged=bool(report.flagged[label]),
        mask=float(found.norms[label]),
        anomaly=float(found.anomaly[label]),
        patch=float(patches.success[label]),
        place=f"row {top}, column {left}",
        trigger=picture(found.masks[label] * found.patterns[label], "smallest change"),
        patched=picture(patched, "best patch, on a test image"),
    )
