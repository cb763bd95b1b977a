"""The record of a run as one JSON object, from which tables, figures and pages are made."""

import dataclasses
import functools
import importlib.metadata
import os
import pathlib
import platform
import shlex
import subprocess
from collections.abc import Sequence

import jax

from poisonjax.data import Dataset
from poisonjax.evaluation.analysis import Analysis
from poisonjax.evaluation.metrics import METRICS, Count
from poisonjax.experiment import Experiment
from poisonjax.overrides import to_json
from poisonjax.reports import statistics, verdict
from poisonjax.reports.upgrade import FORMAT

ADDED = {"says": {}, "detection": {}, "commit": "unknown"}  # to results, which runs keep, since the first version


def _completed(result: dict) -> dict:
    """A result as this version writes it. Older ones tell of their environment the commit only."""
    result = ADDED | result
    return {"environment": environment() | {"commit": result["commit"]}} | result


def environment() -> dict:
    """The software, the commit and the machine that this process makes numbers with."""
    device = jax.devices()[0]
    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy")}
    machine = {"device": device.device_kind, "device_count": jax.device_count(), "cpu_count": os.cpu_count()}
    return {"python": platform.python_version()} | versions | machine | {"commit": commit()}


def _together(environments: Sequence[dict]) -> dict:
    """One environment of several: seeds and arms may come from different ones, whose values are listed."""

    def listed(values: list) -> object:
        return values[0] if len(values) == 1 else ", ".join(map(str, values))

    return {name: listed(list(dict.fromkeys(each[name] for each in environments))) for name in environments[0]}


@functools.cache
def commit() -> str:
    """The commit of the code that runs, `-dirty` if files differ from it; `unknown` outside a git checkout."""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        here = pathlib.Path(__file__).parent
        return subprocess.run(command, cwd=here, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def command(source: str, scale: str, seeds: int, changed: Sequence[str], chosen: str = "") -> str:
    """The command of the same run. source, chosen: what --experiment and --arms name."""
    words = [f"--experiment={source}", f"--scale={scale}", f"--seeds={seeds}"] + [f"--arms={chosen}"] * bool(chosen)
    return shlex.join(["python", "launch.py", *words, *(word for each in changed for word in ("--set", each))])


def _arm(results: list[dict]) -> dict:
    """One arm over all seeds."""
    metrics = {
        name: statistics.summary([Count.from_json(result["counts"][name]) for result in results])
        for name in METRICS
        if name in results[0]["counts"]
    }
    images, seconds = (sum(result[name] for result in results) for name in ("images", "seconds"))
    return metrics | {
        "parameters": results[0]["parameters"],
        "train_images_per_second": images / seconds if seconds else None,
        "seconds": seconds,
        "history": [result["history"] for result in results],
        "says": results[0]["says"],
        "detection": {
            name: statistics.spread([result["detection"][name] for result in results])
            for name in results[0]["detection"]
        },
    }


def _analysis(analysis: Analysis, results: dict[str, list[dict]], seeds: list[int]) -> dict:
    """The numbers and tables of one analysis, which readers show whatever it is."""
    found = {arm: [result["analyses"][analysis.name] for result in of] for arm, of in results.items()}
    summaries = {arm: analysis.summary(of) for arm, of in found.items()}
    audit = [
        f"{arm}, seed {seed}: {line}"
        for arm, of in found.items()
        for seed, measured in zip(seeds, of, strict=True)
        for line in analysis.audit(measured)
    ]
    tables = [table._asdict() for table in analysis.tables(summaries)]
    return {"heading": analysis.heading, "arms": summaries, "audit": audit, "tables": tables}


def _reported(rows: list[dict], field: str) -> dict:
    """{arm: {metric: field}}, the first reported number of each cell; `metric[3]` is about class 3 alone."""
    cells = {}
    for row in rows:
        name = row["metric"] if row["label"] is None else f"{row['metric']}[{row['label']}]"
        cells.setdefault(row["arm"], {}).setdefault(name, row[field])
    return cells


def _by_arm(results: dict[str, list[dict]], seeds: list[int], field: str) -> dict[str, list[str]]:
    """{arm: lines} of a field of the results that holds lines about a network."""
    return {
        arm: [f"{arm}, seed {seed}: {line}" for seed, result in zip(seeds, of, strict=True) for line in result[field]]
        for arm, of in results.items()
    }


def _lines(by_arm: dict[str, list[str]]) -> list[str]:
    return [line for lines in by_arm.values() for line in lines]


def _conclusions(experiment: Experiment, arms: dict, audits: dict, scale: str, changed: list[str]) -> dict:
    gated = verdict.gate(experiment, arms)
    rows = verdict.compare(experiment, arms, scale, changed, gated, audits)
    return {
        "finding": verdict.finding(experiment, arms, gated, audits),
        "reported": _reported(rows, "reported"),
        "verdict": _reported(rows, "verdict"),
        "comparison": rows,
        "reasons": verdict.reasons(experiment, rows, scale, changed),
        "attack_gate": gated,
    }


def _dataset(dataset: Dataset) -> dict:
    rows = {"train": len(dataset.train.label), "test": len(dataset.test.label)}
    if dataset.clean is not None:
        rows["clean"] = len(dataset.clean.label)
    known = {"name": dataset.name, "version": dataset.version, "sha256": dataset.sha256}
    facts = {"facts": dict(dataset.facts)} if dataset.facts else {}
    return known | rows | {"label_names": list(dataset.label_names)} | facts


def build(
    experiment: Experiment,
    dataset: Dataset,
    scale: str,
    changed: list[str],
    seeds: list[int],
    results: dict[str, list[dict]],
    poison: list[dict],
    warnings: list[str],
    command: str,
) -> dict:
    """The record of a finished run.

    results: {arm: one result per seed}. poison: facts about the poisoned data, one per seed. changed: overrides in
    force. warnings: of the settings. command: of the same run.
    """
    results = {arm: [_completed(result) for result in of] for arm, of in results.items()}
    arms, audits = {arm: _arm(of_seeds) for arm, of_seeds in results.items()}, _by_arm(results, seeds, "audit")
    conclusions = _conclusions(experiment, arms, audits, scale, changed)
    return {
        "format": FORMAT,
        "experiment": experiment.name,
        "title": experiment.title,
        "finding": conclusions.pop("finding"),
        "command": command,
        "scale": scale,
        "changed": changed,
        "paper_table": experiment.paper_table,
        "dataset": _dataset(dataset),
        "config": to_json(experiment),
        "seeds": seeds,
        "arms": arms,
        "analyses": {each.name: _analysis(each, results, seeds) for each in experiment.analyses},
        "poison": poison,
        "aim": dataclasses.asdict(experiment.poison.aim) if experiment.poisoned else None,
        **conclusions,
        "warnings": [*warnings, *_lines(audits), *_lines(_by_arm(results, seeds, "notes"))],
        "environment": _together([result["environment"] for of in results.values() for result in of]),
    }
