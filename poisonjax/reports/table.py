"""A record as a page of Markdown: the answer, reported beside measured, and everything behind it."""

import html
import json
import pathlib
from collections.abc import Iterable

from poisonjax.evaluation.detection import DETECTION as SCORES
from poisonjax.evaluation.metrics import METRICS as LABELS
from poisonjax.reports.aims import aim

MAIN = ("clean_accuracy", "triggered_accuracy", "attack_success_rate", "robust_accuracy")  # every arm has them
TRIGGERED = (
    "triggered_accuracy",
    "attack_success_rate",
    "attack_success_rate_turner",
    "art_effectiveness",
    "triggered_rejection_rate",
)  # those that say something about a backdoor only if the attack works
CAUGHT = {
    "poisoned_rows_removed": "poisoned rows removed (TPR) %",
    "clean_rows_removed": "clean rows removed (FPR) %",
    "cover_rows_removed": "cover rows removed %",
    "clean_rejection_rate": "clean images rejected %",
    "triggered_rejection_rate": "triggered images rejected %",
    "adversarial_rejection_rate": "adversarial images rejected %",
}
PICTURES = {  # by the names of their files, in the order of a page
    "results": "Results with 95% intervals, the control in grey, reported values as open diamonds",
    "images": "Poisoned training images, and test images with what each network says of them",
    "capacity": "Accuracy by the number of parameters",
    "example": "Clean images, perturbations and adversarial images with what each network says of them",
    "certified_rows": "Certified accuracy by the number of training rows inserted or deleted",
    "tsne": "Activations of clean and triggered test images",
    "curves": "Training curves",
}
VOID, GATED = "†", "‡"
MARKS = {
    VOID: "the network collapsed, is undertrained or returned NaN: its numbers mean nothing",
    GATED: "the attack did not work on standard training: nothing follows about a defence",
}


def percent(value: float | None) -> str:
    """A fraction as a percentage with two decimals; a dash for None."""
    return "–" if value is None else f"{100 * value:.2f}"


def spread(metric: dict) -> str:
    """mean ± std, in percent."""
    return percent(metric["mean"]) + ("" if metric["std"] is None else f" ± {percent(metric['std'])}")


def measured(metric: dict) -> str:
    """mean ± std [95% interval], in percent."""
    return spread(metric) + ("" if metric["ci95"] is None else " [{}, {}]".format(*map(percent, metric["ci95"])))


def plain(number: dict) -> str:
    """mean ± std of a number that is no percentage."""
    if number["mean"] is None:
        return "–"
    return _rounded(number["mean"], 3) + ("" if number["std"] is None else f" ± {_rounded(number['std'], 2)}")


def _rounded(value: float, digits: int) -> str:
    """A number with so many significant digits, and commas."""
    return f"{float(f'{value:.{digits}g}'):,g}"


def count(value: float | None) -> str:
    """A whole number, with commas; a dash for None."""
    return "–" if value is None else f"{value:,.0f}"


def plural(number: int, word: str) -> str:
    """3 seeds, 1 seed."""
    return f"{number} {word}{'' if number == 1 else 's'}"


def has(metrics: dict, name: str) -> bool:
    """True if an arm has a value of this metric."""
    return name in metrics and metrics[name]["mean"] is not None


def audit(record: dict, arm: str) -> list[str]:
    """Reasons why the numbers of an arm mean nothing; none for a sound network."""
    return [line for line in record["warnings"] if line.startswith(f"{arm}, seed ")]


def mark(record: dict, arm: str, name: str) -> str:
    """The mark of a number that must not be read as it stands; see MARKS."""
    if not has(record["arms"][arm], name):
        return ""
    if audit(record, arm):
        return VOID
    failed = record["attack_gate"] is not None and not record["attack_gate"]["passed"]
    return GATED if failed and name in (*TRIGGERED, aim(record).metric) else ""


def marked(record: dict, arm: str, name: str) -> str:
    """A metric as mean ± std in percent, with its mark; a dash where the arm does not have it."""
    metrics = record["arms"][arm]
    return f"{spread(metrics[name])} {mark(record, arm, name)}".rstrip() if name in metrics else "–"


def legend(text: str) -> list[str]:
    """A line for each mark that occurs in a text."""
    return [f"{sign} {meaning}" for sign, meaning in MARKS.items() if sign in text]


def rows(header: list[str], body: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *body]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _ratio(metric: dict) -> str:
    return ", ".join(f"{n}/{d}" for n, d in zip(metric["numerator"], metric["denominator"], strict=True))


COMPARISON = ["table", "arm", "metric", "reported %", "measured % [95% interval]", "verdict", "reason"]


def compared(row: dict) -> list[str]:
    """A reported number beside ours, as the cells under COMPARISON."""
    about = "" if row["label"] is None else f", class {row['label']}"
    cell = measured({"mean": row["measured"], "std": row["std"], "ci95": row["ci95"]})
    verdict = row["verdict"].replace("_", " ")
    return [
        row["table"],
        row["arm"],
        LABELS[row["metric"]] + about,
        percent(row["reported"]),
        cell,
        verdict,
        row["reason"],
    ]


def gate(record: dict) -> tuple[str, str]:
    """The attack gate: its outcome, and the numbers behind it."""
    gated, of = record["attack_gate"], aim(record)
    if gated is None:
        return "No attack gate.", "No poisoning: clean baselines."
    rate, control = (None if gated[name] is None else of.success(gated[name]) for name in ("asr", "control"))
    parts = [f"{LABELS[of.metric]} {percent(rate)}% after standard training"]
    if control is None:
        parts += ["no control on clean data"]
    else:
        excess = f"{percent(gated['excess'])}%"
        gained = f"excess {excess} of what the control leaves" if of.raises else f"loss {excess} of that"
        parts += [f"{percent(control)}% on clean data (control)", gained]
    outcome = f"Attack gate {'passed' if gated['passed'] else 'failed'}:"
    return outcome, f"{', '.join(parts)}; at least {percent(gated['threshold'])}% needed."


def main_results(record: dict) -> list[str]:
    """The main metrics of every arm, and what the marks mean."""
    names = [*MAIN, *(name for name in ("autoattack_accuracy",) if _measured(record, name))]
    body = [[arm, *(marked(record, arm, name) for name in names)] for arm in record["arms"]]
    table = rows(["arm", *(f"{LABELS[name]} %" for name in names)], body)
    return [table, *legend(table)]


def _measured(record: dict, name: str) -> bool:
    return any(has(metrics, name) for metrics in record["arms"].values())


def comparison(record: dict) -> list[str]:
    """The section of the reported numbers; empty where the report gives none."""
    if not record["comparison"]:
        return []
    table = f" ({record['paper_table']})" if record["paper_table"] else ""
    return [
        f"## Reported and measured{table}",
        rows(COMPARISON, [compared(row) for row in record["comparison"]]),
        "A reported number is reproduced if our 95% interval lies within "
        f"{percent(record['config']['evaluation']['tolerance'])} points of it, and not reproduced if the interval lies "
        "entirely outside. Intervals are Wilson's for one seed, Student's t over several.",
    ]


def caveats(record: dict) -> list[str]:
    """The section of the warnings and, where there are reported numbers, of why ours differ from them."""
    why = record["reasons"] if record["comparison"] else []
    differ = ["Why reported and measured numbers differ:", _bullets(why, "")] if why else []
    return ["## Caveats", _bullets(record["warnings"], "No warnings."), *differ]


def pictures(paths: Iterable[str]) -> list[str]:
    """Figures in the order of PICTURES, those that it does not know before the last."""
    order, names = list(PICTURES), {path: pathlib.PurePosixPath(path).stem for path in paths}
    last = len(order) - 1
    place = {path: order.index(name) if name in order else last - 0.5 for path, name in names.items()}
    return [f"![{PICTURES.get(names[path], names[path])}]({path})" for path in sorted(names, key=place.get)]


def results(record: dict) -> str:
    """Every metric of every arm, with what was divided by what."""
    body = [
        [arm, LABELS[name], measured(metrics[name]), _ratio(metrics[name])]
        for arm, metrics in record["arms"].items()
        for name in LABELS
        if has(metrics, name)
    ]
    return rows(["arm", "metric", "measured %", "counts, by seed"], body)


def detections(record: dict) -> tuple[list[str], list[list[str]]]:
    """Header and rows of what defences removed from the training data and reject at test time."""
    names = [name for name in CAUGHT if _measured(record, name)]
    scores = {
        name: label for name, label in SCORES.items() if any(has(_scores(arm), name) for arm in record["arms"].values())
    }
    defences = {each["arm"]: each["defence"] for each in networks(record)}
    body = [
        [arm, defences[arm], *(_detected(metrics, name) for name in names), *(_score(metrics, name) for name in scores)]
        for arm, metrics in record["arms"].items()
        if any(has(metrics, name) for name in names)
    ]
    return ["arm", "defence", *(CAUGHT[name] for name in names), *(f"{label} %" for label in scores.values())], body


def _detected(metrics: dict, name: str) -> str:
    return f"{measured(metrics[name])} ({_ratio(metrics[name])})" if has(metrics, name) else "–"


def _scores(metrics: dict) -> dict:
    """The numbers by which the suspicion of an arm's defence told poisoned rows; none where it scored none."""
    return metrics.get("detection", {})


def _score(metrics: dict, name: str) -> str:
    return spread(_scores(metrics)[name]) if has(_scores(metrics), name) else "–"


def _detections(record: dict) -> list[str]:
    header, body = detections(record)
    return ["## Rows removed and images rejected", rows(header, body)] if body else []


def per_class(record: dict, name: str) -> str:
    """One metric by true class, pooled over seeds."""

    def pooled(metric: dict) -> list[str]:
        hits, of = (map(sum, zip(*metric["per_class"][part], strict=True)) for part in ("numerator", "denominator"))
        return [percent(h / d if d else None) for h, d in zip(hits, of, strict=True)]

    body = [[arm, *pooled(metrics[name])] for arm, metrics in record["arms"].items()]
    names = [html.escape(name) for name in record["dataset"].get("label_names", ())] or map(
        str, range(len(body[0]) - 1)
    )
    return rows(["arm", *names], body)


def by_class(record: dict, name: str) -> list[str]:
    """The table of one metric with its name above; nothing where it is undefined for every arm."""
    return [f"{capitalized(LABELS[name])}:", per_class(record, name)] if _measured(record, name) else []


def capitalized(text: str) -> str:
    """With a capital first letter; the others as they are, as in PGD."""
    return text[:1].upper() + text[1:]


def networks(record: dict) -> list[dict]:
    """Objective, defence, data, size and speed of each arm."""
    config = {arm["name"]: arm for arm in record["config"].get("arms", [])}
    poisoned = {True: "yes", False: "no", None: "–"}
    return [
        {
            "arm": name,
            "objective": named(config.get(name, {}).get("objective")),
            "defence": named(config.get(name, {}).get("defence")),
            "poisoned": "no" if record["attack_gate"] is None else poisoned[config.get(name, {}).get("poisoned")],
            **{field: arm.get(field) for field in ("parameters", "train_images_per_second", "seconds")},
        }
        for name, arm in record["arms"].items()
    ]


def named(part: dict | None) -> str:
    """A part of the configuration in a few words: its type and, if it trains against one, its attack."""
    if part is None:
        return "–"
    attack = part.get("attack")
    return f"{part['type']} ({_attack(attack)})" if isinstance(attack, dict) else part["type"]


def _attack(attack: dict) -> str:
    name, ball = attack.get("type", "?"), attack.get("ball")
    if not isinstance(ball, dict):
        return name
    eps = ball.get("eps")
    return (
        f"{name}, {ball.get('type', '?')} {eps:.3g}" if isinstance(eps, int | float) else f"{name}, {ball.get('type')}"
    )


def _networks(record: dict) -> str:
    header = ["arm", "objective", "defence", "poisoned data", "parameters", "training images/s", "training seconds"]
    return rows(
        header,
        [
            [of["arm"], of["objective"], of["defence"], of["poisoned"]]
            + [count(of[field]) for field in ("parameters", "train_images_per_second", "seconds")]
            for of in networks(record)
        ],
    )


def analyses(record: dict) -> list[str]:
    """A section for each analysis that has tables or doubts."""
    return [part for each in record["analyses"].values() if each["tables"] or each["audit"] for part in _section(each)]


def _section(analysis: dict) -> list[str]:
    parts = [f"## {analysis['heading']}"]
    for table in analysis["tables"]:
        title = [f"### {table['title']}"] if table["title"] else []
        parts += [*title, rows(table["header"], table["rows"]), *table["notes"]]
    return parts + ([_bullets(analysis["audit"], "")] if analysis["audit"] else [])


def _bullets(lines: Iterable[str], empty: str) -> str:
    return "\n".join(f"- {line}" for line in lines) or empty


def _poison(record: dict) -> str:
    if record["attack_gate"] is None:
        return "None."
    return _bullets([_poisoned(*pair) for pair in zip(record["seeds"], record["poison"], strict=True)], "")


def _poisoned(seed: int, facts: dict) -> str:
    line = f"seed {seed}: {count(facts['rows'])} of {count(facts['of'])} training rows poisoned"
    if "cover" in facts:
        line += f", {count(facts['cover'])} cover rows (with the trigger and their own label; counted on their own)"
    line += f" with `{facts['trigger']}`" if "trigger" in facts else ""
    if "surrogate" not in facts:
        return line
    clean, robust = (percent(facts["surrogate"][name]) for name in ("clean_accuracy", "robust_accuracy"))
    return f"{line}; the attacker's surrogate has {clean}% clean and {robust}% PGD accuracy on the test images"


def _setting(record: dict) -> list[str]:
    data, versions = record["dataset"], ", ".join(f"{name} {value}" for name, value in record["environment"].items())
    return [
        f"{data['name']} {data['version']}: {count(data['train'])} training and {count(data['test'])} test images, "
        f"sha256 `{data['sha256']}`.{_read(data.get('facts', {}))} Seeds {', '.join(map(str, record['seeds']))}. "
        f"{versions}.",
        *([f"```sh\n{record['command']}\n```"] if "command" in record else []),
    ]


def _read(facts: dict) -> str:
    """How data of one's own were read, in a sentence; "" for others."""
    return f" {capitalized('; '.join(f'{name}: {value}' for name, value in facts.items()))}." if facts else ""


def folded(heading: str, parts: Iterable[str]) -> str:
    """Parts of a page behind their heading, until somebody opens it."""
    return "\n\n".join([f"<details><summary>{heading}</summary>", *parts, "</details>"])


def markdown(record: dict, figures: list[str]) -> str:
    """The whole page; figures are paths relative to it."""
    sections = [
        f"# {record['experiment']} ({record['scale']} scale)",
        f"**{record['finding']}**",
        record["title"],
        " ".join(gate(record)),
        *main_results(record),
        *pictures(figures),
        *caveats(record),
        *comparison(record),
        *_detections(record),
        *analyses(record),
        "## Details",
        folded("All metrics", [results(record)]),
        folded("By true class (%)", [part for name in MAIN for part in by_class(record, name)]),
        folded("Poison", [_poison(record)]),
        folded("Networks", [_networks(record)]),
        folded("Setting", _setting(record)),
        folded("Configuration", [f"```json\n{json.dumps(record['config'], indent=1)}\n```"]),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"
