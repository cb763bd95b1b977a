"""A record as a page of Markdown: the answer, reported beside measured, and everything behind it."""

import json

from poisonjax.evaluation.metrics import METRICS as LABELS

MAIN = ("clean_accuracy", "triggered_accuracy", "attack_success_rate", "robust_accuracy")  # every arm has them


def percent(value: float | None) -> str:
    """A fraction as a percentage with two decimals; a dash for None."""
    return "–" if value is None else f"{100 * value:.2f}"


def spread(metric: dict) -> str:
    """mean ± std, in percent."""
    return percent(metric["mean"]) + ("" if metric["std"] is None else f" ± {percent(metric['std'])}")


def measured(metric: dict) -> str:
    """mean ± std [95 % interval], in percent."""
    return spread(metric) + ("" if metric["ci95"] is None else " [{}, {}]".format(*map(percent, metric["ci95"])))


def has(metrics: dict, name: str) -> bool:
    """True if an arm has a value of this metric."""
    return name in metrics and metrics[name]["mean"] is not None


def rows(header: list[str], body: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _ratio(metric: dict) -> str:
    return ", ".join(f"{n}/{d}" for n, d in zip(metric["numerator"], metric["denominator"], strict=True))


COMPARISON = ["table", "arm", "metric", "reported %", "measured % [95 % interval]", "verdict", "reason"]


def compared(row: dict) -> list[str]:
    """A reported number beside ours, as the cells under COMPARISON."""
    about = "" if row["label"] is None else f", class {row['label']}"
    cell = measured({"mean": row["measured"], "std": row["std"], "ci95": row["ci95"]})
    said = row["verdict"].replace("_", " ")
    return [
        row["table"],
        row["arm"],
        LABELS[row["metric"]] + about,
        percent(row["reported"]),
        cell,
        said,
        row["reason"],
    ]


def comparison(record: dict) -> str:
    """The report's reported numbers beside ours."""
    if not record["comparison"]:
        return "The report prints no number of this experiment."
    return rows(COMPARISON, [compared(row) for row in record["comparison"]])


def _gate(gate: dict | None) -> str:
    if gate is None:
        return "Nobody attacks the training data: there is no attack gate."
    return (
        f"Attack gate {'passed' if gate['passed'] else 'FAILED'}: attack success rate of the standard arm "
        f"{percent(gate['asr'])} %, at least {percent(gate['threshold'])} % needed."
    )


def results(record: dict) -> str:
    """Every metric of every arm, with what was divided by what."""
    body = [
        [arm, LABELS[name], measured(metrics[name]), _ratio(metrics[name])]
        for arm, metrics in record["arms"].items()
        for name in LABELS
        if has(metrics, name)
    ]
    return rows(["arm", "metric", "measured %", "of images, by seed"], body)


def per_class(record: dict, name: str) -> str:
    """One metric by true class, pooled over seeds."""

    def pooled(metric: dict) -> list[str]:
        hits, of = (map(sum, zip(*metric["per_class"][part], strict=True)) for part in ("numerator", "denominator"))
        return [percent(h / d if d else None) for h, d in zip(hits, of, strict=True)]

    body = [[arm, *pooled(metrics[name])] for arm, metrics in record["arms"].items()]
    return rows(["arm", *map(str, range(len(body[0]) - 1))], body)


def by_class(record: dict, name: str) -> list[str]:
    """The table of one metric with its name above; nothing where it is about no image."""
    if not any(has(metrics, name) for metrics in record["arms"].values()):
        return []
    return [f"{LABELS[name].capitalize()}:", per_class(record, name)]


def speed(record: dict) -> str:
    """How fast each arm trained."""
    body = [
        [arm, "–" if rate is None else f"{rate:.0f}", f"{metrics['seconds']:.0f}"]
        for arm, metrics in record["arms"].items()
        for rate in [metrics["train_images_per_second"]]
    ]
    return rows(["arm", "training images/s", "seconds"], body)


def analyses(record: dict) -> list[str]:
    """A section for each analysis that has tables."""
    return [part for analysis in record["analyses"].values() if analysis["tables"] for part in _section(analysis)]


def _section(analysis: dict) -> list[str]:
    parts = [f"## {analysis['heading']}"]
    for table in analysis["tables"]:
        title = [f"### {table['title']}"] if table["title"] else []
        parts += [*title, rows(table["header"], table["rows"]), *table["notes"]]
    return parts + ([_bullets(analysis["audit"], "")] if analysis["audit"] else [])


def plain(number: dict) -> str:
    """mean ± std of a number that is no percentage."""
    if number["mean"] is None:
        return "–"
    return f"{number['mean']:.3g}" + ("" if number["std"] is None else f" ± {number['std']:.2g}")


def _bullets(lines: list[str], empty: str) -> str:
    return "\n".join(f"- {line}" for line in lines) or empty


def _poison(record: dict) -> str:
    def one(seed: int, facts: dict) -> str:
        surrogate = facts.get("surrogate")
        robust = (
            ""
            if surrogate is None
            else (
                f"; the attacker's surrogate has {percent(surrogate['clean_accuracy'])} % clean and "
                f"{percent(surrogate['robust_accuracy'])} % PGD accuracy on the test images"
            )
        )
        return f"seed {seed}: {facts['rows']} of {facts['of']} training rows poisoned{robust}"

    return _bullets([one(*pair) for pair in zip(record["seeds"], record["poison"], strict=True)], "")


def markdown(record: dict, figures: list[str]) -> str:
    """The whole page; figures are paths relative to it."""
    data, env = record["dataset"], record["environment"]
    sections = [
        f"# {record['experiment']} ({record['scale']} scale)",
        record["title"],
        f"**{record['finding']}**",
        _gate(record["attack_gate"]),
        f"## Reported and measured ({record['paper_table']})",
        comparison(record),
        "A reported number is reproduced if our 95 % interval lies within "
        f"{percent(record['config']['evaluation']['tolerance'])} points of it, not reproduced if it lies outside "
        "altogether. Intervals are Wilson's for one seed, Student's t over several.",
        "### Why they differ",
        _bullets(record["reasons"], "They do not."),
        "## All metrics",
        results(record),
        "## By true class (%)",
        *(part for name in MAIN for part in by_class(record, name)),
        *analyses(record),
        "## Poison",
        _poison(record),
        "## Warnings",
        _bullets(record["warnings"], "None."),
        "## Figures",
        "\n\n".join(f"![{path}]({path})" for path in figures),
        "## Speed",
        speed(record),
        "## Setting",
        f"{data['name']} {data['version']}: {data['train']} training and {data['test']} test images, sha256 "
        f"`{data['sha256']}`. Seeds {', '.join(map(str, record['seeds']))}. "
        + ", ".join(f"{name} {value}" for name, value in env.items())
        + ".",
        "```json\n" + json.dumps(record["config"], indent=1) + "\n```",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"
