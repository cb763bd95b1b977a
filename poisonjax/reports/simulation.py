"""Attacks that were tried out on data of one's own, from records of runs with poison planted in them."""

from collections.abc import Mapping, Sequence

from poisonjax.reports.table import count, percent
from poisonjax.reports.table import rows as table

CONTROL = "standard_clean_data"


def rows(records: Mapping[str, dict]) -> list[dict]:
    """A row for each poison, as JSON: its rows, and attack success rate and clean accuracy of every training.

    records: {poison as text: record}. Rates are fractions, means over seeds; of rows, those of the first seed.
    """
    return [_row(poison, record) for poison, record in records.items()]


def _row(poison: str, record: dict) -> dict:
    arms = {name: arm for name, arm in record["arms"].items() if name != CONTROL}
    trainings = {name: _training(arm) for name, arm in arms.items()}
    facts, clean = record["poison"][0], record["arms"][CONTROL]
    return {
        "poison": poison,
        "rows": facts["rows"],
        "of": facts["of"],
        "works": bool(record["attack_gate"]["passed"]),
        "trainings": trainings,
        "control": _training(clean),
    }


def _training(arm: dict) -> dict:
    return {"attack_success_rate": arm["attack_success_rate"]["mean"], "clean_accuracy": arm["clean_accuracy"]["mean"]}


def sentence(row: dict) -> str:
    """A row as a sentence: what the attacker reaches, and what the best training leaves of it."""
    standard, share = row["trainings"]["standard"], percent(row["rows"] / row["of"])
    said = (
        f"{row['poison']}: {count(row['rows'])} of {count(row['of'])} rows ({share} %) make "
        f"{percent(standard['attack_success_rate'])} % of triggered images go where the attacker wants"
    )
    if not row["works"]:
        return f"{said}, so that the attack does not work here."
    others = {name: each for name, each in row["trainings"].items() if name != "standard"}
    best = min(others, key=lambda name: others[name]["attack_success_rate"])
    lost = 100 * (row["control"]["clean_accuracy"] - others[best]["clean_accuracy"])
    left = percent(others[best]["attack_success_rate"])
    return f"{said}; {best} leaves {left} %, and costs {lost:.1f} points of accuracy."


def markdown(source: str, made: Sequence[dict]) -> str:
    """The page of all rows: a sentence each, then the table."""
    names = list(dict.fromkeys(name for row in made for name in row["trainings"]))
    head = ["poison", "rows", *(f"{name}: ASR %, clean %" for name in names), "without poison: ASR %, clean %"]
    body = [
        [f"`{row['poison']}`", count(row["rows"]), *map(_cell, [*map(row["trainings"].get, names), row["control"]])]
        for row in made
    ]
    parts = [
        f"# Attacks on {source}, tried out",
        "\n".join(f"- {sentence(row)}" for row in made) or "No attack has been tried to its end.",
        table(head, body),
        "ASR: attack success rate, the share of triggered test images of other classes that go to the target. Each row "
        "is a run of its own beside this file, with its report and its settings.",
    ]
    return "\n\n".join(parts) + "\n"


def _cell(training: dict | None) -> str:
    if training is None:
        return "–"
    return f"{percent(training['attack_success_rate'])}, {percent(training['clean_accuracy'])}"
