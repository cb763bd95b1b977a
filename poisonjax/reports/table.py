"""A record as a page of Markdown: the answer, printed beside measured, and everything behind it."""

import json

LABELS = {
    "clean_accuracy": "clean accuracy",
    "triggered_accuracy": "triggered accuracy",
    "attack_success_rate": "attack success rate",
    "attack_success_rate_madry": "attack success rate (Madry)",
    "art_effectiveness": "effectiveness (ART)",
    "robust_accuracy": "PGD accuracy",
}


def percent(value: float | None) -> str:
    """A fraction as a percentage with two decimals; a dash for None."""
    return "–" if value is None else f"{100 * value:.2f}"


def measured(metric: dict) -> str:
    """mean ± std [95 % interval], in percent."""
    spread = "" if metric["std"] is None else f" ± {percent(metric['std'])}"
    interval = "" if metric["ci95"] is None else " [{}, {}]".format(*map(percent, metric["ci95"]))
    return f"{percent(metric['mean'])}{spread}{interval}"


def rows(header: list[str], body: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _ratio(metric: dict) -> str:
    return ", ".join(f"{n}/{d}" for n, d in zip(metric["numerator"], metric["denominator"], strict=True))


def comparison(record: dict) -> str:
    """The report's printed numbers beside ours."""
    body = [
        [
            row["table"],
            row["arm"],
            LABELS[row["metric"]],
            percent(row["printed"]),
            measured(record["arms"][row["arm"]][row["metric"]]),
            row["verdict"].replace("_", " "),
        ]
        for row in record["comparison"]
    ]
    return rows(["table", "arm", "metric", "printed %", "measured %", "verdict"], body)


def results(record: dict) -> str:
    """Every metric of every arm, with what was divided by what."""
    body = [
        [arm, LABELS[name], measured(metrics[name]), _ratio(metrics[name])]
        for arm, metrics in record["arms"].items()
        for name in LABELS
    ]
    return rows(["arm", "metric", "measured %", "of images, by seed"], body)


def per_class(record: dict, name: str) -> str:
    """One metric by true class, pooled over seeds."""

    def pooled(metric: dict) -> list[str]:
        hits, of = (map(sum, zip(*metric["per_class"][part], strict=True)) for part in ("numerator", "denominator"))
        return [percent(h / d if d else None) for h, d in zip(hits, of, strict=True)]

    body = [[arm, *pooled(metrics[name])] for arm, metrics in record["arms"].items()]
    return rows(["arm", *map(str, range(len(body[0]) - 1))], body)


def speed(record: dict) -> str:
    """How fast each arm trained."""
    body = [
        [arm, "–" if rate is None else f"{rate:.0f}", f"{metrics['seconds']:.0f}"]
        for arm, metrics in record["arms"].items()
        for rate in [metrics["train_images_per_second"]]
    ]
    return rows(["arm", "training images/s", "seconds"], body)


def _bullets(lines: list[str], empty: str) -> str:
    return "\n".join(f"- {line}" for line in lines) or empty


def _poison(record: dict) -> str:
    def one(seed: int, facts: dict) -> str:
        proxy = facts.get("proxy")
        robust = (
            ""
            if proxy is None
            else (
                f"; the attacker's proxy has {percent(proxy['clean_accuracy'])} % clean and "
                f"{percent(proxy['robust_accuracy'])} % PGD accuracy on the test images"
            )
        )
        return f"seed {seed}: {facts['rows']} of {facts['of']} training rows poisoned{robust}"

    return _bullets([one(*pair) for pair in zip(record["seeds"], record["poison"], strict=True)], "")


def markdown(record: dict, figures: list[str]) -> str:
    """The whole page; figures are paths relative to it."""
    gate, data, env = record["attack_gate"], record["dataset"], record["environment"]
    passed = "passed" if gate["passed"] else "FAILED"
    sections = [
        f"# {record['experiment']} ({record['scale']} scale)",
        record["title"],
        f"**{record['finding']}**",
        f"Attack gate {passed}: attack success rate of the standard arm {percent(gate['asr'])} %, "
        f"at least {percent(gate['threshold'])} % needed.",
        f"## Printed and measured ({record['paper_table']})",
        comparison(record),
        "A printed number is reproduced if our 95 % interval lies within "
        f"{percent(record['config']['evaluation']['tolerance'])} points of it, not reproduced if it lies outside "
        "altogether. Intervals are Wilson's for one seed, Student's t over several.",
        "### Why they differ",
        _bullets(record["reasons"], "They do not."),
        "## All metrics",
        results(record),
        "## Attack success rate by true class (%)",
        per_class(record, "attack_success_rate"),
        "## Clean accuracy by true class (%)",
        per_class(record, "clean_accuracy"),
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
