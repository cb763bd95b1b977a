"""The evaluation of one network under one attack: as a page of Markdown, and as text for a terminal."""

import json

from poisonjax.reports import statistics
from poisonjax.reports.table import percent, rows
from poisonjax.reports.text import columns

NORMS = ("Linf", "L2")  # in which distances are measured


def cells(record: dict) -> list[list[str]]:
    """Results of an attack: a name and a value per line."""
    body = [["clean accuracy", _share(record["clean"])], ["robust accuracy", _share(record["robust"])]]
    body += [[f"after {name}", f"{percent(left)} %"] for name, left in record["stages"].items()]
    if record["attack_success_rate"] is not None:
        body += [["attack success rate of the trigger", _share(record["attack_success_rate"])]]
    body += [[f"median {norm}", _number(record[f"median_{norm.lower()}"])] for norm in NORMS]
    body += [[f"{name} per image, at most", str(record[name])] for name in ("gradients", "queries")]
    return [*body, ["images/s", _number(record["images_per_second"])]]


def _share(count: list[int]) -> str:
    low, high = map(percent, statistics.wilson(*count))
    return f"{percent(count[0] / count[1])} % [{low}, {high}] ({count[0]}/{count[1]})"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def text(record: dict) -> str:
    """The table and the warnings for a terminal."""
    return "\n".join([columns(cells(record)), *(f"warning: {line}" for line in record["audit"])])


def markdown(record: dict) -> str:
    """The whole page."""
    sections = [
        f"# {record['arm']}, seed {record['seed']}, under {record['attack']['type']}",
        f"{record['run']['name']} ({record['run']['scale']} scale), the first {record['images']} test images of "
        f"{record['dataset']['name']} {record['dataset']['version']}.",
        rows(["", "measured"], cells(record)),
        "Distances are medians over the images that the attack got misclassified; intervals are Wilson's, of 95 %.",
        "## Audit",
        "\n".join(f"- {line}" for line in record["audit"]) or "No sign of gradient masking.",
        "## Setting",
        *([f"`{record['command']}`"] if record["command"] else []),
        "```json\n" + json.dumps({"attack": record["attack"], **record["environment"]}, indent=1) + "\n```",
    ]
    return "\n\n".join(sections) + "\n"
