"""Losses and margins of poisoned and clean training rows over the epochs of each training."""

import dataclasses
from collections.abc import Callable, Hashable, Mapping
from typing import ClassVar, NamedTuple

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from poisonjax.attacks import Attack, Margin
from poisonjax.attacks.settings import check_counts
from poisonjax.defences.reveal import log_losses
from poisonjax.evaluation.analysis import Analysis, Figure, Subject, Table
from poisonjax.evaluation.detection import detection
from poisonjax.evaluation.victim import Victim, structure
from poisonjax.keys import row_keys
from poisonjax.poisons.base import Poison
from poisonjax.reports import statistics, style
from poisonjax.reports.table import plain
from poisonjax.runtime import distributed
from poisonjax.training.objectives import hard
from poisonjax.types import Array, Examples, take, to_unit

GROUPS = {
    "poisoned": "poisoned",
    "same_class": "clean, same class as poisoned ones",
    "other_classes": "clean, other classes",
}
MEASURES = {"loss": "loss", "loss_under_attack": "loss under attack", "margin": "margin"}
QUANTILES = {"q25": 0.25, "median": 0.5, "q75": 0.75}
AUC = "loss_under_attack_auc"
APART = 0.75  # area under the curve, on either side of 1/2, from which the title says that rows are set apart


class Paths(NamedTuple):
    """Numbers of one network over e epochs; NaN where there are no such rows.

    epochs: [e]. quantiles: [e, group, measure, quantile], losses in nats, margins in logits. auc: [e], the chance that
    a poisoned row has a lower loss under attack than a clean row of the same classes. rows: [group], how many are
    scored.
    """

    epochs: np.ndarray
    quantiles: np.ndarray
    auc: np.ndarray
    rows: np.ndarray


@dataclasses.dataclass(frozen=True)
class LossPaths(Analysis):
    """Loss, loss under attack and margin of training rows after every epoch, poisoned ones apart from clean ones.

    Adversarial training against a budget that covers the trigger leaves poisoned rows the hardest of their class; one
    that does not may make them the easiest, by which `defences.Reveal` finds them. The loss is the cross-entropy with
    the label that the network learns from; the margin, without attack, is the logit of that label minus the largest
    other. Cover rows are left out. Arms on clean data, whose networks are shared between runs, have no paths.

    attack: for the loss under attack, at its full budget at every epoch; None for that of each arm's own training, and
    the experiment's where it trains against none. rows: of each group, spread evenly over the training data. ValueError
    for an impossible value.
    """

    attack: Attack | None = None
    rows: int = 500

    name: ClassVar[str] = "loss_paths"
    arrays: ClassVar[type] = Paths
    heading: ClassVar[str] = "Losses of poisoned and clean training rows"

    def __post_init__(self):
        check_counts(self, "rows")

    def check(self, examples: Examples, poison: Poison) -> None:
        """ValueError if nothing is poisoned."""
        if not poison.poisons:
            raise ValueError(f"loss paths compare poisoned with clean rows, and {type(poison).__name__} poisons none")

    def curve(self, subject: Subject) -> dict[str, float]:
        """AUC, and `loss_paths/measure/group/quantile`; nothing once a loss is not finite."""
        groups = self._chosen(subject)
        scores = self._scores(subject, np.concatenate([*groups.values()]))
        if not np.isfinite(scores).all():
            return {}
        split = np.split(scores, np.cumsum([len(rows) for rows in groups.values()])[:-1])
        parts = {group: part for group, part in zip(groups, split, strict=True) if len(part)}
        return _separation(parts) | {
            _field(measure, group, quantile): value
            for group, part in parts.items()
            for measure, column in zip(MEASURES, part.T, strict=True)
            for quantile, value in _quantiles(measure, column).items()
        }

    def collect(self, subject: Subject) -> Paths:
        """The curves as arrays."""
        told = [row for row in subject.history if any(name.startswith(f"{self.name}/") for name in row)]
        fields = [[[_field(measure, group, at) for at in QUANTILES] for measure in MEASURES] for group in GROUPS]
        values = [[row.get(field, np.nan) for field in np.ravel(fields)] for row in told]
        return Paths(
            np.array([row["epoch"] for row in told], float),
            np.array(values, float).reshape(len(told), *np.shape(fields)),
            np.array([row.get(AUC, np.nan) for row in told], float),
            np.array([len(rows) for rows in self._chosen(subject).values()]),
        )

    def measure(self, arrays: Paths, subject: Subject) -> dict:
        """rows: {group: how many are scored}. auc: after the first and the last epoch. medians: after the last.

        Nothing without epochs, as of an arm on clean data.
        """
        if not len(arrays.epochs):
            return {}
        medians = arrays.quantiles[-1, :, :, list(QUANTILES).index("median")]
        return {
            "rows": dict(zip(GROUPS, map(int, arrays.rows), strict=True)),
            "auc": {name: _known(arrays.auc[at]) for name, at in (("first", 0), ("last", -1))},
            "medians": {
                group: dict(zip(MEASURES, map(_known, of), strict=True))
                for group, of in zip(GROUPS, medians, strict=True)
            },
        }

    def summary(self, measured: list[dict]) -> dict:
        """Medians and areas over seeds."""
        told = [seed for seed in measured if seed]
        if not told:
            return {}
        return {
            "rows": told[0]["rows"],
            "auc": {name: statistics.spread([seed["auc"][name] for seed in told]) for name in told[0]["auc"]},
            "medians": {
                group: {name: statistics.spread([seed["medians"][group][name] for seed in told]) for name in MEASURES}
                for group in GROUPS
            },
        }

    def tables(self, summaries: dict[str, dict]) -> list[Table]:
        """A row for each arm and each group of rows that there is."""
        header = ["arm", "training rows", "scored", *MEASURES.values(), "AUC, first epoch", "AUC, last epoch"]
        rows = [
            [arm, GROUPS[group], str(of["rows"][group]), *map(plain, medians.values()), *_areas(of, group)]
            for arm, of in summaries.items()
            if of
            for group, medians in of["medians"].items()
            if of["rows"][group]
        ]
        note = (
            f"Medians after the last epoch, without dropout or augmentation; {self._attack()}. Margin: the logit of "
            "the label minus the largest other, without attack. AUC: the chance that a poisoned row has a lower loss "
            "under attack than a clean row of the same classes; near 0 or 1, that loss sets poisoned rows apart."
        )
        return [Table("", header, rows, [note])] if rows else []

    def figures(self, arrays: dict[str, NamedTuple], title: str, names: tuple[str, ...]) -> dict[str, Figure]:
        """A column for each arm, a row for each measure and one for the area; more sheets for many arms."""
        told = [(arm, paths) for arm, paths in arrays.items() if len(paths.epochs)]
        sheets = [dict(told[first : first + ABREAST]) for first in range(0, len(told), ABREAST)]
        setting = f"{title}, first seed; medians within their quartiles; {self._attack()}"
        return {f"loss_paths_{at}" if at else "loss_paths": _sheet(arms, setting) for at, arms in enumerate(sheets)}

    def _attack(self) -> str:
        """A clause about the attack."""
        if self.attack is not None:
            return f"under attack: {type(self.attack).__name__} within {self.attack.ball}"
        return "under attack: by what each arm trains against, or by the experiment's attack where that is none"

    def _chosen(self, subject: Subject) -> dict[str, np.ndarray]:
        """{group: places of its rows that are scored}."""
        return {group: _spread(mask, self.rows) for group, mask in groups_of(subject).items()}

    def _scores(self, subject: Subject, rows: np.ndarray) -> np.ndarray:
        """The measures of training rows [n] at these places, losses as logarithms: [n, measure]."""
        few = take(subject.train(), rows)
        few = few._replace(label=np.asarray(hard(few.label)))
        attack = self.attack or subject.own_attack or subject.attack
        program = _scored(structure(subject.victim), attack)
        return np.stack(program(few, subject.batch, subject.victim, subject.key), -1).astype(np.float64)


def groups_of(subject: Subject) -> dict[str, np.ndarray]:
    """{group: which of the training rows [n] are of it}."""
    train = subject.train()
    poisoned, cover = (np.isin(train.index, rows) for rows in subject.changed())
    labels, clean = np.asarray(hard(train.label)), ~poisoned & ~cover
    same = np.isin(labels, labels[poisoned])
    return dict(zip(GROUPS, (poisoned, clean & same, clean & ~same), strict=True))


def finding(arrays: Mapping[str, Paths]) -> str:
    """The side on which the loss under attack sets poisoned rows apart at the end of each arm's training."""
    sides = {"easier": [], "harder": [], "not set apart": []}
    ends = {arm: paths.auc[-1] for arm, paths in arrays.items() if np.isfinite(paths.auc[-1])}
    if not ends:
        return LossPaths.heading
    for arm, last in ends.items():
        side = "easier" if last >= APART else "harder" if last <= 1 - APART else "not set apart"
        sides[side].append(f"{arm} (AUC {last:.2f})")
    told = ", ".join(f"{side} in {' and '.join(arms)}" for side, arms in sides.items() if arms)
    return f"Under attack, beside clean rows of their class, poisoned rows end up {told}"


@distributed.cached
def _scored(victim: Hashable, attack: Attack) -> Callable:
    def look(examples: Examples, victim: Victim, key: Array) -> tuple[Array, Array, Array]:
        x, keys = to_unit(examples.image), row_keys(key, examples.index, 0)
        shown = attack(victim.logits, x, examples.label, keys)
        margin = -Margin()(victim.logits(x), examples.label)
        return log_losses(victim, examples), log_losses(victim, examples._replace(image=shown)), margin

    return distributed.over_rows(look)


def _spread(mask: np.ndarray, most: int) -> np.ndarray:
    """At most so many places where a mask [n] holds, evenly over all of them, since rows may be sorted."""
    found = np.flatnonzero(mask)
    return found if len(found) <= most else found[np.linspace(0, len(found) - 1, most).round().astype(int)]


def _field(measure: str, group: str, quantile: str) -> str:
    return f"{LossPaths.name}/{measure}/{group}/{quantile}"


def _quantiles(measure: str, scores: np.ndarray) -> dict[str, float]:
    """{quantile: its value}; of losses they are taken of the logarithms."""
    found = np.quantile(scores, list(QUANTILES.values()))
    return dict(zip(QUANTILES, map(float, found if measure == "margin" else np.exp(found)), strict=True))


def _separation(parts: dict[str, np.ndarray]) -> dict[str, float]:
    """The area of `Paths`, if there are both kinds of rows. parts: {group: scores [n, measure]}."""
    if not {"poisoned", "same_class"} <= parts.keys():
        return {}
    attacked = list(MEASURES).index("loss_under_attack")
    poisoned, clean = (parts[group][:, attacked] for group in ("poisoned", "same_class"))
    truth = np.arange(len(poisoned) + len(clean)) < len(poisoned)
    return {AUC: detection(-np.concatenate([poisoned, clean]), truth)["auroc"]}


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _areas(of: dict, group: str) -> list[str]:
    return [plain(area) if group == "poisoned" else "–" for area in of["auc"].values()]


# Vermilion triangles are what the attacker changed, blue rings clean, as in the other figures of single rows.
LOOKS = {
    "poisoned": {"color": style.LIGHT.series[1], "marker": "^"},
    "same_class": {"color": style.LIGHT.series[0], "marker": "o", "markerfacecolor": style.LIGHT.paper},
    "other_classes": {"color": style.LIGHT.series[style.GREY], "linestyle": (0, (5, 1.6))},
}
LINE = {"lw": 1.6, "ms": 4}
CROWDED = 8  # markers on a line, at most
ABREAST = 5  # arms on a sheet, at most
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@style.styled
def _sheet(told: Mapping[str, Paths], setting: str) -> Figure:
    figure = style.sheet(1.7 * (len(MEASURES) + 1), finding(told), setting)
    axes = figure.subplots(len(MEASURES) + 1, len(told), sharex=True, sharey="row", squeeze=False)
    for column, (arm, paths) in zip(axes.T, told.items(), strict=True):
        column[0].set_title(arm)
        for place, axis in enumerate(column[:-1]):
            _groups(axis, paths.epochs, paths.quantiles[:, :, place])
        _area(column[-1], paths)
    for axis, measure in zip(axes[:, 0], MEASURES, strict=False):
        _scale(axis, measure)
    _name_area(axes[-1, 0])
    figure.align_ylabels(axes[:, 0])
    style.legend(figure, _handles(told))
    return figure


def _groups(axis: Axes, epochs: np.ndarray, quantiles: np.ndarray) -> None:
    """One measure of every group, quantiles [e, group, quantile]: the median within the quartiles."""
    every = -(-len(epochs) // CROWDED)
    for group, (low, median, high) in zip(GROUPS, quantiles.transpose(1, 2, 0), strict=True):
        axis.fill_between(epochs, low, high, color=LOOKS[group]["color"], alpha=0.18, lw=0)
        axis.plot(epochs, median, markevery=every, **LINE, **LOOKS[group])


def _area(axis: Axes, paths: Paths) -> None:
    """The area under the curve, and 1/2, which chance gives."""
    axis.axhline(0.5, color=style.LIGHT.quiet, lw=0.8, dashes=(2, 2))
    axis.plot(paths.epochs, paths.auc, color=style.LIGHT.ink, lw=1.6)
    beside = {"xytext": (5, 0), "textcoords": "offset points", "va": "center", "fontsize": style.SMALL}
    axis.annotate(f"{paths.auc[-1]:.2f}", (paths.epochs[-1], paths.auc[-1]), **beside)
    axis.set(ylim=(-0.05, 1.05), yticks=(0, 0.5, 1), xlabel="epoch")
    axis.xaxis.set_major_locator(ticker.MaxNLocator(6, integer=True))


def _name_area(axis: Axes) -> None:
    """The meaning of both ends of the area under the curve, as labels of its axis."""
    axis.set_ylabel("AUC of the loss\nunder attack")
    axis.set_yticks((0, 0.5, 1), ("harder 0", "0.5", "easier 1"))


def _scale(axis: Axes, measure: str) -> None:
    axis.set_ylabel(MEASURES[measure])
    if measure != "margin":
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(ticker.LogLocator(numticks=6))
        axis.yaxis.set_major_formatter(ticker.FuncFormatter(_power))
        axis.yaxis.set_minor_locator(ticker.NullLocator())


def _power(value: float, _: int) -> str:
    """A power of ten, without mathtext, which the style turns off."""
    if 1e-2 <= value <= 1e3:
        return f"{value:g}"
    return "10" + str(round(np.log10(value))).translate(SUPERSCRIPTS)


def _handles(told: Mapping[str, Paths]) -> dict[str, Line2D]:
    """A legend of the groups that any arm has."""
    shown = np.any([paths.rows > 0 for paths in told.values()], 0)
    return {
        GROUPS[group]: Line2D([], [], **LINE, **LOOKS[group])
        for group, there in zip(GROUPS, shown, strict=True)
        if there
    }
