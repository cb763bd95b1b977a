"""The arms of a record: which defend against the poison, and which never saw it."""

from poisonjax.reports.table import audit


def arms(record: dict) -> list[dict]:
    """The settings of the arms that are in the record."""
    return [arm for arm in record["config"].get("arms", []) if arm["name"] in record["arms"]]


def settings(record: dict, name: str) -> dict:
    """The settings of the arm of that name."""
    return next(arm for arm in arms(record) if arm["name"] == name)


def defends(arm: dict) -> bool:
    """True if these settings are more than standard training."""
    return arm["objective"]["type"] != "Standard" or arm.get("defence") is not None


def defended(record: dict) -> list[str]:
    """The arms that defend themselves against the poison; none where nothing is poisoned."""
    poisoned = record["attack_gate"] is not None
    return [arm["name"] for arm in arms(record) if poisoned and arm.get("poisoned", True) and defends(arm)]


def controls(record: dict) -> list[str]:
    """The arms that no poison touched, those with a defence first; none where nothing is poisoned."""
    clean = [arm for arm in arms(record) if record["attack_gate"] is not None and not arm.get("poisoned", True)]
    return [arm["name"] for arm in sorted(clean, key=defends, reverse=True)]


def control(record: dict, name: str | None = None) -> str | None:
    """The sound control that an arm with a defence is held against: the same without the poison, or else the first."""
    alike = [arm["name"] for arm in arms(record) if arm["name"] in controls(record) and _is_twin(record, arm, name)]
    return next((arm for arm in [*alike, *controls(record)] if not audit(record, arm)), None)


def _is_twin(record: dict, arm: dict, name: str | None) -> bool:
    """True if the settings are those of the arm of that name, but for the poison."""
    same = [of for of in arms(record) if of["name"] == name]
    return bool(same) and same[0] | {"name": arm["name"], "poisoned": arm.get("poisoned", True)} == arm
