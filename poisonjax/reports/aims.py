"""The aim of the attacker in a record, and how far it was reached."""

from poisonjax.poisons.aim import BACKDOOR, Aim
from poisonjax.reports import verdict


def aim(record: dict) -> Aim:
    """The aim of the poison; that of a backdoor in records of before there were others."""
    return Aim(**record["aim"]) if record.get("aim") else BACKDOOR


def success(record: dict, arm: str) -> float | None:
    """The attacker's success on an arm; None where it was not measured."""
    return verdict.success(aim(record), record["arms"][arm])
