"""Sheets of images that fit the width of a page, with captions that can be read on it."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from poisonjax.reports import style

COLUMNS, FEWEST = 9, 5  # of images side by side: at most, and how many there is room for at least
MAGNIFIED = (1, 2, 5, 10, 20, 50, 100)


class Column(NamedTuple):
    """Images [r h w c] in [0, 1], one below the other, and a line below each. heading: above the first.

    wrong: rows whose line says that a network errs.
    """

    heading: str
    images: np.ndarray
    captions: Sequence[str] = ()
    wrong: Sequence[bool] = ()


def show_image(axis: Axes, image: np.ndarray) -> None:
    """Draw an image [h w c] in [0, 1], in grey or in colour, in a frame."""
    grey = image.shape[-1] == 1
    settings = {"cmap": "gray", "vmin": 0.0, "vmax": 1.0} if grey else {}
    axis.imshow(np.clip(image[..., 0] if grey else image, 0, 1), interpolation="nearest", **settings)
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
    axis.spines[:].set(visible=True, color=style.LIGHT.rule)


def magnification(change: np.ndarray) -> int:
    """The factor at which most of a perturbation [...] in [-1, 1] can be seen and little of it saturates."""
    size = np.abs(change[change != 0])
    fits = [factor for factor in MAGNIFIED if size.size and factor * np.quantile(size, 0.9) <= 1]
    return max(fits, default=1)


def perturbation(change: np.ndarray, factor: float) -> np.ndarray:
    """A perturbation [... c] in [-1, 1] times a factor as an image: mid-grey where nothing changes."""
    return np.clip(0.5 + change * factor / 2, 0.0, 1.0)


def class_name(label: int, names: Sequence[str]) -> str:
    """The name of a class, its number if classes have no names; `rejected` for what a network refuses."""
    if label < 0:
        return "rejected"
    return str(names[label]) if names else str(label)


@style.styled
def sheet(
    title: str, labels: list[str], columns: list[Column], first: Column | None = None, setting: str = "", group: int = 1
) -> Figure:
    """Rows of images, labelled; columns that do not fit side by side stand in bands, one below the other.

    first: a column at the left of every band. group: number of columns that stay together.
    """
    leading = [] if first is None else [first]
    bands = [leading + band for band in _bands(columns, COLUMNS - len(leading), group)]
    wide, rows = max(FEWEST, *map(len, bands)), len(labels)
    captioned = 0.22 if any(column.captions for column in columns) else 0.05
    side = (style.WIDTH - 0.4) / wide
    figure = style.sheet(len(bands) * (rows * (side + captioned) + 0.35), title, setting)
    axes = figure.subplots(len(bands) * rows, wide, squeeze=False)
    for at, band in enumerate(bands):
        _band(axes[at * rows : (at + 1) * rows], labels, band)
    return figure


def _bands(columns: list[Column], room: int, group: int) -> list[list[Column]]:
    """The columns in parts of about one length, which fits the room, unless a group does not."""
    groups = math.ceil(len(columns) / group)
    size = math.ceil(groups / math.ceil(groups / max(1, room // group))) * group
    return [columns[at : at + size] for at in range(0, len(columns), size)]


def _band(axes: np.ndarray, labels: list[str], columns: list[Column]) -> None:
    for axis in axes[:, len(columns) :].flat:
        axis.set_visible(False)
    for at, column in enumerate(columns):
        axes[0, at].set_title(_broken(column.heading), fontsize=style.SMALL, loc="center")
        for row, axis in enumerate(axes[:, at]):
            show_image(axis, column.images[row])
            if column.captions:
                caption(axis, column.captions[row], bool(column.wrong) and column.wrong[row])
    for axis, label in zip(axes[:, 0], labels, strict=True):
        axis.set_ylabel(label, fontsize=style.SMALL)


def caption(axis: Axes, text: str, wrong: bool = False) -> None:
    """A line below an image, set off if it says that a network errs."""
    emphasis = {"color": style.LIGHT.series[1], "fontweight": "bold"} if wrong else {"color": style.LIGHT.ink}
    axis.set_xlabel(text, fontsize=style.SMALL, labelpad=2, **emphasis)


def _broken(heading: str, room: int = 13) -> str:
    """A heading on lines of so many letters where its words allow it; underscores part words."""
    lines = [""]
    for word in heading.replace("_", "_ ").split():
        gap = "" if lines[-1].endswith("_") or not lines[-1] else " "
        if lines[-1] and len(lines[-1] + gap + word) > room:
            lines.append(word)
        else:
            lines[-1] += gap + word
    return "\n".join(lines)
