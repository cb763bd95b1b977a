"""The picture at the head of the README: a poisoned image, the trigger, and what each training makes of it."""

import hashlib
import io
import pathlib

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from poisonjax.poisons.aim import BACKDOOR
from poisonjax.reports import style
from poisonjax.reports.answer import Case, cases, data, network, poison, setting
from poisonjax.reports.arms import controls
from poisonjax.reports.images import class_name
from poisonjax.reports.site.reading import Run
from poisonjax.reports.style import Theme

TRAININGS = {
    "standard": "standard training",
    "pgd_at_as_reported": "adversarial training as reported",
    "pgd_at": "adversarial training (Madry et al.)",
    "pgd_at_as_reported_clean_data": "as reported, on clean data (control)",
}
RATE = BACKDOOR.metric
THEMES = {"light": style.LIGHT, "dark": style.DARK}
DRAWN_FROM = "Source"  # the field of the PNG with the digest of the files behind it


def files(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """The two files of the picture in a checkout, by theme."""
    return {theme: root / "docs" / f"hero-{theme}.png" for theme in THEMES}


def chosen(runs: tuple[Run, ...], records: pathlib.Path) -> Case | None:
    """The case to draw: the first backdoor whose run kept its images, if possible one with another defence to show."""
    backdoors = [case for case in cases(runs) if case.aim == BACKDOOR]
    kept = [case for case in backdoors if (records / case.run.path / "shown.npz").exists()]
    return min(kept, key=lambda case: case.best is None, default=None)


def digest(case: Case, records: pathlib.Path) -> str:
    """The sha256 of what the picture is drawn from."""
    return hashlib.sha256(case.run.raw + (records / case.run.path / "shown.npz").read_bytes()).hexdigest()


def drawn_from(path: pathlib.Path) -> str:
    """The digest in a picture of `pictures`."""
    with Image.open(path) as picture:
        return picture.text[DRAWN_FROM]


def pictures(root: pathlib.Path, runs: tuple[Run, ...]) -> dict[pathlib.Path, bytes]:
    """The files of the picture for a light and a dark page, {path: PNG}; none if no run kept its images."""
    records = root / "results"
    case = chosen(runs, records)
    if case is None:
        return {}
    with np.load(records / case.run.path / "shown.npz") as shown:
        images = dict(shown)
    metadata = {"Software": None, DRAWN_FROM: digest(case, records)}
    return {path: _png(case, images, THEMES[theme], metadata) for theme, path in files(root).items()}


def _png(case: Case, images: dict[str, np.ndarray], theme: Theme, metadata: dict) -> bytes:
    content = io.BytesIO()
    with matplotlib.rc_context(style.rc(theme)):
        draw(case, images, theme).savefig(content, dpi=style.DPI, transparent=True, metadata=metadata)
    return content.getvalue()


def draw(case: Case, images: dict[str, np.ndarray], theme: Theme, row: int = 0) -> Figure:
    """Three panels. images: those that the run kept, as `poisonjax.runs.pictures.Shown` has them."""
    figure = Figure(figsize=(11.8, 3.7), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12)
    train, test, rates = figure.subplots(1, 3, width_ratios=(1, 1, 2.3))
    record = case.run.record
    names = record["dataset"].get("label_names", ())
    share = record["poison"][0]["rows"] / record["poison"][0]["of"]
    label, given, seen, wanted = (
        class_name(int(images[key][row]), names) for key in ("label", "poisoned_label", "test_label", "target")
    )
    poisoned = f"1  A trigger and a wrong\nlabel on {share:.0%} of the data"
    _tile(train, images["poisoned"][row], poisoned, f"{label}, labelled {given}", theme)
    _tile(
        test, images["triggered"][row], "2  The same trigger\nat test time", f"{seen}; attacker wants {wanted}", theme
    )
    _rates(rates, case, names, row, theme)
    return figure


def _tile(axis: Axes, image: np.ndarray, title: str, below: str, theme: Theme) -> None:
    grey = {"cmap": "gray", "vmin": 0, "vmax": 1} if image.shape[-1] == 1 else {}
    axis.imshow(image.squeeze(), interpolation="nearest", **grey)
    axis.set_title(title, fontsize=style.LARGE - 1.5)
    axis.set_xlabel(below, fontsize=style.BASE + 1)
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
    axis.spines[:].set(visible=True, color=theme.rule)


def _rates(axis: Axes, case: Case, names: list[str], row: int, theme: Theme) -> None:
    """Attack success rates with intervals, what each network says of the triggered image, and reported numbers."""
    record = case.run.record
    trainings = _trainings(case)
    shown = list(trainings)
    looks = style.looks(shown, controls(record))
    reported = {place: record["reported"].get(arm, {}).get(RATE) for place, arm in enumerate(shown)}
    reported = {place: 100 * value for place, value in reported.items() if value is not None}
    for place, arm in enumerate(shown):
        mean, (low, high) = 100 * record["arms"][arm][RATE]["mean"], record["arms"][arm][RATE]["ci95"]
        look = looks[arm].line(theme) | {"linestyle": "none"}
        axis.errorbar(
            mean, place, xerr=[[mean - 100 * low], [100 * high - mean]], ms=10, elinewidth=3, zorder=3, **look
        )
        beside, align = ((-12, 0), "right") if mean > 50 else ((12, 0), "left")
        axis.annotate(f"{mean:.1f}%", (mean, place), beside, textcoords="offset points", ha=align, va="center")
    axis.plot(list(reported.values()), list(reported), "D", mfc="none", mec=theme.ink, ms=9)
    axis.set_yticks(range(len(shown)), [f"{trainings[arm]}\nsays {_said(record, arm, names, row)}" for arm in shown])
    axis.tick_params(axis="y", length=0, labelsize=style.BASE + 0.5)
    axis.set(xlim=(-4, 104), ylim=(len(shown) - 0.5, -0.5), xticks=range(0, 101, 25))
    axis.spines[:].set_visible(False)
    axis.set_title("3  What each training makes of it:\nattack success rate, %", fontsize=style.LARGE - 1.5)
    where = f"{poison(case)} in {network(case)} on {data(case)}, {setting(case)}"
    axis.set_xlabel(where + ("; ◇ reported" if reported else ""), fontsize=style.SMALL)


def _trainings(case: Case) -> dict[str, str]:
    """{arm: what people call it} of the TRAININGS in the record and of the best other defence, the control last."""
    there = {arm: name for arm, name in TRAININGS.items() if arm in case.run.record["arms"]}
    clean = {arm: there.pop(arm) for arm in controls(case.run.record) if arm in there}
    if case.best is not None and case.best.arm not in there:
        there[case.best.arm] = f"best other: {case.best.arm}"
    return there | clean


def _said(record: dict, arm: str, names: list[str], row: int) -> str:
    return class_name(record["arms"][arm]["says"]["triggered"][row], names)
