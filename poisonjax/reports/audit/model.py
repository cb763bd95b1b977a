"""The report of an audit of a network: a page, and a document for programs."""

import json
from typing import NamedTuple

import numpy as np

from poisonjax.data import Dataset
from poisonjax.defences import Inversion, Patches
from poisonjax.reports.audit.calibration import Calibration, Statistics
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
    """The findings.

    images: how many were looked at. clean, robust: accuracies; robust under AutoAttack within eps. calibration: what
    makes a probability of them; None for none.
    """

    name: str
    dataset: Dataset
    images: int
    clean: float
    inversion: Inversion
    patches: Patches
    eps: float | None
    robust: float | None
    calibration: Calibration | None = None

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

    @property
    def statistics(self) -> Statistics:
        """The findings in two numbers."""
        smaller = self.inversion.norms < np.median(self.inversion.norms)
        success = self.patches.success
        return Statistics(
            round(float(np.max(self.inversion.anomaly, where=smaller, initial=0)), 3),
            round(float(np.max(success) - np.median(success)), 4),
        )

    @property
    def probability(self) -> float | None:
        """The probability of a backdoor; None without a calibration."""
        return None if self.calibration is None else self.calibration.probability(self.statistics)

    @property
    def probability_basis(self) -> str:
        """Where the probability comes from, or why there is none."""
        known = self.calibration
        if known is None:
            return "There is no probability without audits of networks that are known to be backdoored or clean."
        basis = (
            f"The probability holds among networks like the {len(known.backdoored)} of {known.file}, of which "
            f"{known.backdoored.sum()} are backdoored; each predicted from the others, they have a cross-entropy of "
            f"{known.cross_entropy:.2f} (their share alone: {known.prior_cross_entropy:.2f}) and an AUC of "
            f"{known.auc:.2f}."
        )
        return basis if known.covers(self.statistics) else f"{basis} This network lies outside their range."


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
        "statistics": report.statistics._asdict(),
        "probability": report.probability,
        "probability_basis": report.probability_basis,
        "calibration": None if report.calibration is None else _calibration(report.calibration, report.statistics),
        "classes": classes,
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _calibration(known: Calibration, found: Statistics) -> dict:
    columns = zip(Statistics._fields, known.statistics.min(0).tolist(), known.statistics.max(0).tolist(), strict=True)
    return {
        "file": known.file,
        "sha256": known.sha256,
        "networks": len(known.backdoored),
        "backdoored": int(known.backdoored.sum()),
        "cross_entropy": known.cross_entropy,
        "cross_entropy_of_share": known.prior_cross_entropy,
        "auc": known.auc,
        "range": {name: [low, high] for name, low, high in columns},
        "in_range": known.covers(found),
    }


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
