"""One look for every picture: PNGs, light on white, and the site's charts, which follow its light and dark colours."""

import math
import re
import textwrap
from collections.abc import Collection, Iterable
from typing import NamedTuple

import matplotlib
from matplotlib import ticker
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

DPI = 150
WIDTH = 10.0  # inches of a sheet; a page shows it on about 1,000 pixels, where a point of type is a point
SMALL, BASE, LARGE = 8.5, 9.5, 12.5  # points


class Theme(NamedTuple):
    """Colours of a picture. quiet: of what matters less. series: of arms, by `Look.slot`, grey last."""

    paper: str
    ink: str
    quiet: str
    rule: str
    series: tuple[str, ...]


# Okabe and Ito's (2008) blue, vermilion, green, purple, yellow and sky blue, which colour-blind readers can tell apart,
# and violet. Some are darker on white, all lighter on black, so that each has a contrast of about 3 with the paper.
LIGHT = Theme(
    paper="#ffffff",
    ink="#1b1f24",
    quiet="#5b6470",
    rule="#d5dade",
    series=("#0072b2", "#d55e00", "#008a63", "#b8528f", "#8a6d00", "#2a9fd6", "#6a4aa0", "#555b63"),
)
DARK = Theme(
    paper="#14171a",
    ink="#e4e7ea",
    quiet="#9aa4ae",
    rule="#3a4148",
    series=("#58aef0", "#ff9350", "#35c79a", "#e79bca", "#dcc04a", "#9bd8ff", "#b99be6", "#b9c0c7"),
)
GREY = len(LIGHT.series) - 1

Dash = str | tuple[int, tuple[float, ...]]
DASHES: tuple[Dash, ...] = ("-", (0, (5, 1.6)), (0, (6, 1.6, 1.2, 1.6)), (0, (1.3, 1.5)), (0, (9, 2.5)))


class Look(NamedTuple):
    """The look of an arm, which nobody needs colour to recognise.

    slot: of its colour in `Theme.series`. marker, dash: as matplotlib has them. filled: False for controls.
    """

    slot: int
    marker: str
    dash: Dash
    filled: bool = True

    def line(self, theme: Theme) -> dict:
        """Keywords of a line."""
        colour = theme.series[self.slot]
        face = colour if self.filled else theme.paper
        return {"color": colour, "linestyle": self.dash, "marker": self.marker, "markerfacecolor": face}


class _Kind(NamedTuple):
    slot: int
    marker: str


# Of the trainings of the report, by the beginning of their names; the longer names first.
KINDS = {"standard": _Kind(0, "o"), "pgd_at_as_reported": _Kind(2, "^"), "pgd_at": _Kind(1, "s")}
OTHERS = (_Kind(3, "v"), _Kind(4, "P"), _Kind(5, "*"), _Kind(6, "p"))  # in their order
CONTROL = _Kind(GREY, "o")
UNPOISONED = "_clean_data"  # how the names of controls end


def looks(arms: Iterable[str], controls: Collection[str] | None = None) -> dict[str, Look]:
    """{arm: its look}, fixed for each kind of training, others by their order, controls grey.

    controls: the arms without poison; None for those that are called so.
    """
    made, others, members = {}, 0, {}
    for arm in arms:
        kind = CONTROL if _is_control(arm, controls) else _kind(arm)
        if kind is None:
            kind, others = OTHERS[others % len(OTHERS)], others + 1
        of_kind = members.setdefault(kind, [])
        place = list(members).index(kind) + len(of_kind)  # lines that coincide show through each other's gaps
        of_kind.append(arm)
        made[arm] = Look(kind.slot, kind.marker, DASHES[place % len(DASHES)], kind != CONTROL)
    return made


def _is_control(arm: str, controls: Collection[str] | None) -> bool:
    return arm.endswith(UNPOISONED) if controls is None else arm in controls


def _kind(arm: str) -> _Kind | None:
    return next((kind for name, kind in KINDS.items() if re.match(rf"{name}(_|$)", arm)), None)


def rc(theme: Theme) -> dict:
    """matplotlib's settings for pictures in these colours."""
    return {
        "font.family": "DejaVu Sans",
        "font.size": BASE,
        "text.parse_math": False,
        "text.color": theme.ink,
        "figure.facecolor": theme.paper,
        "axes.facecolor": theme.paper,
        "axes.edgecolor": theme.rule,
        "axes.labelcolor": theme.ink,
        "axes.labelsize": SMALL,
        "axes.titlesize": BASE,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": theme.rule,
        "grid.linewidth": 0.6,
        "hatch.color": theme.rule,
        "xtick.color": theme.rule,
        "ytick.color": theme.rule,
        "xtick.labelcolor": theme.ink,
        "ytick.labelcolor": theme.ink,
        "xtick.labelsize": SMALL,
        "ytick.labelsize": SMALL,
        "legend.fontsize": SMALL,
        "legend.frameon": False,
        "legend.handlelength": 3.0,
    }


styled = matplotlib.rc_context(rc(LIGHT))  # a decorator of functions that make or save a figure


def sheet(height: float, title: str, setting: str = "", width: float = WIDTH) -> Figure:
    """An empty figure with a title, wrapped, and below it in small type what it is about; the rest is `height` high."""
    lines = textwrap.wrap(title, int(width * 9.2))
    head = 0.12 + 0.23 * len(lines) + (0.2 if setting else 0) + 0.06
    figure = Figure(figsize=(width, height + head))
    figure.set_layout_engine("constrained", rect=(0, 0, 1, height / (height + head)))
    top, inch = 1 - 0.1 / (height + head), 1 / (height + head)
    figure.text(0.1 / width, top, "\n".join(lines), fontsize=LARGE, fontweight="bold", va="top")
    figure.text(0.1 / width, top - 0.23 * len(lines) * inch, setting, fontsize=SMALL, color=LIGHT.quiet, va="top")
    return figure


def legend(figure: Figure, handles: dict[str, Artist]) -> None:
    """A legend {label: sign} below the pictures, where it hides nothing, in its order, row by row."""
    labels = list(handles)
    columns = max(1, min(len(labels), int(figure.get_figwidth() / (0.7 + 0.075 * max(map(len, labels))))))
    order = [label for column in range(columns) for label in labels[column::columns]]  # matplotlib goes by columns
    figure.legend([handles[label] for label in order], order, loc="outside lower left", ncols=columns)


PERCENT = ticker.FuncFormatter(lambda value, _: f"{100 * value:g}")


def percent_range(values: Iterable[float]) -> tuple[float, float]:
    """The part of [0, 1] that an axis for fractions should show: tens of percent, 0 and 1 wherever they are near."""
    finite = [value for value in values if not math.isnan(value)]
    if not finite:
        return 0.0, 1.0
    low, high = math.floor(10 * min(finite)), math.ceil(10 * max(finite))
    if high == low:
        low, high = (low - 1, high) if high == 10 else (low, low + 1)
    return 0.0 if low <= 2 else low / 10, 1.0 if high >= 8 else high / 10


def percent_axis(axis: Axes, values: Iterable[float]) -> None:
    """A vertical axis in percent for fractions, around the values."""
    low, high = percent_range(values)
    axis.set_ylim(low - 0.03 * (high - low), high + 0.03 * (high - low))
    axis.yaxis.set_major_locator(ticker.MaxNLocator(6, steps=[1, 2, 5, 10]))
    axis.yaxis.set_major_formatter(PERCENT)
    axis.set_ylabel("%")
