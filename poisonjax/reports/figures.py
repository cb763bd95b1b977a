"""Pictures of a run, drawn from its record."""

import pathlib

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from poisonjax.reports import style
from poisonjax.reports.aims import aim
from poisonjax.reports.arms import arms, control, controls
from poisonjax.reports.brief import finding
from poisonjax.reports.style import LIGHT, Look, Theme
from poisonjax.reports.table import LABELS, MAIN, TRIGGERED, audit, capitalized, has, plural


@style.styled
def save(figure: Figure, path: pathlib.Path, dpi: int = style.DPI) -> None:
    """Write a PNG whose bytes depend on the picture alone. dpi: pixels an inch."""
    figure.savefig(path, dpi=dpi, metadata={"Software": None})


def _setting(record: dict) -> str:
    """The experiment, its scale and the number of seeds."""
    return f"{record['experiment']}, {record['scale']} scale, {plural(len(record['seeds']), 'seed')}"


def _looks(record: dict) -> dict[str, Look]:
    return style.looks(record["arms"], controls(record))


# Curves

PANELS = {
    "train_loss": "training loss",
    "train_accuracy": "training accuracy",
    "clean_accuracy": "clean accuracy, test",
    "attack_success_rate": "attack success rate, test",
    "robust_accuracy": "PGD accuracy, first test images",
    "train_divergence": "divergence of adversarial from clean predictions, training",
    "linear_probe_auc": "AUC of a linear probe for the trigger",
    "silhouette": "silhouette of triggered and clean activations",
    "mmd2": "MMD² of triggered and clean activations",
}
FRACTIONS = ("train_accuracy", "clean_accuracy", "attack_success_rate", "robust_accuracy")
WARMED = "eps reaches its full size"
CROWDED = 8  # markers on a line, at most


def history(axis: Axes, record: dict, field: str, looks: dict[str, Look], theme: Theme) -> None:
    """Draw a field of the histories by epoch, one line per seed, and where eps stops growing."""
    shown, width = [], 1.6 if len(record["seeds"]) == 1 else 1.1
    for arm, metrics in record["arms"].items():
        for rows in metrics["history"]:
            ys = [np.nan if row.get(field) is None else row[field] for row in rows]
            every = -(-len(rows) // CROWDED) or 1
            axis.plot([row["epoch"] for row in rows], ys, lw=width, ms=4, markevery=every, **looks[arm].line(theme))
            shown += ys
    if field in FRACTIONS:
        style.percent_axis(axis, shown)
    axis.set_xlabel("epoch")
    axis.xaxis.set_major_locator(ticker.MaxNLocator(6, integer=True))
    for end in warmups(record):
        axis.axvline(end, color=theme.quiet, lw=0.8, dashes=(2, 2), zorder=0)


def warmups(record: dict) -> list[float]:
    """The epochs, before the last, until which the eps of adversarial training grows."""
    shares = {arm["name"]: arm["objective"].get("eps_warmup") for arm in record["config"].get("arms", [])}
    ends = {
        shares[arm] * rows[-1]["epoch"]
        for arm, metrics in record["arms"].items()
        for rows in metrics["history"]
        if rows and shares.get(arm)
    }
    return sorted(ends)


def _measured_by_epoch(record: dict, name: str) -> bool:
    return any(name in row for metrics in record["arms"].values() for rows in metrics["history"] for row in rows)


@style.styled
def curves(record: dict) -> Figure:
    """Loss, training accuracy and what was measured on test images after each epoch; one line per seed."""
    panels, looks = [name for name in PANELS if _measured_by_epoch(record, name)], _looks(record)
    figure = style.sheet(2.6 * -(-len(panels) // 2) + 0.6, "Training, epoch by epoch", _setting(record))
    axes = figure.subplots(-(-len(panels) // 2) or 1, 2, squeeze=False).flat
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    for axis, name in zip(axes, panels, strict=False):
        history(axis, record, name, looks, LIGHT)
        axis.set_title(capitalized(PANELS[name]))
    handles = {arm: Line2D([], [], lw=1.6, ms=5, **look.line(LIGHT)) for arm, look in looks.items()}
    if warmups(record):
        handles[WARMED] = Line2D([], [], color=LIGHT.quiet, lw=0.8, dashes=(2, 2))
    style.legend(figure, handles)
    return figure


# Results

DIAMOND = {"ls": "none", "marker": "D", "ms": 8, "mfc": "none", "mec": LIGHT.ink, "mew": 1.2}
CROSS = {"ls": "none", "marker": "x", "ms": 7, "mew": 1.8, "color": LIGHT.quiet}


@style.styled
def results(record: dict) -> Figure:
    """A row for each arm, a panel for each main metric, with 95% intervals and the reported values."""
    names = _shown(record)
    rows = len(record["arms"])
    figure = style.sheet(0.5 * rows + 1.3, finding(record), _setting(record))
    figure.get_layout_engine().set(w_pad=0.09)
    wide = [name == aim(record).metric or len(names) <= 3 for name in names]
    ratios = [2.2 if is_wide else 1 for is_wide in wide]
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False, width_ratios=ratios)[0]
    for axis, name, is_wide in zip(panels, names, wide, strict=True):
        _panel(axis, record, name, is_wide)
    panels[0].set_yticks(range(rows), [_row(record, arm) for arm in record["arms"]])
    panels[0].set_ylim(rows - 0.4, -0.6)
    style.legend(figure, _handles(record, names))
    return figure


def _shown(record: dict) -> list[str]:
    """The metrics to draw: that of the attacker's aim first; triggered accuracy only where the report gives it."""
    accuracies = ("triggered_accuracy", "clean_accuracy", "robust_accuracy", "autoattack_accuracy")
    names = dict.fromkeys((aim(record).metric, *accuracies))
    given = {row["metric"] for row in record["comparison"]}
    wanted = [name for name in names if name != "triggered_accuracy" or name in given]
    return [name for name in wanted if any(has(metrics, name) for metrics in record["arms"].values())] or [MAIN[0]]


def _row(record: dict, arm: str) -> str:
    """The name of a row, and why it means nothing."""
    why = sorted({line.partition(": ")[2].partition(":")[0] for line in audit(record, arm)})
    return f"{arm}\nvoid: {', '.join(why)}" if why else arm


def _panel(axis: Axes, record: dict, name: str, wide: bool) -> None:
    """One metric of every arm; wide: where there is room for its name on one line."""
    _band(axis, record, name)
    for row, (arm, look) in enumerate(_looks(record).items()):
        if has(record["arms"][arm], name):
            _dot(axis, row, record["arms"][arm][name], look, bool(audit(record, arm)))
        for place, value in enumerate(reported(record, arm, name)):
            axis.plot(
                100 * value, row + 0.24 * place, "D", ms=8, mfc="none", mec=LIGHT.ink, mew=1.2, clip_on=False, zorder=4
            )
    heading = capitalized(LABELS[name]) + ", %"
    axis.set_title(heading if wide else heading.replace(" ", "\n", 1))
    axis.set_xlim(-5, 105)
    axis.set_xticks((0, 25, 50, 75, 100) if wide else (0, 50, 100))
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)


def _dot(axis: Axes, row: int, metric: dict, look: Look, void: bool) -> None:
    """The mean with its interval and its value; a cross where it means nothing."""
    mean, (low, high) = 100 * metric["mean"], (100 * end for end in metric["ci95"] or [metric["mean"]] * 2)
    if void:
        axis.plot(mean, row, **CROSS, clip_on=False, zorder=3)
        return
    line = look.line(LIGHT) | {"linestyle": "none"}
    error = [[max(0.0, mean - low)], [max(0.0, high - mean)]]
    axis.errorbar(mean, row, xerr=error, ms=7, elinewidth=2, capsize=3, clip_on=False, zorder=3, **line)
    axis.annotate(f"{mean:.1f}", (mean, row), (0, 6), textcoords="offset points", ha="center", fontsize=style.SMALL)


def _band(axis: Axes, record: dict, name: str) -> None:
    """The interval of the control, where the metric is about the poison."""
    arm = control(record)
    if arm is None or name not in (*TRIGGERED, aim(record).metric) or not has(record["arms"][arm], name):
        return
    metric = record["arms"][arm][name]
    low, high = metric["ci95"] or [metric["mean"]] * 2
    axis.axvspan(100 * low, 100 * high, color=LIGHT.quiet, alpha=0.25, lw=1, zorder=0)


def reported(record: dict, arm: str, name: str) -> list[float]:
    """All values that the report gives for a metric of an arm, over all classes."""
    return [
        row["reported"]
        for row in record["comparison"]
        if (row["arm"], row["metric"], row["label"]) == (arm, name, None)
    ]


def _handles(record: dict, names: list[str]) -> dict[str, Line2D | Patch]:
    """{what it means: a sign in `results`}, of those that occur."""
    arms, arm = record["arms"], control(record)
    signs = {"measured, 95% interval": Line2D([], [], color=LIGHT.ink, marker="o", ms=7, lw=2)}
    if any(reported(record, each, name) for each in arms for name in names):
        signs["reported"] = Line2D([], [], **DIAMOND)
    if arm is not None and aim(record).metric in names:
        signs[f"control, 95% interval: {arm}"] = Patch(color=LIGHT.quiet, alpha=0.25, lw=0)
    if any(audit(record, each) for each in arms):
        signs["void: means nothing"] = Line2D([], [], **CROSS)
    return signs


# Capacity


@style.styled
def capacity(record: dict) -> Figure:
    """Clean and PGD accuracy against the number of parameters, a line for each way of training; void: crossed."""
    figure = style.sheet(4.4, finding(record), _setting(record))
    axis = figure.subplots()
    for way, look in style.looks(("standard", "pgd_at")).items():
        for name, dash in (("clean_accuracy", "-"), ("robust_accuracy", (0, (4, 2)))):
            at = np.array(sorted(_sizes(record, name, adversarial=way == "pgd_at"))).reshape(-1, 2).T
            label = f"{'adversarial' if way == 'pgd_at' else way} training, {LABELS[name]}"
            axis.plot(*at, ms=6, lw=1.6, label=label, **(look.line(LIGHT) | {"linestyle": dash}))
    for arm in (arm for arm in record["arms"] if audit(record, arm)):
        for name in ("clean_accuracy", "robust_accuracy"):
            axis.plot(*_size(record, arm, name), "x", ms=11, mew=2, color=LIGHT.ink)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
    axis.xaxis.set_minor_formatter(ticker.NullFormatter())
    style.percent_axis(axis, axis.dataLim.intervaly)
    axis.set_ylabel("test accuracy, %")
    axis.set_xlabel(
        "parameters; crossed: void, means nothing"
        if any(audit(record, arm) for arm in record["arms"])
        else "parameters"
    )
    handles, labels = axis.get_legend_handles_labels()
    style.legend(figure, dict(zip(labels, handles, strict=True)))
    return figure


def _sizes(record: dict, name: str, adversarial: bool) -> list[tuple[int, float]]:
    ways = {arm["name"]: bool(arm["objective"].get("attack")) for arm in arms(record)}
    return [
        _size(record, arm, name) for arm, way in ways.items() if way == adversarial and has(record["arms"][arm], name)
    ]


def _size(record: dict, arm: str, name: str) -> tuple[int, float]:
    """The number of parameters of an arm, and a metric of it."""
    return record["arms"][arm]["parameters"], record["arms"][arm][name]["mean"]


def draw(record: dict, others: dict[str, Figure], folder: pathlib.Path) -> list[str]:
    """Write the figures that follow from the record, and others {name: figure}; return the names of all pictures."""
    folder.mkdir(exist_ok=True)
    made = others | {"curves": curves(record), "results": results(record)}
    if len({metrics["parameters"] for metrics in record["arms"].values()}) > 2:
        made["capacity"] = capacity(record)
    for name, figure in made.items():
        save(figure, folder / f"{name}.png")
    kept = [path.name for path in sorted(folder.glob("*.png")) if path.stem not in made]
    return kept + [f"{name}.png" for name in made]
