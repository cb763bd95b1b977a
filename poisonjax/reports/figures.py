"""Pictures of a run, drawn from its record and a few images."""

import pathlib

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from poisonjax.reports.table import LABELS, audit, has, plural

DPI = 150
STYLES = (".-", "s-", "^--")  # lines that coincide can be told apart


def _save(figure: Figure, path: pathlib.Path) -> None:
    """A PNG whose bytes depend on the picture alone."""
    figure.savefig(path, dpi=DPI, metadata={"Software": None})


def image_grid(columns: dict[str, np.ndarray], labels: list[str], title: str) -> Figure:
    """Rows of images side by side: {heading: [r h w c] in [0, 1], or [-1, 1] for a difference}; one label per row."""
    count = len(labels)
    figure = Figure(figsize=(1.6 * len(columns) + 0.4, 1.6 * count + 0.7), layout="constrained")
    figure.suptitle(title, fontsize=9)
    axes = figure.subplots(count, len(columns), squeeze=False)
    for column, (heading, images) in enumerate(columns.items()):
        axes[0, column].set_title(heading, fontsize=9)
        for row in range(count):
            show_image(axes[row, column], images[row])
            if column == 0:
                axes[row, 0].set_ylabel(labels[row], fontsize=9)
    return figure


def show_image(axis: Axes, image: np.ndarray) -> None:
    """Draw an image [h w c] in [0, 1], or in [-1, 1] for a difference."""
    signed, grey = image.min() < 0, image.shape[-1] == 1
    if signed and not grey:
        image = image / 2 + 0.5
    colours = {"cmap": "RdBu_r" if signed else "gray", "vmin": -1.0 if signed else 0.0, "vmax": 1.0} if grey else {}
    axis.imshow(image[..., 0] if grey else image, interpolation="nearest", **colours)
    axis.set_xticks([])
    axis.set_yticks([])


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
FRACTIONS = ("train_accuracy", "clean_accuracy", "attack_success_rate", "robust_accuracy", "linear_probe_auc")


def _legend(figure: Figure) -> None:
    """A legend below the figure, where it hides nothing."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(5, len(labels)), fontsize=8, frameon=False)


def _has(record: dict, name: str) -> bool:
    """True if any epoch of any arm has this number."""
    return any(name in row for metrics in record["arms"].values() for of in metrics["history"] for row in of)


def curves(record: dict) -> Figure:
    """Loss, training accuracy and what was measured on test images after each epoch; one line per seed."""
    panels = {name: heading for name, heading in PANELS.items() if _has(record, name)}
    figure = Figure(figsize=(10, 3 * -(-len(panels) // 2)), layout="constrained")
    axes = figure.subplots(-(-len(panels) // 2), 2, squeeze=False).flat
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    for axis, (name, heading) in zip(axes, panels.items(), strict=False):
        for colour, (arm, metrics) in enumerate(record["arms"].items()):
            for seed, history in enumerate(metrics["history"]):
                xs, ys = ([row.get(field, np.nan) for row in history] for field in ("epoch", name))
                axis.plot(xs, ys, f"C{colour}{STYLES[colour % 3]}", lw=1, ms=3, label=arm if seed == 0 else None)
        axis.set_title(heading, fontsize=10)
        axis.set_xlabel("epoch")
        if name in FRACTIONS:
            axis.set_ylim(-0.03, 1.03)
    _legend(figure)
    figure.suptitle(f"{record['experiment']}, {record['scale']} scale")
    return figure


def bars(record: dict) -> Figure:
    """Every metric of the arms, with 95% intervals; a black line for a reported number."""
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    axis, arms = figure.subplots(), list(record["arms"])
    names = [name for name in LABELS if any(has(record["arms"][arm], name) for arm in arms)]
    width = 0.8 / len(arms)
    for place, arm in enumerate(arms):
        for at, name in enumerate(names):
            if not has(record["arms"][arm], name):
                continue
            metric = record["arms"][arm][name]
            x, mean, (low, high) = at + (place - (len(arms) - 1) / 2) * width, metric["mean"], metric["ci95"]
            error = [[max(0.0, mean - low)], [max(0.0, high - mean)]]
            axis.bar(x, mean, width, yerr=error, capsize=3, color=f"C{place}", label=arm if at == 0 else None)
            reported = record["reported"].get(arm, {}).get(name)
            if reported is not None:
                axis.hlines(reported, x - width / 2, x + width / 2, "k", lw=2)
    axis.plot([], [], "k", lw=2, label="reported")
    axis.set_xticks(range(len(names)), [LABELS[name].replace(" (", "\n(") for name in names], fontsize=8)
    axis.set_ylim(0, 1.05)
    axis.set_title(f"{record['experiment']}, {record['scale']} scale, {plural(len(record['seeds']), 'seed')}")
    _legend(figure)
    return figure


def capacity(record: dict) -> Figure:
    """Clean and PGD accuracy against the number of parameters, a line for each way of training; collapsed: crossed."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axis = figure.subplots()
    for colour, adversarial in enumerate((False, True)):
        arms = [arm["name"] for arm in record["config"]["arms"] if bool(arm["objective"].get("attack")) == adversarial]
        ways = "adversarial" if adversarial else "standard"
        for name, style in (("clean_accuracy", "o-"), ("robust_accuracy", "s--")):
            points = sorted((record["arms"][arm]["parameters"], record["arms"][arm][name]["mean"]) for arm in arms)
            axis.plot(*np.array(points).reshape(-1, 2).T, f"C{colour}{style}", label=f"{ways} training, {LABELS[name]}")
    for arm in record["arms"]:
        if any("collapsed" in line for line in audit(record, arm)):
            at = record["arms"][arm]["parameters"], record["arms"][arm]["clean_accuracy"]["mean"]
            axis.plot(*at, "kx", ms=12, mew=2)
    axis.set_xscale("log")
    axis.set_ylim(-0.03, 1.03)
    axis.set_xlabel("parameters (x: collapsed to one class)")
    axis.set_ylabel("test accuracy")
    axis.set_title(f"{record['experiment']}, {record['scale']} scale")
    axis.legend(fontsize=8)
    return figure


def draw(record: dict, others: dict[str, Figure], folder: pathlib.Path) -> list[str]:
    """Write the figures that follow from the record, and others {name: figure}; return the names of all pictures."""
    folder.mkdir(exist_ok=True)
    made = others | {"curves": curves(record), "bars": bars(record)}
    if len({metrics["parameters"] for metrics in record["arms"].values()}) > 2:
        made["capacity"] = capacity(record)
    for name, figure in made.items():
        _save(figure, folder / f"{name}.png")
    kept = [path.name for path in sorted(folder.glob("*.png")) if path.stem not in made]
    return kept + [f"{name}.png" for name in made]
