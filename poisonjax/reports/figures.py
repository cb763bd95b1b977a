"""Pictures of a run, drawn from its record and a few images."""

import pathlib

import numpy as np
from matplotlib.figure import Figure

from poisonjax.reports.table import LABELS

DPI = 150
STYLES = (".-", "s-", "^--")  # lines that coincide can be told apart


def _save(figure: Figure, path: pathlib.Path) -> None:
    """A PNG whose bytes depend on the picture alone."""
    figure.savefig(path, dpi=DPI, metadata={"Software": None})


def image_grid(columns: dict[str, np.ndarray], labels: list[str], title: str) -> Figure:
    """Rows of images side by side: {heading: [r h w c] in [0, 1], or [-1, 1] for a difference}; a label a row."""
    count = len(labels)
    figure = Figure(figsize=(1.6 * len(columns) + 0.4, 1.6 * count + 0.7), layout="constrained")
    figure.suptitle(title, fontsize=9)
    axes = figure.subplots(count, len(columns), squeeze=False)
    for column, (heading, images) in enumerate(columns.items()):
        axes[0, column].set_title(heading, fontsize=9)
        for row in range(count):
            _show(axes[row, column], images[row])
            if column == 0:
                axes[row, 0].set_ylabel(labels[row], fontsize=9)
    return figure


def _show(axis, image: np.ndarray) -> None:
    signed, grey = image.min() < 0, image.shape[-1] == 1
    if signed and not grey:
        image = image / 2 + 0.5
    colours = {"cmap": "RdBu_r" if signed else "gray", "vmin": -1.0 if signed else 0.0, "vmax": 1.0} if grey else {}
    axis.imshow(image[..., 0] if grey else image, interpolation="nearest", **colours)
    axis.set_xticks([])
    axis.set_yticks([])


def curves(record: dict) -> Figure:
    """Loss, training accuracy, clean test accuracy and attack success rate after each epoch; a line a seed."""
    panels = {
        "train_loss": "training loss",
        "train_accuracy": "training accuracy",
        "clean_accuracy": "clean accuracy, test",
        "attack_success_rate": "attack success rate, test",
    }
    figure = Figure(figsize=(10, 6), layout="constrained")
    for axis, (name, heading) in zip(figure.subplots(2, 2).flat, panels.items(), strict=True):
        for colour, (arm, metrics) in enumerate(record["arms"].items()):
            for seed, history in enumerate(metrics["history"]):
                xs, ys = ([row[field] for row in history] for field in ("epoch", name))
                axis.plot(xs, ys, f"C{colour}{STYLES[colour % 3]}", lw=1, ms=3, label=arm if seed == 0 else None)
        axis.set_title(heading, fontsize=10)
        axis.set_xlabel("epoch")
        if name != "train_loss":
            axis.set_ylim(-0.03, 1.03)
    figure.axes[0].legend()
    figure.suptitle(f"{record['experiment']}, {record['scale']} scale")
    return figure


def bars(record: dict) -> Figure:
    """Every metric of the arms, with 95 % intervals; a black line where the report printed a number."""
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    axis, arms = figure.subplots(), list(record["arms"])
    width = 0.8 / len(arms)
    for place, arm in enumerate(arms):
        for at, name in enumerate(LABELS):
            metric = record["arms"][arm][name]
            if metric["mean"] is None:
                continue
            x, mean, (low, high) = at + (place - (len(arms) - 1) / 2) * width, metric["mean"], metric["ci95"]
            error = [[max(0.0, mean - low)], [max(0.0, high - mean)]]
            axis.bar(x, mean, width, yerr=error, capsize=3, color=f"C{place}", label=arm if at == 0 else None)
            printed = record["printed"].get(arm, {}).get(name)
            if printed is not None:
                axis.hlines(printed, x - width / 2, x + width / 2, "k", lw=2)
    axis.plot([], [], "k", lw=2, label="printed in the report")
    axis.set_xticks(range(len(LABELS)), [label.replace(" (", "\n(") for label in LABELS.values()], fontsize=8)
    axis.set_ylim(0, 1.05)
    seeds = "1 seed" if len(record["seeds"]) == 1 else f"{len(record['seeds'])} seeds"
    axis.set_title(f"{record['experiment']}, {record['scale']} scale, {seeds}")
    axis.legend(fontsize=8)
    return figure


def draw(record: dict, images: dict[str, np.ndarray], labels: list[str], folder: pathlib.Path) -> list[str]:
    """Writes images.png, curves.png and bars.png; their names."""
    folder.mkdir(exist_ok=True)
    made = {
        "images.png": image_grid(images, labels, f"{record['experiment']}: what the attacker does"),
        "curves.png": curves(record),
        "bars.png": bars(record),
    }
    for name, figure in made.items():
        _save(figure, folder / name)
    return list(made)
