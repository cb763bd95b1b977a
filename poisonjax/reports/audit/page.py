"""audit.html: one file, with its pictures, that opens anywhere."""

import base64
import io
import pathlib
from typing import NamedTuple

import jinja2
import numpy as np
from PIL import Image

from poisonjax.data import Dataset
from poisonjax.data.near_duplicates import DISTANCE, NearDuplicates
from poisonjax.reports.audit.findings import FILTERS, Finding, Report, power
from poisonjax.reports.audit.tables import row_name
from poisonjax.reports.images import class_name, magnification, perturbation

SHOWN, BESIDE = 24, 8  # pictures of rows that were found, and of others of their class
ALIKE = 12  # groups of near-duplicates, and pictures of each


class Picture(NamedTuple):
    """A picture as a data: address, and a line for it."""

    source: str
    caption: str


class Group(NamedTuple):
    """A finding as the page shows it."""

    title: str
    sentence: str
    alarming: bool
    found: list[Picture]
    others: list[Picture]
    difference: Picture | None


class Alike(NamedTuple):
    """Near-duplicates as the page shows them."""

    title: str
    disagree: bool
    pictures: list[Picture]


def templates() -> jinja2.Environment:
    """The templates of audits, which escape names."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(report: Report) -> str:
    """The page."""
    dataset, alike = report.dataset, report.alike
    about = {
        "groups": [_group(dataset, each) for each in report.findings],
        "alike": [_alike(dataset, each) for each in alike[:ALIKE]],
        "copies": sum(len(each.rows) for each in alike),
        "copied": len(alike),
        "disagreeing": sum(each.disagree for each in alike),
        "distance": DISTANCE,
        "power": power(report.planted),
    }
    return templates().get_template("audit.html").render(report._asdict() | about)


def _alike(dataset: Dataset, found: NearDuplicates) -> Alike:
    names = [class_name(label, dataset.label_names) for label in dict.fromkeys(found.labels.tolist())]
    shown = list(dict.fromkeys([*_each_label(found), *found.rows[:ALIKE].tolist()]))[:ALIKE]
    pictures = [
        picture(
            dataset.train.image[place],
            f"{row_name(dataset, place)}, class {class_name(int(dataset.train.label[place]), dataset.label_names)}",
        )
        for place in shown
    ]
    whose = f"class {names[0]}" if len(names) == 1 else f"classes {', '.join(names[:5])}"
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return Alike(f"{len(found.rows):,} rows of {whose}{more}", found.disagree, pictures)


def _each_label(found: NearDuplicates) -> list[int]:
    """The first row of each label, so that labels that differ are seen."""
    return found.rows[np.sort(np.unique(found.labels, return_index=True)[1])].tolist()


def _group(dataset: Dataset, found: Finding) -> Group:
    labels = np.asarray(dataset.train.label)
    others = np.setdiff1d(np.flatnonzero(labels == found.label), found.rows)
    images = dataset.train.image
    name = class_name(found.label, dataset.label_names)
    return Group(
        title=f"Class {name}: {len(found.rows):,} of {found.of:,} rows {FILTERS[found.filter]}",
        sentence=_shares(found),
        alarming=found.alarming,
        found=[picture(images[place], row_name(dataset, place)) for place in found.rows[:SHOWN]],
        others=[picture(images[place], row_name(dataset, place)) for place in others[:BESIDE]],
        difference=_difference(images[found.rows], images[others]) if len(others) else None,
    )


def _shares(found: Finding) -> str:
    """The patch that the rows have in common, in a sentence."""
    if found.patch is None:
        return "No patch of a few pixels is common to most of them."
    top, left, size, rows = found.patch
    return (
        f"{rows:,} of them share a patch of {size} x {size} pixels at row {top}, column {left}, counted from the upper "
        "left corner."
    )


def _difference(found: np.ndarray, others: np.ndarray) -> Picture:
    """The mean of the rows found less that of the others of their class, magnified."""
    change = found.mean(0) / 255 - others.mean(0) / 255
    factor = magnification(change)
    return picture(perturbation(change, factor), f"difference of their means, x {factor}")


def picture(image: np.ndarray, caption: str) -> Picture:
    """An image [h w c], uint8 or floating in [0, 1], as a PNG."""
    pixels = image if image.dtype == np.uint8 else np.round(image * 255).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(content, "PNG")
    return Picture(f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}", caption)
