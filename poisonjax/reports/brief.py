"""The finding of a record in a line, as the title of a picture."""

from poisonjax.reports.aims import aim, success
from poisonjax.reports.arms import arms, control, defended, defends
from poisonjax.reports.table import audit, has
from poisonjax.reports.verdict import REMOVED, SURVIVES, VOID, WEAKENED, fate

ROBUST = "robust_accuracy"
VERBS = {SURVIVES: "survives", WEAKENED: "is weakened, but not removed, by", REMOVED: "is removed by"}
FEW = 4  # networks that a title names one by one
MANY = 8  # defences that a title counts, beyond so many


def finding(record: dict) -> str:
    """The same as the record's own finding says, without reasons and in fewer words."""
    if record["attack_gate"] is None:
        return _robustness(record)
    undefended = [arm["name"] for arm in arms(record) if not defends(arm)]
    if not record["attack_gate"]["passed"] or any(audit(record, arm) for arm in undefended):
        return record["finding"]
    return _fates(record)


def _fates(record: dict) -> str:
    by_fate = {}
    for arm in defended(record):
        by_fate.setdefault(_fate(record, arm), []).append(arm)
    told = _listed if len(defended(record)) <= MANY else _counted
    said = [f"{verb} {told(record, by_fate[each])}" for each, verb in VERBS.items() if each in by_fate]
    before = f"{_rate(record, 'standard')} after standard training"
    parts = [f"The {aim(record).effect} ({before}) {_and(said) if said else 'works'}"]
    if VOID in by_fate:
        parts.append(f"nothing follows for {_and(by_fate[VOID])}")
    clean = control(record)
    return "; ".join(parts if clean is None else [*parts, f"control without poison {_rate(record, clean)}"])


def _fate(record: dict, arm: str) -> str:
    if audit(record, arm):
        return VOID
    clean = control(record, arm)
    level = None if clean is None else success(record, clean)
    return fate(success(record, arm), level, record["attack_gate"]["threshold"])


def _rate(record: dict, arm: str) -> str:
    return f"{record['arms'][arm][aim(record).metric]['mean']:.1%}"


def _listed(record: dict, names: list[str]) -> str:
    return _and([f"{arm} ({_rate(record, arm)})" for arm in names])


def _counted(record: dict, names: list[str]) -> str:
    """How many they are, and the range of their rates."""
    if len(names) <= 2:
        return _listed(record, names)
    rates = sorted(record["arms"][arm][aim(record).metric]["mean"] for arm in names)
    return f"{len(names)} defences ({100 * rates[0]:.1f} to {rates[-1]:.1%})"


def _and(names: list[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _robustness(record: dict) -> str:
    """PGD accuracy of the sound networks, the best first."""
    sound = {
        arm: of[ROBUST]["mean"] for arm, of in record["arms"].items() if has(of, ROBUST) and not audit(record, arm)
    }
    if not sound:
        return "Nothing follows: no network is sound"
    ranked = sorted(sound, key=sound.get, reverse=True)
    said = [f"{sound[arm]:.1%} after {arm}" for arm in ranked]
    return f"PGD accuracy {', '.join(said)}" if len(said) <= FEW else f"PGD accuracy from {said[-1]} to {said[0]}"
