"""Conclusions from the numbers: which reported ones hold, if the attack worked, if the backdoor survived."""

import numpy as np

from poisonjax.evaluation.metrics import METRICS, Count
from poisonjax.experiment import Experiment, Reported
from poisonjax.poisons.aim import Aim
from poisonjax.reports import statistics
from poisonjax.scales import COMPARED

SURVIVES, WEAKENED, REMOVED = "survives", "weakened", "removed"  # what becomes of a poison's effect
FAILED, VOID = "attack failed", "void"  # why nothing is known about it


def gate(experiment: Experiment, arms: dict) -> dict | None:
    """The gate: whether the poison works on a network trained in the standard way. None without a poison.

    asr: the attacker's success after standard training, as the poison's aim tells it: the attack success rate, or one
    minus the clean accuracy. control: that after the same training on clean data, None where no arm measures it; it
    then counts as 0. excess: of asr over control, as a share of what control leaves; for low accuracy, the share of the
    control's accuracy that is lost.
    """
    if not experiment.poisoned:
        return None
    aim, clean = experiment.poison.aim, experiment.standard_control()
    rate = success(aim, arms["standard"])
    control = None if clean is None else success(aim, arms[clean])
    excess, threshold = _excess(rate, control or 0.0), experiment.evaluation.min_attack_success
    passed = excess is not None and excess >= threshold
    return {"passed": passed, "asr": rate, "control": control, "excess": excess, "threshold": threshold}


def success(aim: Aim, metrics: dict) -> float | None:
    """The attacker's success on an arm with these metrics; None where it was not measured."""
    mean = metrics[aim.metric]["mean"]
    return None if mean is None else aim.success(mean)


def _excess(rate: float | None, control: float) -> float | None:
    if rate is None or control >= 1:
        return None
    return (rate - control) / (1 - control)


def verdict(interval: list[float] | None, reported: float, tolerance: float, usable: bool) -> str:
    """reproduced: our 95% interval lies within tolerance of the reported number; not_reproduced: it lies entirely
    outside; inconclusive: neither, or the cell is not usable as a comparison."""
    if not usable or interval is None:
        return "inconclusive"
    low, high = interval
    if reported - tolerance <= low and high <= reported + tolerance:
        return "reproduced"
    if high < reported - tolerance or reported + tolerance < low:
        return "not_reproduced"
    return "inconclusive"


def obstacle(scale: str, changed: list[str], gated: dict | None, audit: list[str]) -> str | None:
    """The reason a run cannot be compared with a reported number; None for a sound run of the published experiment."""
    if gated is not None and not gated["passed"]:
        return "the attack did not work on standard training"
    if audit:
        return "; ".join(audit)
    if scale not in COMPARED:
        return f"the {scale} scale is not the published setting"
    return f"settings were changed: {', '.join(changed)}" if changed else None


def _cell(arms: dict, row: Reported) -> dict:
    """The measured metric of the cell of a reported number."""
    metric = arms[row.arm][row.metric]
    if row.label is None:
        return metric
    by_class = metric["per_class"]
    pairs = zip(by_class["numerator"], by_class["denominator"], strict=True)
    return statistics.summary([Count(np.array([hits[row.label]]), np.array([of[row.label]])) for hits, of in pairs])


def compare(
    experiment: Experiment,
    arms: dict,
    scale: str,
    changed: list[str],
    gated: dict | None,
    audits: dict[str, list[str]],
) -> list[dict]:
    """Each reported number beside ours, with a verdict and its reason."""
    return [
        _compared(experiment, arms, row, scale, obstacle(scale, changed, gated, audits[row.arm]))
        for row in experiment.compared()
    ]


def _compared(experiment: Experiment, arms: dict, row: Reported, scale: str, obstacle: str | None) -> dict:
    cell, tolerance = _cell(arms, row), experiment.evaluation.tolerance
    found = verdict(cell["ci95"], row.value, tolerance, obstacle is None)
    return {
        "table": row.table,
        "arm": row.arm,
        "metric": row.metric,
        "label": row.label,
        "reported": row.value,
        "measured": cell["mean"],
        "std": cell["std"],
        "ci95": cell["ci95"],
        "verdict": found,
        "reason": "" if found == "reproduced" else obstacle or _why(experiment, arms, row, scale, cell["ci95"]),
    }


def _why(experiment: Experiment, arms: dict, row: Reported, scale: str, interval: list[float] | None) -> str:
    """The reason a comparable number was not reproduced, as far as this run shows."""
    if interval is None:
        return "the metric is undefined here (no image counts)"
    same = "in the same setting" if scale == "paper" else f"on the same data, in {_trained(experiment, row.arm)}"
    return _control_explains(experiment, arms, row) or row.note or f"another value was measured {same}"


def _trained(experiment: Experiment, name: str) -> str:
    """The network of an arm and the length of its training, as in `WongCNN after 10 epochs`."""
    arm = next(arm for arm in experiment.arms if arm.name == name)
    return f"{type(experiment.model_of(arm)).__name__} after {experiment.training_of(arm).epochs} epochs"


def reasons(experiment: Experiment, rows: list[dict], scale: str, changed: list[str]) -> list[str]:
    """Reasons why our numbers differ from the reported ones or cannot be compared; none without reported numbers."""
    if not rows:
        return []
    found = []
    if scale == "full":
        trained = {_trained(experiment, row["arm"]): None for row in rows}
        found.append(
            "at full scale data, poison and attacks are those of the report; networks and lengths are not "
            f"({', '.join(trained)})"
        )
    elif scale not in COMPARED:
        found.append(
            f"the {scale} scale is not the published setting (another data set, network and length), so no reported "
            "number can be confirmed or refuted here"
        )
    if changed:
        found.append(f"settings were changed from the published ones: {', '.join(changed)}")
    if not changed and scale in COMPARED:
        found += [f"{row['table']}, {row['arm']}, {row['metric']}: {row['reason']}" for row in rows if row["reason"]]
    return found + (list(experiment.caveats) if any(row["verdict"] != "reproduced" for row in rows) else [])


def _control_explains(experiment: Experiment, arms: dict, row: Reported) -> str | None:
    """Explanation of a reported number that matches the clean-data control but not the poisoned arm; None otherwise."""
    control = experiment.control()
    if row.arm not in experiment.defended() or control is None:
        return None
    ours, clean = (_cell({row.arm: arms[arm]}, row)["mean"] for arm in (row.arm, control))
    tolerance = experiment.evaluation.tolerance
    if ours is None or clean is None or abs(clean - row.value) > tolerance or abs(ours - row.value) <= tolerance:
        return None
    return (
        f"training on poisoned data gives {ours:.2%}, but the same on clean data {clean:.2%}: the reported number is "
        "that of a network that never saw the poison"
    )


def finding(experiment: Experiment, arms: dict, gated: dict | None, audits: dict[str, list[str]]) -> str:
    """The answer in one or two sentences."""
    if gated is None:
        return _baseline(arms, audits)
    if void := audits["standard"] + audits.get(experiment.standard_control(), []):
        return f"Nothing can be concluded about the defence: {'; '.join(void)}."
    if not gated["passed"]:
        failed = f"the attack did not work on standard training ({_below(experiment.poison.aim, gated)})"
        return f"Nothing can be concluded about the defence: {failed}."
    aim, shared = experiment.poison.aim, _control(experiment, "standard", audits)
    own = {arm: _control(experiment, arm, audits) for arm in experiment.defended()}
    outcomes = [_outcome(aim, arms, arm, own[arm], shared, gated["threshold"], audits[arm]) for arm in own]
    found = "; ".join([f"{named(aim)} {_shown(aim, arms, 'standard')} after standard training", *outcomes])
    return f"{found}." + ("" if shared is None else f" Control without poison: {_shown(aim, arms, shared)}.")


def named(aim: Aim) -> str:
    """The metric of an aim at the start of a sentence."""
    return METRICS[aim.metric][:1].upper() + METRICS[aim.metric][1:]


def _shown(aim: Aim, arms: dict, arm: str) -> str:
    return f"{arms[arm][aim.metric]['mean']:.1%}"


def _below(aim: Aim, gated: dict) -> str:
    """The numbers of a gate that failed."""
    rate, control = (
        "undefined" if gated[name] is None else f"{aim.success(gated[name]):.1%}" for name in ("asr", "control")
    )
    said = f"{METRICS[aim.metric]} {rate}"
    if gated["control"] is not None:
        excess = "undefined" if gated["excess"] is None else f"{gated['excess']:.1%}"
        gained = f"an excess of {excess} of what the control leaves" if aim.raises else f"a loss of {excess} of that"
        said += f", {control} on clean data: {gained}"
    return f"{said}, below the gate of {gated['threshold']:.0%}"


def _control(experiment: Experiment, arm: str, audits: dict[str, list[str]]) -> str | None:
    """The sound arm that a poisoned one is held against: the same without the poison, if it defends itself, or else
    the first with a defence, or else standard training."""
    own = experiment.twin(arm) if arm in experiment.defended() else None
    names = (own, experiment.control(), experiment.standard_control())
    return next((name for name in names if name is not None and not audits[name]), None)


def _outcome(
    aim: Aim, arms: dict, arm: str, control: str | None, shared: str | None, threshold: float, audit: list[str]
) -> str:
    """The fate of what the poison does, under one defence. shared: the control that the finding ends with."""
    if audit:
        return f"nothing can be concluded about {arm} ({'; '.join(audit)})"
    said = {
        SURVIVES: f"the {aim.effect} survives {arm}",
        WEAKENED: f"{arm} weakens the {aim.effect} but does not remove it",
        REMOVED: f"{arm} removes the {aim.effect}",
    }
    clean = None if control is None else success(aim, arms[control])
    beside = "" if control == shared else f", {_shown(aim, arms, control)} without poison"
    return f"{said[fate(success(aim, arms[arm]), clean, threshold)]} ({_shown(aim, arms, arm)}{beside})"


def fate(rate: float, control: float | None, threshold: float) -> str:
    """What becomes of a working poison, by the attacker's success; control: that without the poison, if measured.

    SURVIVES: it passes the gate still. REMOVED: as without the poison, within 5 points. WEAKENED: between the two.
    """
    excess = _excess(rate, control or 0.0)
    if excess is not None and excess >= threshold:
        return SURVIVES
    return REMOVED if control is not None and rate <= control + 0.05 else WEAKENED


def _baseline(arms: dict, audits: dict[str, list[str]]) -> str:
    """Accuracy and robustness of each network, where nothing is poisoned."""

    def one(arm: str) -> str:
        clean, robust = (arms[arm][name]["mean"] for name in ("clean_accuracy", "robust_accuracy"))
        failed = f" ({'; '.join(audits[arm])})" if audits[arm] else ""
        return f"{arm} {clean:.1%} clean and {robust:.1%} under PGD{failed}"

    return f"No poisoning: clean baselines. Test accuracy: {'; '.join(map(one, arms))}."
