"""Small records and sweeps as a run and a sweep write them, without a run."""

import json
import pathlib

import numpy as np
from matplotlib.figure import Figure

from poisonjax.evaluation.metrics import Count
from poisonjax.reports import statistics
from poisonjax.reports.record import FORMAT

ATTACK = ("triggered_accuracy", "attack_success_rate", "attack_success_rate_turner", "art_effectiveness")
EVERY = ("clean_accuracy", *ATTACK, "robust_accuracy")  # what every network has
ARMS = ("standard", "pgd_at", "pgd_at_clean_data")
AT = {"type": "AdversarialTraining", "attack": {"type": "PGD", "ball": {"type": "Linf", "eps": 0.3}, "steps": 40}}


def metric(rate: float | None, seeds: int, classes: int = 10, of: int = 97) -> dict:
    """About `of` images of each class, so many of them hits as the rate says, a few more with every seed."""
    counts = []
    for seed in range(seeds):
        images = np.full(classes, 0 if rate is None else of)
        hits = np.clip(np.round(images * ((rate or 0) + 0.01 * seed)) + np.arange(classes) % 3, 0, images)
        counts.append(Count(hits.astype(int), images))
    return statistics.summary(counts)


def arm(rates: dict[str, float | None], seeds: int, poisoned: bool = True, epochs: int = 3) -> dict:
    """One arm; metrics that every network has and rates does not name are .5."""
    names = dict.fromkeys((*EVERY, *rates))
    cells = {name: metric(rates.get(name, 0.5) if poisoned or name not in ATTACK else None, seeds) for name in names}

    def epoch(at: int, seed: int) -> dict:
        tested = {
            name: cells[name]["per_seed"][seed] * at / epochs for name in EVERY if cells[name]["mean"] is not None
        }
        shown = {name: value for name, value in tested.items() if name in ("clean_accuracy", "attack_success_rate")}
        return {
            "epoch": float(at),
            "step": 10 * at,
            "train_loss": 2.3 / at,
            "train_accuracy": at / (epochs + 1),
            **shown,
        }

    history = [[epoch(at, seed) for at in range(1, epochs + 1)] for seed in range(seeds)]
    speed = {"parameters": 1_199_882, "train_images_per_second": 812.25, "seconds": 73.5}
    return cells | speed | {"history": history}


def record(
    name: str = "mnist_badnets",
    scale: str = "small",
    seeds: int = 1,
    rates=None,
    reported=(),
    poisoned=True,
    parts=None,
) -> dict:
    """rates: {arm: {metric: rate}}. reported: rows of the comparison that differ from the usual one.

    parts: {arm: settings of the arm that differ from the usual ones}.
    """
    rates = rates or {each: {"attack_success_rate": 0.9 - 0.3 * at} for at, each in enumerate(ARMS)}
    arms = {each: arm(of, seeds, poisoned) for each, of in rates.items()}
    return {
        "format": FORMAT,
        "experiment": name,
        "title": f"What {name} is about.",
        "finding": f"The finding of {name} at {scale} scale.",
        "command": f"python launch.py --experiment={name} --scale={scale} --seeds={seeds}",
        "scale": scale,
        "changed": [],
        "paper_table": "T6",
        "dataset": {"name": "mnist_5k", "version": "1.0.0", "train": 4000, "test": 1000, "sha256": "0a" * 32},
        "config": {
            "type": "Experiment",
            "name": name,
            "data": {"type": "Data", "name": "mnist_5k", "train": {"type": "All"}},
            "model": {"type": "WongCNN"},
            "poison": {"type": "BadNets", "rate": 0.1, "target": None} if poisoned else {"type": "NoPoison"},
            "evaluation": {"type": "Evaluation", "min_attack_success": 0.5, "tolerance": 0.02},
            "arms": [usual_arm(each, poisoned) | (parts or {}).get(each, {}) for each in arms],
        },
        "seeds": list(range(seeds)),
        "arms": arms,
        "analyses": {},
        "poison": [{"rows": 400, "of": 4000} if poisoned else {} for _ in range(seeds)],
        "reported": {},
        "verdict": {},
        "comparison": [compared(arms, **row) for row in reported],
        "reasons": ["the small scale is not the published setting"],
        "attack_gate": gate(0.9, 0.02) if poisoned else None,
        "warnings": [],
        "environment": {"python": "3.11.7", "jax": "0.10.2", "device": "cpu", "device_count": 1, "commit": "c0ffee"},
    }


def usual_arm(name: str, poisoned: bool) -> dict:
    """The settings of an arm: standard training or PGD adversarial training, without a defence."""
    objective = AT if name != "standard" else {"type": "Standard", "temperature": 1.0}
    return {"type": "Arm", "name": name, "objective": objective, "poisoned": poisoned, "defence": None}


def gate(asr: float, control: float | None, threshold: float = 0.5) -> dict:
    """The attack gate for these rates."""
    excess = asr if control is None else (asr - control) / (1 - control)
    return {"passed": excess >= threshold, "asr": asr, "control": control, "excess": excess, "threshold": threshold}


def analysis(heading: str, arms: dict, tables: list[tuple[list, list]] = (), audit=(), notes=()) -> dict:
    """An analysis of a record. tables: header and rows."""
    made = [{"title": "", "header": header, "rows": rows, "notes": list(notes)} for header, rows in tables]
    return {"heading": heading, "arms": arms, "audit": list(audit), "tables": made}


def compared(
    arms: dict, arm: str, metric: str, reported: float, verdict: str = "inconclusive", reason="", label=None
) -> dict:
    """A row of the comparison."""
    cell = {part: arms[arm][metric][part] for part in ("mean", "std", "ci95")}
    measured = {"measured": cell.pop("mean"), **cell}
    about = {"table": "T6", "arm": arm, "metric": metric, "label": label, "reported": reported}
    return about | measured | {"verdict": verdict, "reason": reason}


def spoilt_record(standard: float = 0.2, pgd_at: float = 0.88, name: str = "mnist_spoilt") -> dict:
    """A poison that lowers clean accuracy, .98 and under adversarial training .9 without it."""
    accuracies = {"standard": standard, "pgd_at": pgd_at, "pgd_at_clean_data": 0.9, "standard_clean_data": 0.98}
    rates = {arm: dict.fromkeys(ATTACK) | {"clean_accuracy": of} for arm, of in accuracies.items()}
    standard_training = usual_arm("standard", False)["objective"]
    parts = {
        "pgd_at_clean_data": {"poisoned": False},
        "standard_clean_data": {"poisoned": False, "objective": standard_training},
    }
    made = record(name, rates=rates, parts=parts)
    made["aim"] = {"metric": "clean_accuracy", "raises": False, "effect": "loss of accuracy"}
    made["config"]["poison"] = {"type": "ClassNoise", "rate": 1.0, "amplitude": 0.2}
    made["attack_gate"] = gate(1 - standard, 1 - 0.98, threshold=0.1)
    return made


def defended_record() -> dict:
    """A filter of rows and a detector, types of the user's own, and an analysis that no reader knows."""
    rates = {
        "standard": {},
        "filter": {"poisoned_rows_removed": 0.9, "clean_rows_removed": 0.1},
        "detector": {
            "clean_rejection_rate": 0.05,
            "triggered_rejection_rate": 0.8,
            "adversarial_rejection_rate": 0.7,
            "autoattack_accuracy": 0.3,
            "novel_metric": 0.25,
        },
    }
    own = {"type": "experiments.mine:Mixed", "attack": {"type": "experiments.mine:Noise"}, "share": 0.5}
    parts = {"filter": {"defence": {"type": "experiments.mine:Filter"}}, "detector": {"objective": own}}
    made = record("mnist_defended", rates=rates, parts=parts)
    found = {"auroc": 0.875, "tpr_at_0.01": 0.5, "tpr_at_0.05": None}
    made["arms"]["filter"]["detection"] = {name: statistics.spread([value]) for name, value in found.items()}
    made["attack_gate"], made["warnings"] = gate(0.4, 0.1), ["filter, seed 0: collapsed: to one class"]
    made["config"]["poison"]["trigger"] = {"type": "experiments.mine:Sinus", "frequency": 3}
    depths = {"depth": {"layers": {"mean": 3.5, "std": None, "per_seed": [3.5]}, "count": 7, "sure": True}}
    made["analyses"]["depths"] = analysis(
        "Depths", {"standard": depths}, [(["arm", "depth"], [["standard", "3.5"], ["filter", "–"]])], notes=["A note."]
    )
    made["analyses"]["silent"] = analysis("Silent", {"standard": {}})
    return made


def save(folder: pathlib.Path, made: dict, pictures: tuple[str, ...] = ()) -> pathlib.Path:
    """record.json, and figures/ with pictures of these names; the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "record.json").write_text(json.dumps(made, indent=1, allow_nan=False) + "\n")
    for name in pictures:
        (folder / "figures").mkdir(exist_ok=True)
        Figure(figsize=(1, 1)).savefig(folder / "figures" / name)
    return folder


def evaluation(made: dict, arm: str = "pgd_at", **fields) -> dict:
    """An evaluation of a network of a record under AutoAttack. fields: those that differ from the usual ones."""
    attack = {"type": "AutoAttack", "ball": {"type": "Linf", "eps": 0.3}, "steps": 100, "queries": 5000}
    about = {"command": f"poisonjax evaluate --arm={arm}", "arm": arm, "seed": 0, "attack": attack, "images": 80}
    data = {name: made["dataset"][name] for name in ("name", "version", "sha256")}
    counts = {"clean": [78, 80], "robust": [40, 80], "attack_success_rate": [63, 72]}
    costs = {"median_l2": 3.25, "median_linf": None, "gradients": 1910, "queries": 5909, "images_per_second": 41.5}
    stages = {"stages": {"apgd_ce": 0.625, "square": 0.5}, "audit": ["The gradients may be masked."]}
    run = {**made["config"], "scale": made["scale"]}
    whole = about | {"dataset": data, **counts, **costs, **stages, "run": run, "environment": made["environment"]}
    return {"format": 2, **whole, **fields}


def save_evaluation(folder: pathlib.Path, made: dict) -> pathlib.Path:
    """evaluation.json; the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evaluation.json").write_text(json.dumps(made, indent=1, allow_nan=False) + "\n")
    return folder


def save_sweep(folder: pathlib.Path, axes: dict[str, list[str]], points: list[tuple[dict, dict | str | None]]) -> None:
    """points: settings, and their record, their error or None for what was not run."""
    listed = []
    for settings, result in points:
        place = ",".join(f"{name}={value}" for name, value in settings.items()).replace("/", "_")
        status = "done" if isinstance(result, dict) else "failed" if result else "missing"
        error = result if status == "failed" else None
        listed.append({"settings": settings, "folder": place, "status": status, "error": error})
        if status == "done":
            save(folder / place, result)
    folder.mkdir(parents=True, exist_ok=True)
    document = {"format": 1, "experiment": "mnist_badnets", "scale": "small", "axes": axes, "points": listed}
    (folder / "sweep.json").write_text(json.dumps(document, indent=1) + "\n")
