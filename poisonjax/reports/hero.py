"""The picture at the head of the README: a poisoned image, the trigger, and what each training makes of it."""

import hashlib
import pathlib

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from poisonjax.reports.answer import RATE, Case, cases, data, network, poison, setting
from poisonjax.reports.site.reading import Run

TRAININGS = {
    "standard": ("standard training", "#D55E00"),
    "pgd_at_as_reported": ("adversarial training as reported", "#56B4E9"),
    "pgd_at": ("adversarial training (Madry et al.)", "#0072B2"),
    "pgd_at_as_reported_clean_data": ("the same on clean data (control)", "#8a8a8a"),
}
INK = {"light": "#1a1a1a", "dark": "#e8e8e8"}
DRAWN_FROM = "Source"  # the field of the PNG with the digest of the files behind it


def files(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """The two files of the picture in a checkout, by theme."""
    return {theme: root / "docs" / f"hero-{theme}.png" for theme in INK}


def chosen(runs: tuple[Run, ...], records: pathlib.Path) -> Case | None:
    """The case to draw: the first whose run kept its images; None if there is none."""
    kept = [case for case in cases(runs) if (records / case.run.path / "shown.npz").exists()]
    return kept[0] if kept else None


def digest(case: Case, records: pathlib.Path) -> str:
    """The sha256 of what the picture is drawn from."""
    return hashlib.sha256(case.run.raw + (records / case.run.path / "shown.npz").read_bytes()).hexdigest()


def drawn_from(path: pathlib.Path) -> str:
    """The digest in a picture that `write` made."""
    with Image.open(path) as picture:
        return picture.text[DRAWN_FROM]


def write(root: pathlib.Path, runs: tuple[Run, ...]) -> None:
    """Draw the picture for a light and a dark page; nothing if no run kept its images."""
    records = root / "results"
    case = chosen(runs, records)
    if case is None:
        return
    with np.load(records / case.run.path / "shown.npz") as shown:
        images = dict(shown)
    for theme, path in files(root).items():
        metadata = {"Software": None, DRAWN_FROM: digest(case, records)}
        draw(case, images, INK[theme]).savefig(path, dpi=150, transparent=True, metadata=metadata)


def draw(case: Case, images: dict[str, np.ndarray], ink: str, row: int = 0) -> Figure:
    """Three panels. images: those that the run kept, as `poisonjax.runs.pictures.Shown` has them."""
    figure = Figure(figsize=(11, 3.3), layout="constrained")
    train, test, rates = figure.subplots(1, 3, width_ratios=(1, 1, 2.4))
    names = case.run.record["dataset"].get("label_names") or list(map(str, range(1000)))
    share = case.run.record["poison"][0]
    label, given, wanted = (names[int(images[key][row])] for key in ("label", "poisoned_label", "target"))
    part = f"{share['rows'] / share['of']:.0%} of the training images"
    _tile(train, images["poisoned"][row], f"1  The attacker poisons\n{part}", f"{label}, labelled {given}", ink)
    seen = f"{names[int(images['test_label'][row])]} with the trigger; wanted: {wanted}"
    _tile(test, images["triggered"][row], "2  At test time he\nadds the trigger", seen, ink)
    _rates(rates, case, names, row, ink)
    return figure


def _tile(axis: Axes, image: np.ndarray, title: str, below: str, ink: str) -> None:
    axis.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axis.set_title(title, fontsize=11, color=ink, loc="left")
    axis.set_xlabel(below, fontsize=11, color=ink)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_color(ink)


def _rates(axis: Axes, case: Case, names: list[str], row: int, ink: str) -> None:
    """Attack success rates with intervals, what each network says of the triggered image, and reported numbers."""
    record, shown = case.run.record, [arm for arm in TRAININGS if arm in case.run.record["arms"]]
    for place, arm in enumerate(shown):
        metric, (_, colour) = record["arms"][arm][RATE], TRAININGS[arm]
        low, high = (100 * bound for bound in metric["ci95"])
        axis.plot([low, high], [place, place], color=colour, lw=3, solid_capstyle="butt")
        axis.plot(100 * metric["mean"], place, "o", color=colour, ms=10)
        reported = record["reported"].get(arm, {}).get(RATE)
        if reported is not None:
            axis.plot(100 * reported, place, "D", mfc="none", mec=ink, ms=9, label="the report")
    labels = [f"{TRAININGS[arm][0]}\nsays: {_said(record, arm, names, row)}" for arm in shown]
    axis.set_yticks(range(len(shown)), labels, fontsize=10, color=ink)
    axis.set(xlim=(-3, 103), ylim=(len(shown) - 0.5, -0.5))
    axis.tick_params(colors=ink)
    axis.grid(axis="x", alpha=0.3)
    axis.spines[:].set_visible(False)
    axis.set_title("3  The backdoor works, % of triggered test images", fontsize=11, color=ink, loc="left")
    where = f"{poison(case)}, {network(case)} on {data(case)} ({setting(case)})"
    axis.set_xlabel(where + ("; ◇ the report's number" if axis.get_legend_handles_labels()[0] else ""), color=ink)


def _said(record: dict, arm: str, names: list[str], row: int) -> str:
    return names[record["arms"][arm]["says"]["triggered"][row]]
