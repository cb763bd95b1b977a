"""The answer: what becomes of each backdoor in each network, one case per experiment, from records alone."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from poisonjax.reports.site.reading import Run
from poisonjax.reports.table import audit, named, percent, plural, rows
from poisonjax.reports.verdict import FAILED, REMOVED, SURVIVES, VOID, WEAKENED, fate
from poisonjax.scales import rank

RATE = "attack_success_rate"
SIGNS = {SURVIVES: "●", WEAKENED: "◐", REMOVED: "○", FAILED: "–", VOID: "†"}  # a fate, also without colour
MEANINGS = {
    SURVIVES: "the attack still works",
    WEAKENED: "it works less, but more than on clean data",
    REMOVED: "as often as without the poison, within 5 points",
    FAILED: "it did not work on standard training: nothing follows",
    VOID: "a network collapsed or is undertrained: nothing follows",
}
QUESTION = "pgd_at"  # the defence that the report asks about, as Madry et al. 2018 have it


class Outcome(NamedTuple):
    """What one training makes of the backdoor. rate: the metric of its attack success, None where there is no arm."""

    arm: str
    rate: dict
    fate: str


class Case(NamedTuple):
    """A backdoor in a network. asked: of the defence in question; best: of that with the lowest attack success.

    control: attack success rate of the defence, or else of standard training, on clean data; None if not measured.
    """

    run: Run
    standard: dict
    asked: Outcome
    best: Outcome
    control: float | None


def cases(runs: Iterable[Run]) -> list[Case]:
    """One case for each poisoned experiment: of its largest scale, then of most seeds; each network once."""
    sized = sorted(runs, key=lambda run: (rank(run.record["scale"]), -len(run.record["seeds"]), run.path.as_posix()))
    chosen, seen = {}, set()
    for run in sized:
        record = run.record
        same = repr([record["config"].get(part) for part in ("data", "model", "poison", "train")])
        if record["attack_gate"] is None or record["changed"] or record["experiment"] in chosen or same in seen:
            continue
        if _defended(record) and "standard" in record["arms"]:
            seen.add(same)
            chosen[record["experiment"]] = _case(run)
    return [chosen[name] for name in sorted(chosen, key=_order)]


def _order(name: str) -> tuple[bool, str]:
    return not name.startswith("mnist"), name


def _arms(record: dict) -> list[dict]:
    """The settings of the arms that are in the record."""
    return [arm for arm in record["config"].get("arms", []) if arm["name"] in record["arms"]]


def _defends(arm: dict) -> bool:
    return arm["objective"]["type"] != "Standard" or arm.get("defence") is not None


def _defended(record: dict) -> list[str]:
    return [arm["name"] for arm in _arms(record) if arm.get("poisoned", True) and _defends(arm)]


def _control(record: dict) -> float | None:
    """The attack success rate of a sound network that no poison touched, with a defence if there is one."""
    clean = sorted((arm for arm in _arms(record) if not arm.get("poisoned", True)), key=_defends, reverse=True)
    return next((record["arms"][arm["name"]][RATE]["mean"] for arm in clean if not audit(record, arm["name"])), None)


def _case(run: Run) -> Case:
    record, control = run.record, _control(run.record)
    outcomes = {name: _outcome(record, name, control) for name in _defended(record)}
    asked = outcomes.get(QUESTION) or next(iter(outcomes.values()))
    sound = [each for each in outcomes.values() if each.fate != VOID and each.rate["mean"] is not None]
    best = min(sound, key=lambda each: each.rate["mean"], default=asked)
    return Case(run, record["arms"]["standard"][RATE], asked, best, control)


def _outcome(record: dict, name: str, control: float | None) -> Outcome:
    rate, gate = record["arms"][name][RATE], record["attack_gate"]
    if audit(record, name) or audit(record, "standard"):
        return Outcome(name, rate, VOID)
    return Outcome(name, rate, fate(rate["mean"], control, gate["threshold"]) if gate["passed"] else FAILED)


def network(case: Case) -> str:
    """The network of a case."""
    return _plain(named(case.run.record["config"].get("model")))


def _plain(name: str) -> str:
    """The name of a type without the file that it comes from."""
    return name.rpartition(":")[2]


def data(case: Case) -> str:
    """The data set of a case, and that classes are rare where they are."""
    subset = named(case.run.record["config"].get("data", {}).get("train"))
    return case.run.record["dataset"]["name"] + (", unbalanced" if subset == "Unbalanced" else "")


def poison(case: Case) -> str:
    """The poison of a case in words: its type, and all-to-all where it has no single target."""
    settings = case.run.record["config"].get("poison") or {"type": "–"}
    name = _plain(settings["type"])
    words = re.sub(r"(?<=[a-z])(?=[A-Z][a-z]+$)", " ", name) if name != "BadNets" else name
    return words + (", all-to-all" if settings.get("target", 0) is None else "")


def setting(case: Case) -> str:
    """The scale and the number of seeds."""
    return f"{case.run.record['scale']}, {plural(len(case.run.record['seeds']), 'seed')}"


HEADER = ["data", "network", "poison", "standard", "PGD-AT", "best defence", "control", "after PGD-AT", "measured at"]


def cells(case: Case) -> list[str]:
    """The cells under HEADER."""
    best = f"{percent(case.best.rate['mean'])} ({case.best.arm})"
    rates = [percent(case.standard["mean"]), percent(case.asked.rate["mean"]), best, percent(case.control)]
    return [
        data(case),
        network(case),
        poison(case),
        *rates,
        f"{SIGNS[case.asked.fate]} {case.asked.fate}",
        setting(case),
    ]


def matrix(found: list[Case]) -> str:
    """The attack success rates of all cases as a Markdown table, and what its signs mean."""
    used = {case.asked.fate for case in found}
    legend = "; ".join(f"{SIGNS[each]} {each}: {MEANINGS[each]}" for each in MEANINGS if each in used)
    return "\n\n".join([rows(HEADER, [cells(case) for case in found]), f"Attack success rates in percent. {legend}."])


def headline(found: list[Case]) -> str:
    """The answer in a sentence for each fate, naming the networks and the attacks that it is true of."""
    return " ".join(sentence for _, sentence in sentences(found))


def sentences(found: list[Case]) -> list[tuple[str, str]]:
    """(fate, sentence) of each fate that a defence in question leads to, in the order of MEANINGS."""
    asked = [(each, training(case)) for each in MEANINGS for case in found if case.asked.fate == each]
    of = {pair: [case for case in found if (case.asked.fate, training(case)) == pair] for pair in asked}
    return [(fate, _sentence(fate, defence, same)) for (fate, defence), same in of.items()]


def training(case: Case) -> str:
    """The defence in question: PGD adversarial training, or else the name of its arm."""
    arm = next(arm for arm in _arms(case.run.record) if arm["name"] == case.asked.arm)
    attack = arm["objective"].get("attack")
    plain = arm["objective"]["type"] == "AdversarialTraining" and arm.get("defence") is None
    return "PGD adversarial training" if plain and attack and attack.get("type") == "PGD" else case.asked.arm


VERBS = {
    SURVIVES: "**does not remove** the backdoor of",
    WEAKENED: "**weakens, but does not remove** the backdoor of",
    REMOVED: "**removes** the backdoor of",
}


def _sentence(outcome: str, defence: str, found: list[Case]) -> str:
    where = "; ".join(f"{poison(case)} in {network(case)} on {data(case)}{_rates(case)}" for case in found)
    if outcome in VERBS:
        return f"{defence} {VERBS[outcome]} {where}."
    return f"Nothing follows for {where}: {MEANINGS[outcome].partition(':')[0]}."


def _rates(case: Case) -> str:
    if case.asked.fate in (FAILED, VOID):
        return ""
    control = "" if case.control is None else f", control {case.control:.0%}"
    return f" ({case.asked.rate['mean']:.0%}{control}; {setting(case)})"
