"""Records of older formats as the current one.

Everything about an old format is spelled out here, tables included, so that it stays as it was written when analyses
and metrics change.
"""

import re

from poisonjax.reports.table import plain, spread

FORMAT = 2  # of record.json

# Format 1: what it called things.
_METRICS = {"attack_success_rate_madry": "attack_success_rate_turner"}
_ARM = re.compile(r"\bpgd_at(_madry)?(?=_|\b)")
_PHRASES = (
    (re.compile(r"Nobody attacks the training data\."), "No poisoning: clean baselines."),
    (re.compile(r"Without any poison it would be ([\d.]+%)\."), r"Control without poison: \1."),
    (re.compile(r"\bhardly trained\b"), "undertrained"),
    (re.compile(r"\bno printed number\b"), "no reported number"),
    (re.compile(r"\bproxy\b"), "surrogate"),
    (re.compile(r"\bleaves no backdoor\b"), "removes the backdoor"),
    (re.compile(r"\bweakens the backdoor but leaves it\b"), "weakens the backdoor but does not remove it"),
)
_ACTIVATIONS = {
    "linear_probe_auc": "AUC of a linear probe",
    "silhouette": "silhouette",
    "mmd2": "MMD²",
    "mmd_p_value": "p-value of the MMD, mean over classes",
}
_ATTACKS = ["arm", "attack", "robust accuracy %", "median L2", "median Linf", "gradients", "queries", "images/s"]


def upgraded(record: dict) -> dict:
    """A record of any format up to FORMAT as one of FORMAT: other names and places, the same numbers."""
    return _from_1(record) if record["format"] == 1 else record


def upgraded_evaluation(evaluation: dict) -> dict:
    """An evaluation.json of format 1, which knew no trigger, or 2 as one of format 2."""
    if evaluation["format"] == 1:
        return {"attack_success_rate": None} | evaluation | {"format": 2, "arm": _text(evaluation["arm"])}
    return evaluation


def _from_1(old: dict) -> dict:
    kept = {name: part for name, part in old.items() if name != "printed"}
    return kept | {
        "format": 2,
        "finding": _text(old["finding"]),
        "config": _config(old["config"]),
        "arms": {_text(arm): _metrics(fields) for arm, fields in old["arms"].items()},
        "analyses": _analyses(old),
        "poison": [facts and _renamed(facts, {"proxy": "surrogate"}) for facts in old["poison"]],
        "reported": _cells(old["printed"]),
        "verdict": _cells(old.get("verdict", {})),
        "comparison": [_row(row) for row in old["comparison"]],
        "reasons": [_text(line) for line in old["reasons"]],
        "attack_gate": old["attack_gate"] and {"control": None, "excess": None} | old["attack_gate"],
        "warnings": [_text(line) for line in old["warnings"]],
    }


def _renamed(fields: dict, names: dict[str, str]) -> dict:
    return {names.get(name, name): field for name, field in fields.items()}


def _text(text: str) -> str:
    """Arms and phrases as they are called now; the name of an arm is a text too."""
    text = _ARM.sub(lambda found: "pgd_at" if found[1] else "pgd_at_as_reported", text)
    for phrase, instead in _PHRASES:
        text = phrase.sub(instead, text)
    return text


def _metrics(arm: dict) -> dict:
    """The fields of an arm without its analyses."""
    fields = {name: field for name, field in arm.items() if name not in ("activations", "attacks", "attacks_audit")}
    return _renamed(fields, _METRICS) | {"history": [[_renamed(row, _METRICS) for row in of] for of in arm["history"]]}


def _cells(cells: dict) -> dict:
    """{arm: {metric: cell}}, where `metric[3]` is about class 3."""

    def metric(name: str) -> str:
        whole, bracket, label = name.partition("[")
        return _METRICS.get(whole, whole) + bracket + label

    return {_text(arm): {metric(name): cell for name, cell in of.items()} for arm, of in cells.items()}


def _row(row: dict) -> dict:
    named = {"arm": _text(row["arm"]), "metric": _METRICS.get(row["metric"], row["metric"])}
    reason = {"reason": _text(row["reason"])} if "reason" in row else {}
    return _renamed(row, {"printed": "reported"}) | named | reason


def _config(old: dict) -> dict:
    train, moved = old.get("train") or {}, ("proxy", "printed", "known", "activations", "example", "suite")
    return {name: part for name, part in old.items() if name not in moved} | {
        "train": _training(train),
        "evaluation": _renamed(old.get("evaluation") or {}, {"gate": "min_attack_success"}),
        "surrogate": old.get("proxy") and _surrogate(old["proxy"]),
        "arms": [_arm(arm, train) for arm in old.get("arms", [])],
        "reported": [_reported(row) for row in old.get("printed", [])],
        "caveats": [_text(line) for line in old.get("known", [])],
        "analyses": [each for each in (old.get("activations"), old.get("example"), _suite(old.get("suite"))) if each],
    }


def _training(train: dict) -> dict:
    return {name: setting for name, setting in train.items() if name not in ("attack", "warmup")}


def _adversarial(attack: dict | None, train: dict) -> dict:
    return {"type": "AdversarialTraining", "attack": attack, "eps_warmup": train.get("warmup", 0.0)}


def _surrogate(train: dict) -> dict:
    return {
        "type": "Surrogate",
        "objective": _adversarial(train.get("attack"), train),
        "train": _training(train),
    }


def _arm(arm: dict, train: dict) -> dict:
    standard = {"type": "Standard", "temperature": 1.0}
    adversarial = _adversarial(arm.get("attack") or train.get("attack"), train)
    kept = {name: setting for name, setting in arm.items() if name not in ("adversarial", "attack")}
    objective = adversarial if arm.get("adversarial") else standard
    return kept | {"name": _text(arm["name"]), "objective": objective, "defence": None}


def _reported(row: dict) -> dict:
    metric = _METRICS.get(row["metric"], row["metric"])
    return row | {"type": "Reported", "arm": _text(row["arm"]), "metric": metric}


def _suite(suite: dict | None) -> dict | None:
    if suite is None:
        return None
    attacks = [trial | {"type": "NamedAttack"} for trial in suite["trials"]]
    return {name: part for name, part in suite.items() if name != "trials"} | {
        "type": "AttackSuite",
        "attacks": attacks,
    }


def _analyses(old: dict) -> dict:
    arms = {_text(arm): fields for arm, fields in old["arms"].items()}
    activations, attacks = (
        {arm: fields[name] for arm, fields in arms.items() if fields.get(name)} for name in ("activations", "attacks")
    )
    audit = [f"{arm}, {line}" for arm, fields in arms.items() for line in fields.get("attacks_audit") or []]
    found = {}
    if activations:
        heading = "Activations before the last layer, triggered against clean images of each class"
        found["activations"] = _analysis(heading, activations, [], _activation_tables(activations))
    if old["config"].get("example"):
        found["adversarial_example"] = _analysis("Adversarial examples", {arm: {} for arm in arms}, [], [])
    if attacks:
        found["attack_suite"] = _analysis("Test-time attacks", attacks, audit, _attack_tables(attacks))
    return found


def _analysis(heading: str, arms: dict, audit: list[str], tables: list[dict]) -> dict:
    return {"heading": heading, "arms": arms, "audit": audit, "tables": tables}


def _table(header: list[str], rows: list[list[str]], *notes: str) -> dict:
    return {"title": "", "header": header, "rows": rows, "notes": list(notes)}


def _activation_tables(arms: dict) -> list[dict]:
    rows = [[arm, *(plain(of[name]) if name in of else "–" for name in _ACTIVATIONS)] for arm, of in arms.items()]
    return [_table(["arm", *_ACTIVATIONS.values()], rows)]


def _attack_tables(arms: dict) -> list[dict]:
    tried = [(arm, name, of) for arm, attacks in arms.items() for name, of in attacks.items()]
    note = (
        f"On the first {tried[0][2]['images']} test images. Distances are medians over the images that an attack "
        "got misclassified; gradients and queries (forward passes) are the most spent on one image."
    )
    tables = [_table(_ATTACKS, [_attack_row(*each) for each in tried], note)]
    stages = [[arm, name, stage, spread(left)] for arm, name, of in tried for stage, left in of["stages"].items()]
    return [*tables, _table(["arm", "attack", "after", "robust accuracy %"], stages)] if stages else tables


def _attack_row(arm: str, name: str, of: dict) -> list[str]:
    distances = [plain(of[field]) for field in ("median_l2", "median_linf")]
    costs = [str(of[field]) for field in ("gradients", "queries")]
    return [arm, name, spread(of["robust_accuracy"]), *distances, *costs, plain(of["images_per_second"])]
