"""Every number of every record, for programs: a CSV with one row per measured number, a JSON with everything."""

import csv
import io
import json
from collections.abc import Iterator

from poisonjax.reports import statistics
from poisonjax.reports.site.reading import COUNTED, Collection, metrics

COLUMNS = (
    "kind",  # mean, seed, class, reported, history, network, analysis, poison, gate, dataset or evaluation
    "record",
    "experiment",
    "scale",
    "arm",
    "metric",
    "table",
    "class",  # empty: all
    "seed",  # empty: all
    "epoch",
    "value",  # of metrics: fractions in [0, 1]
    "std",
    "ci95_low",
    "ci95_high",
    "numerator",
    "denominator",
    "reported",
    "verdict",
    "reason",
)


def to_csv(found: Collection) -> str:
    """The measured numbers as rows of COLUMNS, as they are in the records, digit for digit."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for run in found.everything:
        about = {"record": run.path, "experiment": run.record["experiment"], "scale": run.record["scale"]}
        writer.writerows({**about, **row} for row in _rows(run.record))
    for each in found.evaluations:
        about = {"record": each.path, "experiment": each.record["run"]["name"], "scale": each.record["run"]["scale"]}
        writer.writerows({**about, **row} for row in _evaluated(each.record))
    return text.getvalue()


def to_json(found: Collection) -> str:
    """The records and evaluations, in the current format, and sweeps, whole."""
    sweeps = [
        {
            "path": str(sweep.path),
            "sweep": sweep.document,
            "records": [str(point.run.path) for point in sweep.points if point.run],
        }
        for sweep in found.sweeps
    ]
    records = [{"path": str(run.path), "record": run.record} for run in found.everything]
    evaluations = [{"path": str(each.path), "evaluation": each.record} for each in found.evaluations]
    whole = {"format": 1, "records": records, "sweeps": sweeps, "evaluations": evaluations}
    return json.dumps(whole, indent=1, sort_keys=True) + "\n"


def _rows(record: dict) -> Iterator[dict]:
    for arm, fields in record["arms"].items():
        for metric, cell in metrics(fields).items():
            yield from ({"arm": arm, "metric": metric, **row} for row in _metric(cell, record["seeds"]))
        for row in _others(fields, record["seeds"]):
            yield {"arm": arm, **row}
    for name, analysis in record["analyses"].items():
        for arm, summary in analysis["arms"].items():
            yield from ({"arm": arm, **row} for row in _analysis(name, summary, record["seeds"]))
    yield from map(_reported, record["comparison"])
    yield from _facts(record)


def _interval(pair: list[float] | None) -> dict:
    return dict(zip(("ci95_low", "ci95_high"), pair or (), strict=False))


def _metric(cell: dict, seeds: list[int]) -> Iterator[dict]:
    yield {"kind": "mean", "value": cell["mean"], "std": cell["std"], **_interval(cell["ci95"])}
    for at, seed in enumerate(seeds):
        counts = {part: cell[part][at] for part in ("numerator", "denominator")}
        yield {"kind": "seed", "seed": seed, "value": cell["per_seed"][at], **_interval(cell["wilson95"][at]), **counts}
        of_classes = zip(*(cell["per_class"][part][at] for part in ("numerator", "denominator")), strict=True)
        for label, (hits, of) in enumerate(of_classes):
            yield {"kind": "class", "seed": seed, "class": label, "numerator": hits, "denominator": of}


def _others(arm: dict, seeds: list[int]) -> Iterator[dict]:
    """The numbers of an arm other than metrics."""
    for name in ("parameters", "train_images_per_second", "seconds"):
        yield {"kind": "network", "metric": name, "value": arm.get(name)}
    for seed, history in zip(seeds, arm["history"], strict=True):
        for row in history:
            of = {"kind": "history", "seed": seed, "epoch": row["epoch"]}
            yield from ({**of, "metric": name, "value": value} for name, value in row.items() if name != "epoch")


def _analysis(path: str, summary, seeds: list[int]) -> Iterator[dict]:
    """The numbers of one arm in an analysis, whatever it is: those over seeds, and others, by their path."""
    if isinstance(summary, dict) and "per_seed" in summary:
        yield {"kind": "mean", "metric": path, "value": summary["mean"], "std": summary["std"]}
        for seed, value in zip(seeds, summary["per_seed"], strict=False):
            yield {"kind": "seed", "metric": path, "seed": seed, "value": value}
    elif isinstance(summary, dict):
        for name, part in summary.items():
            yield from _analysis(f"{path}.{name}", part, seeds)
    elif isinstance(summary, int | float) and not isinstance(summary, bool):
        yield {"kind": "analysis", "metric": path, "value": summary}


def _reported(row: dict) -> dict:
    cells = {name: row[name] for name in ("arm", "metric", "table", "reported", "verdict")}
    measured = {"value": row["measured"], "std": row.get("std"), **_interval(row.get("ci95"))}
    return {"kind": "reported", **cells, **measured, "class": row.get("label"), "reason": row.get("reason")}


def _facts(record: dict) -> Iterator[dict]:
    """The numbers of the poison, the gate and the data set."""
    for seed, facts in zip(record["seeds"], record["poison"], strict=False):
        for name, value in flat(facts or {}).items():
            yield {"kind": "poison", "metric": name, "seed": seed, "value": value}
    for name, value in (record["attack_gate"] or {}).items():
        yield {"kind": "gate", "metric": name, "value": value}
    for name in ("train", "test"):
        yield {"kind": "dataset", "metric": name, "value": record["dataset"][name]}


def _evaluated(record: dict) -> Iterator[dict]:
    """The numbers of an evaluation: counts, the accuracy left after each stage, distances and costs."""
    of = {"kind": "evaluation", "arm": record["arm"], "seed": record["seed"]}
    for name in filter(record.get, COUNTED):
        hits, images = record[name]
        counts = {"value": hits / images, "numerator": hits, "denominator": images}
        yield {**of, "metric": name, **counts, **_interval(statistics.wilson(hits, images))}
    for name, value in flat(record["stages"], "stages").items():
        yield {**of, "metric": name, "value": value}
    for name in ("median_l2", "median_linf", "gradients", "queries", "images_per_second"):
        yield {**of, "metric": name, "value": record[name]}


def flat(value, path: str = "") -> dict:
    """{'poison.trigger.size': 3, ...}: the leaves of nested objects; objects in a list by their `name`.

    A type is the value of the path that has it: {'poison': 'BadNets', ...}.
    """
    if isinstance(value, list) and value and all(isinstance(item, dict) and "name" in item for item in value):
        value = {item["name"]: {name: field for name, field in item.items() if name != "name"} for item in value}
    if not isinstance(value, dict):
        return {path: value}
    leaves: dict = {}
    for name, field in value.items():
        leaves |= flat(field, path if name == "type" and path else f"{path}.{name}".lstrip("."))
    return leaves
