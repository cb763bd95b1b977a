"""Findings for other programs: JSON, CSV and SARIF 2.1.0."""

import csv
import io
import json
from collections.abc import Sequence

from poisonjax.data import Dataset
from poisonjax.data.near_duplicates import DISTANCE, NearDuplicates
from poisonjax.reports.audit.findings import FILTERS, Finding, Report
from poisonjax.reports.images import class_name

FORMAT = 1  # of audit.json
SARIF = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
OWASP = "OWASP-LLM04:2025"  # Data and Model Poisoning, of the OWASP Top 10 for LLM Applications
TAGS = ("AML.T0020", OWASP)  # the former: Training Data Poisoning, of MITRE ATLAS


def to_json(report: Report) -> str:
    """The document of audit.json."""
    dataset = report.dataset
    data = {
        "name": dataset.name,
        "sha256": dataset.sha256,
        "rows": len(dataset.train.label),
        "shape": list(dataset.train.image.shape[1:]),
        "classes": [class_name(label, dataset.label_names) for label in range(dataset.classes)],
    }
    content = {
        "format": FORMAT,
        "suspicious": report.verdict.suspicious,
        "verdict": report.verdict.sentence,
        "tags": TAGS,
        "limits": list(report.limits),
        "dataset": data,
        "findings": [_summary(dataset, each) for each in report.findings],
        "near_duplicates": _alike(dataset, report.alike),
        "planted": [each._asdict() | {"found": each.found} for each in report.planted],
        **report.facts,
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _summary(dataset: Dataset, found: Finding) -> dict:
    return {
        "filter": found.filter,
        "alarm": found.alarming,
        "class": class_name(found.label, dataset.label_names),
        "label": found.label,
        "rows": len(found.rows),
        "of": found.of,
        "patch": found.patch and found.patch._asdict(),
    }


def _alike(dataset: Dataset, alike: Sequence[NearDuplicates]) -> dict:
    """Groups of rows with almost the same image, those with different labels first."""
    return {
        "distance": DISTANCE,
        "rows": sum(len(each.rows) for each in alike),
        "groups_with_different_labels": sum(each.disagree for each in alike),
        "groups": [
            {
                "rows": dataset.train.index[each.rows].tolist(),
                "files": [row_name(dataset, place) for place in each.rows],
                "labels": each.labels.tolist(),
            }
            for each in alike
        ],
    }


def row_name(dataset: Dataset, place: int) -> str:
    """The file, or the row of a file, of a training row; its number where that is not known."""
    index = int(dataset.train.index[place])
    return dataset.names[index] if dataset.names else f"row {index}"


def to_csv(dataset: Dataset, found: Sequence[Finding]) -> str:
    """A line for each row and filter: row, file, label, class, filter, alarm, score."""
    content = io.StringIO()
    lines = csv.writer(content, lineterminator="\n")
    lines.writerow(["row", "file", "label", "class", "filter", "alarm", "score"])
    for each in found:
        name = class_name(each.label, dataset.label_names)
        for place, score in zip(each.rows, each.scores, strict=True):
            file = row_name(dataset, place)
            alarm = "yes" if each.alarming else "no"
            lines.writerow(
                [int(dataset.train.index[place]), file, each.label, name, each.filter, alarm, f"{score:.6g}"]
            )
    return content.getvalue()


def to_sarif(dataset: Dataset, found: Sequence[Finding]) -> str:
    """Alarms as a SARIF 2.1.0 log, a result for each row, so that code scanning shows them at their files."""
    alarms = [each for each in found if each.alarming]
    rules = [{"id": name, "shortDescription": {"text": f"Rows that {why}."}} for name, why in FILTERS.items()]
    for rule in rules:
        rule["properties"] = {"tags": ["security", *TAGS]}
    driver = {"name": "poisonjax", "rules": rules}
    results = [_result(dataset, each, place) for each in alarms for place in each.rows]
    return json.dumps(
        {"$schema": SARIF, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}
    )


def _result(dataset: Dataset, found: Finding, place: int) -> dict:
    name, label = row_name(dataset, place), class_name(found.label, dataset.label_names)
    return {
        "ruleId": found.filter,
        "level": "warning",
        "message": {"text": f"This row of class {label} may be poisoned: {len(found.rows)} {FILTERS[found.filter]}."},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": _uri(name)}}}],
        "partialFingerprints": {"row": f"{dataset.sha256}:{int(dataset.train.index[place])}"},
    }


def _uri(name: str) -> str:
    from urllib.parse import quote

    return quote(name, safe="/")
