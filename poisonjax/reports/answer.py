"""The answer: what becomes of each poison in each network, one case per experiment, from records alone."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from poisonjax.evaluation.metrics import METRICS
from poisonjax.poisons.aim import BACKDOOR, Aim
from poisonjax.reports import arms
from poisonjax.reports.aims import aim, success
from poisonjax.reports.site.reading import Run
from poisonjax.reports.table import audit, capitalized, percent, plural, rows, spread
from poisonjax.reports.verdict import FAILED, REMOVED, SURVIVES, VOID, WEAKENED, fate
from poisonjax.scales import rank

SIGNS = {SURVIVES: "●", WEAKENED: "◐", REMOVED: "○", FAILED: "–", VOID: "†"}  # a fate, also without colour
MEANINGS = {
    SURVIVES: "the attack still works",
    WEAKENED: "it works less, but more than on clean data",
    REMOVED: "as often as without the poison, within 5 points",
    FAILED: "not on standard training either: nothing follows",
    VOID: "a network collapsed or is undertrained: nothing follows",
}
VERBS = {SURVIVES: "does not remove", WEAKENED: "weakens but does not remove", REMOVED: "removes"}
REASONS = {FAILED: "the attack did not work on standard training", VOID: "a network collapsed or is undertrained"}
WORDS = {  # poisons whose type is not what people call them
    "CleanLabel": "clean label",
    "WithCover": "with cover rows",
    "NoisyLabels": "with noisy labels",
    "AdversarialPoison": "adversarial poison",
    "ClassNoise": "class-wise noise",
    "EntangledFeatures": "entangled features",
    "ExplanationGuided": "explanation-guided",
    "HiddenTrigger": "hidden trigger",
    "SleeperAgent": "sleeper agent",
}
QUESTION = "pgd_at"  # the defence that the report asks about, as Madry et al. 2018 have it


class Outcome(NamedTuple):
    """What one training makes of the poison. rate: the metric that the attacker's aim is about."""

    arm: str
    rate: dict
    fate: str


class Case(NamedTuple):
    """A poison and a network. asked: of the defence in question. best: of the sound one of another kind that the
    attacker likes least; None without one.

    control: the metric of the attacker's aim of the defence, or else of standard training, on clean data; None if not
    measured.
    """

    run: Run
    standard: dict
    asked: Outcome
    best: Outcome | None
    control: float | None
    aim: Aim


def cases(runs: Iterable[Run]) -> list[Case]:
    """One case for each poisoned experiment and type of network: of its largest scale, then of most seeds.

    Of two experiments on one trained network, at any scale, the one that the report has numbers of stands for both.
    """
    asked, owners, chosen = sorted(filter(_answers, runs), key=_preference), {}, {}
    for run in asked:
        owners.setdefault(_network(run), run.record["experiment"])
    for run in asked:
        name = run.record["experiment"]
        if owners[_network(run)] == name:
            chosen.setdefault((name, _plain(run.record["config"].get("model"))), _case(run))
    return [chosen[key] for key in sorted(chosen, key=lambda key: _order(key[0]))]


def _answers(run: Run) -> bool:
    """True for the poisoned run of an experiment as it stands, with a defence."""
    record = run.record
    tried = record["attack_gate"] is not None and "standard" in record["arms"]
    return tried and not record["changed"] and bool(arms.defended(record))


def _network(run: Run) -> str:
    """The settings that a network trained in the standard way depends on."""
    return repr([run.record["config"].get(part) for part in ("data", "model", "poison", "train")])


def _preference(run: Run) -> tuple:
    record = run.record
    return rank(record["scale"]), -len(record["seeds"]), not record["comparison"], run.path.as_posix()


def _order(name: str) -> tuple[bool, str]:
    return not name.startswith("mnist"), name


def _case(run: Run) -> Case:
    record, wanted = run.record, aim(run.record)
    outcomes = {name: _outcome(record, name) for name in arms.defended(record)}
    asked = outcomes.get(QUESTION) or next(iter(outcomes.values()))
    others = [each for each in outcomes.values() if _kind(record, each.arm) != _kind(record, asked.arm)]
    sound = [each for each in others if each.fate != VOID and each.rate["mean"] is not None]
    best = min(sound, key=lambda each: wanted.success(each.rate["mean"]), default=None)
    clean = arms.control(record, asked.arm)
    control = None if clean is None else record["arms"][clean][wanted.metric]["mean"]
    return Case(run, record["arms"]["standard"][wanted.metric], asked, best, control, wanted)


def _kind(record: dict, name: str) -> tuple:
    """The settings by which a defence counts as another: not those of its attack, but for the ball."""
    arm = arms.settings(record, name)
    objective = arm["objective"]
    return objective["type"], (objective.get("attack") or {}).get("ball"), arm.get("defence")


def _outcome(record: dict, name: str) -> Outcome:
    rate, gate, clean = record["arms"][name][aim(record).metric], record["attack_gate"], arms.control(record, name)
    if audit(record, name) or audit(record, "standard"):
        return Outcome(name, rate, VOID)
    if not gate["passed"]:
        return Outcome(name, rate, FAILED)
    control = None if clean is None else success(record, clean)
    return Outcome(name, rate, fate(success(record, name), control, gate["threshold"]))


def network(case: Case) -> str:
    """The network of a case."""
    return _plain(case.run.record["config"].get("model"))


def _plain(part: dict | None) -> str:
    """The type of a part, without the file that it comes from."""
    return "–" if part is None else part["type"].rpartition(":")[2]


def data(case: Case) -> str:
    """The data set of a case, and that classes are rare where they are."""
    subset = case.run.record["config"].get("data", {}).get("train", {}).get("type")
    return case.run.record["dataset"]["name"] + (", unbalanced" if subset == "Unbalanced" else "")


def poison(case: Case) -> str:
    """The poison of a case in words: its type, and all-to-all where it has no single target."""
    return _poison(case.run.record["config"].get("poison"))


def _poison(settings: dict | None) -> str:
    words = WORDS.get(_plain(settings), _plain(settings))
    if settings and "poison" in settings:  # one poison around another
        return f"{_poison(settings['poison'])} {words}"
    return ("all-to-all " if settings and settings.get("target", 0) is None else "") + words


def measure(case: Case) -> str:
    """The metric that the rates of a case are, where that is not the attack success rate."""
    return "" if case.aim == BACKDOOR else METRICS[case.aim.metric]


def measures(found: Iterable[Case]) -> str:
    """The metrics that the rates of the cases are, to begin a sentence with."""
    names = dict.fromkeys(map(measure, found))
    others = [f"{name} where the poison is to spoil that" for name in names if name]
    said = ", or ".join(["attack success rates", *others] if "" in names or not names else others)
    return capitalized(said)


def setting(case: Case) -> str:
    """The scale and the number of seeds."""
    return f"{case.run.record['scale']}, {plural(len(case.run.record['seeds']), 'seed')}"


HEADER = ["data", "network", "poison", "standard", "PGD-AT", "best other", "control", "after PGD-AT", "measured at"]


def cells(case: Case) -> list[str]:
    """The cells under HEADER; rates in percent, with the standard deviation over seeds."""
    kind = poison(case) + (f" ({measure(case)})" if measure(case) else "")
    best = "–" if case.best is None else f"{spread(case.best.rate)} ({case.best.arm})"
    asked = spread(case.asked.rate) + (f" {SIGNS[VOID]}" if case.asked.fate == VOID else "")
    rates = [spread(case.standard), asked, best, percent(case.control)]
    return [
        data(case),
        network(case),
        kind,
        *rates,
        f"{SIGNS[case.asked.fate]} {case.asked.fate}",
        setting(case),
    ]


def legend(found: Iterable[Case]) -> str:
    """The meanings of the fates that occur."""
    used = {case.asked.fate for case in found}
    return "; ".join(f"{SIGNS[each]} {each}: {MEANINGS[each]}" for each in MEANINGS if each in used)


def matrix(found: list[Case], prefix: str) -> str:
    """All cases as a Markdown table with links to their reports. prefix: from the page to the folder of the records."""
    body = [cells(case) for case in found]
    for line, case in zip(body, found, strict=True):
        line[2] = f"[{line[2]}]({prefix}{case.run.path}/report.md)"
    return f"{rows(HEADER, body)}\n\n{measures(found)} in percent. {legend(found)}."


def headline(found: list[Case]) -> str:
    """The answer: a line for each fate, with the networks and poisons that it is true of."""
    if not found:
        return "No poison was tried."
    lines = "\n".join(f"- {sentence}" for _, sentence in sentences(found))
    return f"{lines}\n\n{measures(found)} after it; control: without the poison.{budgets(found)}"


def budgets(found: list[Case]) -> str:
    """A sentence on the balls of the defence in question, by data set, with a space before it; "" without any.

    Another ball may have another fate, as one that covers the trigger.
    """
    places = {}
    for case in found:
        ball = (_asked(case)["objective"].get("attack") or {}).get("ball") or {}
        if "eps" in ball:
            places.setdefault(f"{ball['type']} {ball['eps']:.3g}", {})[case.run.record["dataset"]["name"]] = None
    where = "; ".join(f"{ball} on {_listed(list(names))}" for ball, names in places.items())
    return f" The budget of the adversarial training: {where}." if where else ""


def sentences(found: list[Case]) -> list[tuple[str, str]]:
    """(fate, sentence) of each fate that a defence in question leads to, in the order of MEANINGS; then of the best.

    The best other one has a sentence where it removes what that in question does not.
    """
    asked = _grouped(found, lambda case: case.asked, defence)
    better = [case for case in found if case.best and case.best.fate == REMOVED != case.asked.fate]
    return asked + _grouped(better, lambda case: case.best, lambda case: case.best.arm)


def _grouped(
    found: list[Case], outcome: Callable[[Case], Outcome], named: Callable[[Case], str]
) -> list[tuple[str, str]]:
    """(fate, sentence) of an outcome of each case, those of one fate, defence and effect together."""
    same = {}
    for case in sorted(found, key=lambda case: list(MEANINGS).index(outcome(case).fate)):
        same.setdefault((outcome(case).fate, named(case), case.aim.effect), []).append(case)
    return [(about[0], _sentence(*about, of, outcome)) for about, of in same.items()]


def defence(case: Case) -> str:
    """The defence in question: PGD adversarial training, or else the name of its arm."""
    settings = _asked(case)
    attack, alone = settings["objective"].get("attack"), settings.get("defence") is None
    plain = settings["objective"]["type"] == "AdversarialTraining" and attack and attack.get("type") == "PGD"
    return "PGD adversarial training" if plain and alone else case.asked.arm


def _asked(case: Case) -> dict:
    """The settings of the defence in question."""
    return arms.settings(case.run.record, case.asked.arm)


def _sentence(fate: str, by: str, effect: str, found: list[Case], outcome: Callable[[Case], Outcome]) -> str:
    """One fate of one effect by one defence, network by network."""
    networks = {}
    for case in found:
        networks.setdefault(network(case), []).append(case)
    where = ", ".join(f"in {name} {_places(of, outcome)}" for name, of in networks.items())
    if fate in VERBS:
        return f"{by} **{VERBS[fate]}** the {effect} {where}."
    return f"Nothing follows {where}: {REASONS[fate]}."


def _places(found: list[Case], outcome: Callable[[Case], Outcome]) -> str:
    """The data sets and poisons of the cases of one network, with their rates; only the span of more than two."""
    names = list(dict.fromkeys(case.run.record["dataset"]["name"] for case in found))
    where = f"on {_listed(names)}"
    if outcome(found[0]).fate not in VERBS:
        return f"{where} ({'; '.join(map(poison, found))})"
    if len(found) > 2:
        return f"{where} ({len(found)} cases: {_rates(found, outcome)})"
    return f"{where} ({'; '.join(f'{poison(case)} {_rates([case], outcome)}' for case in found)})"


def _listed(names: list[str]) -> str:
    """Names as in `a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _rates(found: list[Case], outcome: Callable[[Case], Outcome]) -> str:
    """The rates of the cases, and of their controls where they have one."""
    controls = [case.control for case in found if case.control is not None]
    rates = _span([outcome(case).rate["mean"] for case in found])
    return f"{rates}, control {_span(controls)}" if controls else rates


def _span(rates: list[float]) -> str:
    """The least and the greatest of the rates, in percent; below 1 % with a decimal."""
    return " to ".join(dict.fromkeys(f"{rate:.{int(0 < rate < 0.01)}%}" for rate in (min(rates), max(rates))))
