"""Curves and heat maps as inline SVG in the colours and fonts of the page, so that they follow its dark mode."""

import functools
import io
import math
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple
from xml.etree import ElementTree

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from poisonjax.reports import figures, style, table
from poisonjax.reports.site.reading import Point, Sweep
from poisonjax.reports.table import LABELS, MAIN

# Drawn in colours that nothing else has, which then give way to the variables of the style sheet.
VARIABLES = {"#fe00f0": "--ink", "#fe00f1": "--quiet", "#fe00f2": "--rule", "#fe00f3": "--paper", "#fe00f4": "--failed"}
VARIABLES |= {f"#fe00{slot:02x}": f"--series-{slot}" for slot in range(len(style.LIGHT.series))}
INK, QUIET, RULE, PAPER, FAILED, *SERIES = VARIABLES
THEME = style.Theme(paper=PAPER, ink=INK, quiet=QUIET, rule=RULE, series=tuple(SERIES))
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
STYLE = style.rc(THEME) | {"svg.fonttype": "none", "figure.facecolor": "none", "axes.facecolor": "none"}
SHOWN = (*MAIN, "poisoned_rows_removed", "clean_rows_removed")  # of a sweep
FEW = 6  # lines in a picture, at most
MANY = 20  # numbers further apart than this factor are shown on a logarithmic axis


def _panel(name: str, label: str | None, size: tuple[float, float], draw: Callable[[Axes], None]) -> Markup:
    """A drawing as SVG for a page. name: unique on the page. label: None for a key."""
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": name}):
        figure = Figure(figsize=size, layout="constrained" if label else "none")
        draw(figure.subplots() if label else figure.add_axes((0, 0, 1, 1)))
        text = io.StringIO()
        figure.savefig(text, format="svg")
    return Markup(_for_page(text.getvalue(), label))


def _for_page(text: str, label: str | None) -> str:
    """matplotlib's SVG file as an element of a page, labelled for screen readers.

    label: None for a drawing that they should skip.
    """
    root = ElementTree.fromstring(text)
    used = set(re.findall(r'(?:url\(|")#([^)"]+)', text))
    for element in list(root.iter()):
        if element.get("id") not in used:
            element.attrib.pop("id", None)
        for child in element.findall(f"{{{SVG}}}metadata"):
            element.remove(child)
    width = float(root.attrib.pop("width").removesuffix("pt"))
    del root.attrib["height"], root.attrib["version"]
    root.attrib |= {"class": "chart", "style": f"width: {width * 4 / 3:.0f}px"}
    root.attrib |= {"aria-hidden": "true"} if label is None else {"role": "img", "aria-label": label}
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    return re.sub(r"#fe00[0-9a-f]{2}", _variable, ElementTree.tostring(root, encoding="unicode"))


def _variable(colour: re.Match) -> str:
    return f"var({VARIABLES[colour[0]]})"


def key(names: Iterable[str]) -> dict[str, Markup]:
    """{arm: the look of its line}."""
    return {name: _sample(look) for name, look in style.looks(names).items()}


@functools.cache
def _sample(look: style.Look) -> Markup:
    def draw(axis: Axes) -> None:
        axis.axis("off")
        axis.plot((0, 1, 2), (0, 0, 0), lw=1.6, ms=5, markevery=[1], **look.line(THEME))

    return _panel(f"key {look}", None, (0.56, 0.16), draw)


def curves(record: dict) -> dict[str, Markup]:
    """{heading: curve} of what was measured after each epoch; one line per seed. No slash: see `Analysis.curve`."""
    histories = [history for arm in record["arms"].values() for history in arm["history"]]
    fields = {field for history in histories for row in history for field in row if row[field] is not None}
    fields = {field for field in fields if "/" not in field}
    extra, looks = sorted(fields - figures.PANELS.keys() - {"epoch", "step"}), style.looks(record["arms"])
    panels = figures.PANELS | {field: field.replace("_", " ") for field in extra}
    return {
        heading: _panel(
            field,
            f"{heading} by epoch",
            (3.4, 2.5),
            lambda axis, of=field: _epochs(axis, record, of, looks),
        )
        for field, heading in panels.items()
        if field in fields
    }


def _epochs(axis: Axes, record: dict, field: str, looks: dict[str, style.Look]) -> None:
    figures.history(axis, record, field, looks, THEME)
    for end in figures.warmups(record):
        place = {"xycoords": ("data", "axes fraction"), "xytext": (-2, 3), "textcoords": "offset points"}
        axis.annotate(figures.WARMED, (end, 1), color=QUIET, fontsize=style.SMALL, **place)


def swept(sweep: Sweep) -> dict[str, dict[str, Markup]]:
    """{arm: {metric: picture}} of a sweep over one axis or two (heat maps).

    Over one axis, under "": curves of the arms if it is of numbers and they are few, else heat maps of the arms.
    """
    match len(sweep.document["axes"]):
        case 1:
            draw = _lines if is_curve(sweep) else _arm_maps
            return {"": draw(sweep)} if measured(sweep) else {}
        case 2:
            return {arm: _maps(sweep, arm) for arm in arms(sweep)}
    return {}


def is_curve(sweep: Sweep) -> bool:
    """True if a sweep is drawn as curves, which need a key, and not as heat maps."""
    axes = list(sweep.document["axes"].values())
    return len(axes) == 1 and numeric(axes[0]) is not None and len(arms(sweep)) <= FEW


def arms(sweep: Sweep) -> list[str]:
    """The arms of all points, in their order."""
    return list(dict.fromkeys(arm for point in sweep.points if point.run for arm in point.run.record["arms"]))


def cell(point: Point, arm: str, metric: str) -> dict | None:
    """A metric of an arm at a point; None unless it was measured."""
    found = point.run and point.run.record["arms"].get(arm, {}).get(metric)
    return found if found and found["mean"] is not None else None


def legend(sweep: Sweep) -> list[str]:
    """A line for each mark that the numbers of a sweep have."""
    runs = [point.run.record for point in sweep.points if point.run]
    return table.legend("".join(table.mark(run, arm, name) for run in runs for arm in run["arms"] for name in MAIN))


def measured(sweep: Sweep, arm: str | None = None) -> list[str]:
    """The metrics that some point has, of one arm or of any."""
    names = arms(sweep) if arm is None else [arm]
    return [metric for metric in SHOWN if any(cell(point, of, metric) for point in sweep.points for of in names)]


def _lines(sweep: Sweep) -> dict[str, Markup]:
    ((axis_name, values),) = sweep.document["axes"].items()
    at = _positions(values)
    return {
        LABELS[metric]: _panel(
            metric,
            f"{LABELS[metric]} by {axis_name}",
            (3.0, 2.6),
            lambda axis, of=metric: _line(axis, sweep, of, axis_name, at),
        )
        for metric in measured(sweep)
    }


def numeric(values: list[str]) -> list[float] | None:
    """Numbers and fractions as the command line takes them; None if one is neither."""
    parts = [value.partition("/") for value in values]
    try:
        numbers = [float(top) / float(bottom if slash else 1) for top, slash, bottom in parts]
    except (ValueError, ZeroDivisionError):
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def _positions(values: list[str]) -> dict[str, float]:
    """The place of each value of an axis: numbers as such, other settings side by side."""
    return dict(zip(values, numeric(values) or range(len(values)), strict=True))


def _line(axis: Axes, sweep: Sweep, metric: str, axis_name: str, at: dict[str, float]) -> None:
    points = sorted(sweep.points, key=lambda point: at[point.settings[axis_name]])
    xs = [at[point.settings[axis_name]] for point in points]
    for arm, look in style.looks(arms(sweep)).items():
        cells = [cell(point, arm, metric) for point in points]
        ys = np.array([math.nan if each is None else each["mean"] for each in cells])
        ends = np.array([(each and each["ci95"]) or (math.nan, math.nan) for each in cells]).T
        error = np.clip([ys - ends[0], ends[1] - ys], 0, None)
        axis.errorbar(xs, ys, error, lw=1.6, ms=4, capsize=2.5, **look.line(THEME))
        for x, y, point, each in zip(xs, ys, points, cells, strict=True):
            if each:
                axis.annotate(table.mark(point.run.record, arm, metric), (x, y), (4, 2), textcoords="offset points")
    if min(at.values()) > 0 and max(at.values()) / min(at.values()) >= MANY and numeric(list(at)):
        axis.set_xscale("log")
    axis.set_xticks(list(at.values()), list(at), **_tilted(at))
    axis.set_xticks([], minor=True)
    axis.set_xlabel(axis_name)
    style.percent_axis(axis, (0.0, 1.0))


class _Grid(NamedTuple):
    """The cells of a heat map: a row and a column for each point and arm. rows go upwards, columns to the right."""

    rows: list[str]
    columns: list[str]
    labels: tuple[str, str]
    cells: dict[tuple[str, str], tuple[Point, str]]


def _maps(sweep: Sweep, arm: str) -> dict[str, Markup]:
    (down, rows), (across, columns) = ((name, _ordered(values)) for name, values in sweep.document["axes"].items())
    cells = {(point.settings[down], point.settings[across]): (point, arm) for point in sweep.points}
    metrics = [metric for metric in measured(sweep, arm) if metric != "triggered_accuracy"]
    return _drawn(_Grid(rows, columns, (down, across), cells), metrics, f"{arm} ", f"of {arm} by {down} and {across}")


def _arm_maps(sweep: Sweep) -> dict[str, Markup]:
    ((across, columns),) = sweep.document["axes"].items()
    cells = {(arm, point.settings[across]): (point, arm) for point in sweep.points for arm in arms(sweep)}
    grid = _Grid(arms(sweep)[::-1], columns, ("", across), cells)
    return _drawn(grid, measured(sweep), "", f"of each arm by {across}")


def _drawn(grid: _Grid, metrics: list[str], name: str, about: str) -> dict[str, Markup]:
    """{heading: heat map} of each metric. name: what makes it unique on the page. about: for screen readers."""
    wide = max(map(len, grid.rows))
    size = (max(2.6, 0.64 * len(grid.columns) + 0.6 + 0.08 * wide), 0.34 * len(grid.rows) + 1.1)
    return {
        LABELS[metric]: _panel(
            f"{name}{metric}", f"{LABELS[metric]} {about}", size, lambda axis, of=metric: _map(axis, grid, of)
        )
        for metric in metrics
    }


def _tilted(labels: Iterable[str], room: int = 24) -> dict:
    """The rotation of labels of an axis that has room for so many letters side by side."""
    crowded = sum(len(label) + 1 for label in labels) > room
    return {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if crowded else {}


def _ordered(values: list[str]) -> list[str]:
    at = _positions(values)
    return sorted(values, key=at.get)


def _map(axis: Axes, grid: _Grid, metric: str) -> None:
    """A heat map in %; cells name points that failed or were not run."""
    rows, columns, (down, across) = grid.rows, grid.columns, grid.labels
    values = np.full((len(rows), len(columns)), math.nan)
    texts = np.full(values.shape, "not run", object)
    for (row, column), (point, arm) in grid.cells.items():
        place = rows.index(row), columns.index(column)
        found = cell(point, arm, metric)
        values[place] = math.nan if found is None else found["mean"]
        texts[place] = {"failed": "failed", "missing": "not run", "done": "–"}[point.status]
        if found is not None:
            texts[place] = f"{100 * found['mean']:.1f}{table.mark(point.run.record, arm, metric)}"
    _cells(axis, values, texts)
    axis.set_xticks(range(len(columns)), columns, **_tilted(columns, 8 * len(columns)))
    axis.set_yticks(range(len(rows)), rows)
    axis.set_xlabel(across)
    axis.set_ylabel(down)


def _cells(axis: Axes, values: np.ndarray, texts: np.ndarray) -> None:
    axis.grid(False)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.set_facecolor(FAILED)
    down, across = (np.arange(count + 1) - 0.5 for count in values.shape)
    shown = np.ma.masked_invalid(values)
    axis.pcolormesh(across, down, shown, cmap="cividis", vmin=0, vmax=1, edgecolor=PAPER, linewidth=1.5)
    for (row, column), text in np.ndenumerate(texts):
        value = values[row, column]
        colour = INK if math.isnan(value) else "#ffffff" if value < 0.55 else "#000000"
        axis.text(column, row, text, ha="center", va="center", color=colour)
