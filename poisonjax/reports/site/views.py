"""What a page says of a record, as rows of text and numbers; no HTML."""

import json
import re
from typing import NamedTuple

from markupsafe import Markup

from poisonjax.reports.site import numbers, reading
from poisonjax.reports.table import LABELS, MAIN, percent

MEASURES = {
    "linear_probe_auc": "linear probe, AUC",
    "silhouette": "silhouette",
    "mmd2": "MMD²",
    "mmd_p_value": "MMD, p-value",
}
FACTS = {
    "rows": "training rows poisoned",
    "of": "training rows",
    "surrogate.clean_accuracy": "clean accuracy of the attacker's surrogate",
    "surrogate.robust_accuracy": "PGD accuracy of the attacker's surrogate",
}


class Row(NamedTuple):
    """A reported number beside ours, or ours alone. cell: mean, std and ci95. reason: None where none is recorded."""

    arm: str
    metric: str
    cell: dict
    reported: float | None = None
    verdict: str | None = None
    reason: str | None = ""
    table: str = ""


def label(metric: str) -> str:
    """The name of a metric for people."""
    return LABELS.get(metric, metric.replace("_", " "))


def compared(record: dict) -> list[Row]:
    """Every number that the report reported, with ours."""
    return [_compared(record, row) for row in record["comparison"]]


def _compared(record: dict, row: dict) -> Row:
    of_class = row.get("label")
    name = label(row["metric"]) + ("" if of_class is None else f", class {of_class}")
    whole = {} if of_class is not None else record["arms"][row["arm"]][row["metric"]]
    spread = {part: row.get(part, whole.get(part)) for part in ("std", "ci95")}
    cell = {"mean": row["measured"], **spread}
    return Row(row["arm"], name, cell, row["reported"], row["verdict"], row.get("reason"), row["table"])


def besides(record: dict) -> list[Row]:
    """What was measured and not reported."""
    reported = {(row["arm"], row["metric"]) for row in record["comparison"] if row.get("label") is None}
    return [
        Row(name, label(metric), arm[metric])
        for name, arm in record["arms"].items()
        for metric in MAIN
        if (name, metric) not in reported and arm[metric]["mean"] is not None
    ]


def ratios(cell: dict) -> str:
    """How many of how many images, by seed; a dash where the metric is about none."""
    pairs = list(zip(cell["numerator"], cell["denominator"], strict=True))
    return ", ".join(f"{hits}/{of}" for hits, of in pairs) if any(of for _, of in pairs) else "–"


def by_class(record: dict) -> dict[str, dict[str, list[float | None]]]:
    """{metric: {arm: [fraction of each true class, pooled over seeds]}} of what is about any image."""
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


def networks(record: dict) -> list[dict]:
    """How each arm was trained, on what, how large it is, and how fast."""
    config = {arm["name"]: arm for arm in record["config"].get("arms", [])}
    told = {True: "yes", False: "no", None: "–"}
    return [
        {
            "arm": name,
            "adversarial": told.get(config.get(name, {}).get("adversarial"), "–"),
            "poisoned": "no" if record["attack_gate"] is None else told.get(config.get(name, {}).get("poisoned"), "–"),
            **{field: arm.get(field) for field in ("parameters", "train_images_per_second", "seconds")},
        }
        for name, arm in record["arms"].items()
    ]


def activations(record: dict) -> list[tuple[str, str, dict]]:
    """(arm, measure, {mean, std, per_seed}) of the activations, none of which is a percentage."""
    return [
        (arm, MEASURES.get(name, name.replace("_", " ")), cell)
        for arm, fields in record["arms"].items()
        for name, cell in numbers.activations(fields).items()
    ]


def attacks(record: dict) -> list[tuple[str, str, dict]]:
    """(arm, attack, its `attack_run.numbers` over seeds); an ensemble's stages follow it."""
    return [
        row
        for arm, fields in record["arms"].items()
        for name, of in numbers.attacks(fields).items()
        for row in [(arm, name, of), *((arm, f"{name}, after {at}", _stage(left)) for at, left in of["stages"].items())]
    ]


def _stage(left: dict) -> dict:
    """A row of which only the robust accuracy is known."""
    none = {"mean": None, "std": None}
    unknown = {"median_l2": none, "median_linf": none, "images_per_second": none, "gradients": None, "queries": None}
    return {"robust_accuracy": left, **unknown}


def poison(record: dict) -> dict[str, list[str]]:
    """{what: [value for each seed]} of what the attacker did; accuracies in per cent."""
    told = [numbers.flat(facts or {}) for facts in record["poison"]]
    names = dict.fromkeys(name for facts in told for name in facts)
    return {FACTS.get(name, name): [_fact(name, facts.get(name)) for facts in told] for name in names}


def _fact(name: str, value) -> str:
    if name.endswith("accuracy") and isinstance(value, int | float):
        return f"{percent(value)} %"
    return "–" if value is None else spell(value)


def machine(record: dict) -> list[tuple[str, object]]:
    """On what data, and with what software and device, the numbers were made."""
    data = record["dataset"]
    facts = {
        "seeds": ", ".join(map(str, record["seeds"])),
        "data set": f"{data['name']} {data['version']}",
        "training images": data["train"],
        "test images": data["test"],
        "sha256 of the data": data["sha256"],
    }
    return [*facts.items(), *record["environment"].items()]


def settings(record: dict) -> list[tuple[str, str]]:
    """Every setting by its path, as `--set` takes it, but for what is shown elsewhere."""
    parts = {
        name: part for name, part in record["config"].items() if name not in ("type", "reported", "known", "title")
    }
    return [(path, spell(value)) for path, value in numbers.flat(parts).items()]


def spell(value) -> str:
    """A value as JSON; text as it is."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def significant(value: float | None) -> str:
    """A number that is no percentage, with three digits."""
    return "–" if value is None else f"{value:.3g}"


def count(value: float | None) -> str:
    """A whole number in groups of three."""
    return "–" if value is None else f"{value:,.0f}".replace(",", " ")


def wrapped(name: str) -> Markup:
    """A name that a narrow column may break after an underscore or a dot."""
    return Markup("<wbr>").join(re.findall(r"[^_.]*[_.]|[^_.]+", name))


def plural(number: int, word: str) -> str:
    """3 seeds, 1 seed."""
    return f"{number} {word}{'' if number == 1 else 's'}"
