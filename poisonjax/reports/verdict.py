"""What follows from the numbers: does a printed one hold, did the attack work, did the backdoor survive?"""

from poisonjax.experiment import Experiment, Printed

GATE_METRIC = "attack_success_rate"


def gate(experiment: Experiment, arms: dict) -> dict:
    """Whether the poison works at all, on a network trained in the standard way."""
    rate = arms["standard"][GATE_METRIC]["mean"]
    threshold = experiment.evaluation.gate
    return {"passed": rate is not None and rate >= threshold, "asr": rate, "threshold": threshold}


def verdict(interval: list[float] | None, printed: float, tolerance: float, usable: bool) -> str:
    """reproduced: our 95 % interval lies within tolerance of the printed number; not_reproduced: it lies outside
    altogether; inconclusive: neither, or the cell is not usable as a comparison."""
    if not usable or interval is None:
        return "inconclusive"
    low, high = interval
    if printed - tolerance <= low and high <= printed + tolerance:
        return "reproduced"
    if high < printed - tolerance or printed + tolerance < low:
        return "not_reproduced"
    return "inconclusive"


def compare(
    experiment: Experiment, arms: dict, comparable: bool, gated: dict, audits: dict[str, list[str]]
) -> list[dict]:
    """Each printed number beside ours. A cell is inconclusive unless the run is the published setting, the attack
    worked and the network is not spoiled."""
    return [
        {
            "table": row.table,
            "arm": row.arm,
            "metric": row.metric,
            "printed": row.value,
            "measured": arms[row.arm][row.metric]["mean"],
            "verdict": verdict(
                arms[row.arm][row.metric]["ci95"],
                row.value,
                experiment.evaluation.tolerance,
                comparable and gated["passed"] and not audits[row.arm],
            ),
        }
        for row in experiment.printed
    ]


def reasons(experiment: Experiment, arms: dict, rows: list[dict], scale: str, changed: list[str]) -> list[str]:
    """Why a printed number and ours differ or cannot be compared, as far as this run can tell."""
    found = []
    if scale != "paper":
        found.append(
            f"the {scale} scale is not the published setting (another data set, network and length), so no printed "
            "number can be confirmed or refuted here"
        )
    if changed:
        found.append(f"settings were changed from the published ones: {', '.join(changed)}")
    for row in experiment.printed:
        found += _control_explains(experiment, arms, row)
    if any(row["verdict"] != "reproduced" for row in rows):
        found += experiment.known
    return found


def _control_explains(experiment: Experiment, arms: dict, row: Printed) -> list[str]:
    """If the number printed for poisoned data is what clean data gives, and poisoned data does not give it."""
    if row.arm != "pgd_at" or "pgd_at_clean_data" not in arms:
        return []
    ours, control = (arms[arm][row.metric]["mean"] for arm in ("pgd_at", "pgd_at_clean_data"))
    tolerance = experiment.evaluation.tolerance
    if ours is None or control is None or abs(control - row.value) > tolerance or abs(ours - row.value) <= tolerance:
        return []
    return [
        f"{row.table} prints {row.value:.2%} for {row.metric} of pgd_at; the poisoned data gives {ours:.2%}, but "
        f"adversarial training on clean data gives {control:.2%}: the printed number is what a network gives that "
        "never saw the poison"
    ]


def finding(arms: dict, gated: dict, spoiled: list[str]) -> str:
    """The answer in one sentence."""
    if not gated["passed"]:
        shown = "undefined" if gated["asr"] is None else f"{gated['asr']:.1%}"
        return (
            f"Nothing can be concluded about the defence: the attack did not work on standard training (attack "
            f"success rate {shown}, below the gate of {gated['threshold']:.0%})."
        )
    if spoiled:
        return f"Nothing can be concluded about the defence: {'; '.join(spoiled)}."
    before, after = (arms[arm][GATE_METRIC]["mean"] for arm in ("standard", "pgd_at"))
    change = f"attack success rate {before:.1%} after standard training, {after:.1%} after PGD adversarial training"
    if after >= gated["threshold"]:
        return f"The backdoor survives PGD adversarial training: {change}."
    control = arms["pgd_at_clean_data"][GATE_METRIC]["mean"]
    if after <= control + 0.05:
        return f"PGD adversarial training leaves no backdoor: {change}; without any poison it is {control:.1%}."
    return f"PGD adversarial training weakens the backdoor but leaves it: {change}; without any poison {control:.1%}."
