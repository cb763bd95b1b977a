"""The content of a page as rows of text and numbers, without HTML."""

import json
import re
from collections.abc import Iterable
from typing import NamedTuple

from markupsafe import Markup

from poisonjax.reports import answer, images
from poisonjax.reports.answer import Case
from poisonjax.reports.site import numbers, reading
from poisonjax.reports.table import LABELS, MAIN, count, has, mark, percent

FACTS = {
    "rows": "training rows poisoned",
    "cover": "cover rows: with the trigger and their own label, counted on their own",
    "of": "training rows",
    "surrogate.clean_accuracy": "clean accuracy of the attacker's surrogate",
    "surrogate.robust_accuracy": "PGD accuracy of the attacker's surrogate",
}


class Row(NamedTuple):
    """A reported number beside ours, or ours alone.

    cell: mean, std and ci95. reason: None where none is recorded. mark: see `table.MARKS`.
    """

    arm: str
    metric: str
    cell: dict
    reported: float | None = None
    verdict: str | None = None
    reason: str | None = ""
    table: str = ""
    mark: str = ""


def label(metric: str) -> str:
    """The name of a metric for people."""
    return LABELS.get(metric, metric.replace("_", " "))


def compared(record: dict) -> list[Row]:
    """Every reported number, with ours."""
    return [_compared(record, row) for row in record["comparison"]]


def _compared(record: dict, row: dict) -> Row:
    of_class = row.get("label")
    name = label(row["metric"]) + ("" if of_class is None else f", class {class_name(record, of_class)}")
    whole = {} if of_class is not None else record["arms"][row["arm"]][row["metric"]]
    spread = {part: row.get(part, whole.get(part)) for part in ("std", "ci95")}
    cell = {"mean": row["measured"], **spread}
    sign = mark(record, row["arm"], row["metric"])
    return Row(row["arm"], name, cell, row["reported"], row["verdict"], row.get("reason"), row["table"], sign)


class Line(NamedTuple):
    """The main metrics of an arm. cells: the cell, its mark and the reported numbers by table, for each of them."""

    arm: str
    cells: list[tuple[dict | None, str, list[tuple[str, float]]]]


def shown(records: Iterable[dict]) -> list[str]:
    """The metrics of the main table: those that every arm has, and AutoAttack's where it was measured."""
    arms = [arm for record in records for arm in record["arms"].values()]
    return [*MAIN, *(name for name in ("autoattack_accuracy",) if any(has(arm, name) for arm in arms))]


def lines(record: dict, metrics: list[str]) -> list[Line]:
    """The main table: a line for each arm."""
    return [Line(name, [_main(record, name, metric) for metric in metrics]) for name in record["arms"]]


def _main(record: dict, arm: str, metric: str) -> tuple[dict | None, str, list[tuple[str, float]]]:
    cell, place = record["arms"][arm].get(metric), (arm, metric, None)
    of = [row for row in record["comparison"] if (row["arm"], row["metric"], row.get("label")) == place]
    sign = mark(record, arm, metric) if cell else ""
    return cell, sign, [(row["table"], row["reported"]) for row in of]


class Matrix(NamedTuple):
    """What becomes of each backdoor. rows: network, data, and the cases under each of the poisons."""

    poisons: list[str]
    rows: list[tuple[str, str, list[list[Case]]]]


def matrix(found: list[Case]) -> Matrix:
    """Networks, each on its data, by poisons; variants of a poison (as all-to-all) share its column."""
    poisons = list(dict.fromkeys(family(case) for case in found))
    places = dict.fromkeys((answer.network(case), answer.data(case)) for case in found)
    return Matrix(poisons, [(*place, [_cases(found, place, poison) for poison in poisons]) for place in places])


def _cases(found: list[Case], place: tuple[str, str], poison: str) -> list[Case]:
    return [case for case in found if (answer.network(case), answer.data(case), family(case)) == (*place, poison)]


def family(case: Case) -> str:
    """The type of a poison, without its variant."""
    return answer.poison(case).removeprefix(f"{variant(case)} ")


def variant(case: Case) -> str:
    """The variant of a poison that shares a column with others: all-to-all, or none."""
    return "all-to-all" if answer.poison(case).startswith("all-to-all ") else ""


def emphasized(sentence: str) -> Markup:
    """A sentence of the answer, in which **words** are strong."""
    parts = enumerate(re.split(r"\*\*(.+?)\*\*", sentence))
    return Markup("").join(Markup("<strong>{}</strong>").format(part) if at % 2 else part for at, part in parts)


def plain(sentence: str) -> str:
    """A sentence of the answer without emphasis."""
    return sentence.replace("**", "")


def said(record: dict) -> list[tuple[str, list[str], list[str]]]:
    """(arm, classes of the clean test images, those of the triggered ones) of the images in `images.png`."""
    arms = {name: arm.get("says") for name, arm in record["arms"].items()}
    return [
        (name, *([class_name(record, label) for label in of.get(part, [])] for part in ("clean", "triggered")))
        for name, of in arms.items()
        if of
    ]


def class_name(record: dict, label: int) -> str:
    """The name of a class in a record, as pictures have it."""
    return images.class_name(label, record["dataset"].get("label_names") or [])


def ratios(cell: dict) -> str:
    """Numerator and denominator, by seed; a dash where the metric is undefined."""
    pairs = list(zip(cell["numerator"], cell["denominator"], strict=True))
    return ", ".join(f"{hits}/{of}" for hits, of in pairs) if any(of for _, of in pairs) else "–"


def by_class(record: dict) -> dict[str, dict[str, list[float | None]]]:
    """{metric: {arm: [fraction of each true class, pooled over seeds]}} of the metrics that are defined."""
    tables = {label(metric): _of_arms(record, metric) for metric in names(record)}
    return {metric: rows for metric, rows in tables.items() if rows}


def _of_arms(record: dict, metric: str) -> dict[str, list[float | None]]:
    cells = {name: reading.metrics(arm).get(metric) for name, arm in record["arms"].items()}
    return {name: _pooled(cell) for name, cell in cells.items() if cell and cell["mean"] is not None}


def _pooled(cell: dict) -> list[float | None]:
    hits, of = (map(sum, zip(*cell["per_class"][part], strict=True)) for part in ("numerator", "denominator"))
    return [n / d if d else None for n, d in zip(hits, of, strict=True)]


def names(record: dict) -> list[str]:
    """The metrics of a record, in the usual order."""
    found = dict.fromkeys(name for arm in record["arms"].values() for name in reading.metrics(arm))
    return [name for name in LABELS if name in found] + sorted(found.keys() - LABELS.keys())


def analyses(record: dict) -> list[dict]:
    """The analyses that have something to show: heading, audit, and tables with the columns that hold numbers."""
    return [
        {
            "heading": each["heading"],
            "audit": each["audit"],
            "tables": [table | {"numbers": _numbers(table)} for table in each["tables"]],
        }
        for each in record["analyses"].values()
        if each["tables"] or each["audit"]
    ]


def _numbers(table: dict) -> list[int]:
    """The columns of a table whose cells are all numbers or dashes."""
    columns = enumerate(zip(*table["rows"], strict=True))
    return [at for at, cells in columns if all(cell == "–" or leading(cell) is not None for cell in cells)]


def leading(cell: str) -> float | None:
    """The number that a text cell begins with, by which it is sorted; None without one."""
    found = re.match(r"[-−]?\d[\d,]*(\.\d+)?(e[-+]?\d+)?(?=$|[ %])", cell)
    return float(found[0].replace(",", "").replace("−", "-")) if found else None


def poison(record: dict) -> dict[str, list[str]]:
    """{what: [value for each seed]} of what the attacker did; accuracies in percent."""
    if record["attack_gate"] is None:
        return {}
    seeds = [numbers.flat(facts or {}) for facts in record["poison"]]
    names = dict.fromkeys(name for facts in seeds for name in facts)
    return {FACTS.get(name, name): [_fact(name, facts.get(name)) for facts in seeds] for name in names}


def _fact(name: str, value) -> str:
    if name.endswith("accuracy") and isinstance(value, int | float):
        return f"{percent(value)}%"
    if isinstance(value, int) and not isinstance(value, bool):
        return count(value)
    return "–" if value is None else spell(value)


def machine(record: dict) -> list[tuple[str, object]]:
    """The data, the software and the device behind the numbers."""
    data = record["dataset"]
    facts = {
        "seeds": ", ".join(map(str, record["seeds"])),
        "data set": f"{data['name']} {data['version']}",
        "training images": count(data["train"]),
        "test images": count(data["test"]),
        "sha256 of the data": data["sha256"],
        **{f"data: {name}": value for name, value in data.get("facts", {}).items()},
    }
    return [*facts.items(), *record["environment"].items()]


def settings(record: dict) -> list[tuple[str, str]]:
    """Every setting by its path, as `--set` takes it, except those shown elsewhere."""
    parts = {
        name: part for name, part in record["config"].items() if name not in ("type", "reported", "caveats", "title")
    }
    return [(path, spell(value)) for path, value in numbers.flat(parts).items()]


def spell(value) -> str:
    """A value as JSON; text as it is."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def wrapped(name: str) -> Markup:
    """A name that a narrow column may break after an underscore or a dot."""
    return Markup("<wbr>").join(re.findall(r"[^_.]*[_.]|[^_.]+", name))
