"""Every number of every record, for programs: one CSV with a row for each measured number, one JSON with everything."""

import csv
import io
import json
from collections.abc import Iterator

from poisonjax.reports.site.reading import Collection, Run, metrics

COLUMNS = (
    "kind",  # mean, seed, class, reported, history, network, poison, gate or dataset
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
    for run in everything(found):
        about = {"record": run.path, "experiment": run.record["experiment"], "scale": run.record["scale"]}
        writer.writerows({**about, **row} for row in _rows(run.record))
    return text.getvalue()


def to_json(found: Collection) -> str:
    """The records and sweeps, whole."""
    sweeps = [
        {
            "path": str(sweep.path),
            "sweep": sweep.document,
            "records": [str(point.run.path) for point in sweep.points if point.run],
        }
        for sweep in found.sweeps
    ]
    records = [{"path": str(run.path), "record": run.record} for run in everything(found)]
    return json.dumps({"format": 1, "records": records, "sweeps": sweeps}, indent=1, sort_keys=True) + "\n"


def everything(found: Collection) -> list[Run]:
    """All runs, those of sweeps last."""
    return [*found.runs, *(point.run for sweep in found.sweeps for point in sweep.points if point.run)]


def _rows(record: dict) -> Iterator[dict]:
    for arm, fields in record["arms"].items():
        for metric, cell in metrics(fields).items():
            yield from ({"arm": arm, "metric": metric, **row} for row in _metric(cell, record["seeds"]))
        for row in _others(fields, record["seeds"]):
            yield {"arm": arm, **row}
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
    """What an arm has besides metrics."""
    for name in ("parameters", "train_images_per_second", "seconds"):
        yield {"kind": "network", "metric": name, "value": arm.get(name)}
    for metric, cell in _spreads(arm):
        yield {"kind": "mean", "metric": metric, "value": cell["mean"], "std": cell["std"]}
        for seed, value in zip(seeds, cell["per_seed"], strict=False):
            yield {"kind": "seed", "metric": metric, "seed": seed, "value": value}
    for seed, history in zip(seeds, arm["history"], strict=True):
        for row in history:
            of = {"kind": "history", "seed": seed, "epoch": row["epoch"]}
            yield from ({**of, "metric": name, "value": value} for name, value in row.items() if name != "epoch")


def activations(arm: dict) -> dict[str, dict]:
    """The measures of an arm's activations over seeds."""
    measures = arm.get("activations") or {}
    return {name: cell for name, cell in measures.items() if isinstance(cell, dict) and "per_seed" in cell}


def attacks(arm: dict) -> dict[str, dict]:
    """{attack: what it did to an arm, and what it cost}."""
    return arm.get("attacks") or {}


def _spreads(arm: dict) -> Iterator[tuple[str, dict]]:
    """(name, {mean, std, per_seed}) of what was measured without counting images."""
    yield from ((f"activations.{name}", cell) for name, cell in activations(arm).items())
    for attack, of in attacks(arm).items():
        cells = of | {f"after_{stage}": cell for stage, cell in of["stages"].items()}
        spreads = {name: cell for name, cell in cells.items() if isinstance(cell, dict) and "per_seed" in cell}
        yield from ((f"attacks.{attack}.{name}", cell) for name, cell in spreads.items())


def _reported(row: dict) -> dict:
    told = {name: row[name] for name in ("arm", "metric", "table", "reported", "verdict")}
    measured = {"value": row["measured"], "std": row.get("std"), **_interval(row.get("ci95"))}
    return {"kind": "reported", **told, **measured, "class": row.get("label"), "reason": row.get("reason")}


def _facts(record: dict) -> Iterator[dict]:
    """Of the poison, the gate and the data set."""
    for seed, facts in zip(record["seeds"], record["poison"], strict=False):
        for name, value in flat(facts or {}).items():
            yield {"kind": "poison", "metric": name, "seed": seed, "value": value}
    for name, value in (record["attack_gate"] or {}).items():
        yield {"kind": "gate", "metric": name, "value": value}
    for name in ("train", "test"):
        yield {"kind": "dataset", "metric": name, "value": record["dataset"][name]}


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
