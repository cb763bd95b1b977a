"""The content of the pages of evaluations, one network under one attack each, without HTML."""

from poisonjax.reports import attack, statistics
from poisonjax.reports.site import numbers, views
from poisonjax.reports.table import percent

SHARES = {"clean": "clean accuracy", "robust": "robust accuracy", "attack_success_rate": "attack success rate"}


def shares(record: dict) -> dict[str, dict | None]:
    """{name: mean, std and ci95} of what was counted; None for what was not."""
    return {name: record[name] and share(*record[name]) for name in SHARES}


def share(hits: int, images: int) -> dict:
    """Mean, std and ci95 of a count."""
    return {"mean": hits / images, "std": None, "ci95": statistics.wilson(hits, images)}


def stages(record: dict) -> list[tuple[str, dict]]:
    """The accuracy that is left before the attack, after each of its stages, and in the end."""
    between = [(f"after {name}", {"mean": left, "std": None, "ci95": None}) for name, left in record["stages"].items()]
    found = shares(record)
    return [("without attack", found["clean"]), *between, ("robust accuracy", found["robust"])]


def ball(record: dict) -> str:
    """The changes that the attack may make, as in `Linf 0.3`; those that it minimises, as in `smallest L2`."""
    settings = record["attack"]
    if of := settings.get("ball"):
        return f"{of['type']} {of['eps']:.3g}" if "eps" in of else of["type"]
    return f"smallest {settings['norm']}" if "norm" in settings else "–"


def finding(record: dict) -> str:
    """The result in a sentence."""
    (kept, images), clean = record["robust"], record["clean"][0]
    where = "" if ball(record) == "–" else f" ({ball(record)})"
    return (
        f"{percent(kept / images)}% of {images} test images are classified correctly under {record['attack']['type']}"
        f"{where}; {percent(clean / images)}% without attack."
    )


def budget(record: dict) -> list[tuple[str, str]]:
    """The costs, and every setting of the attack."""
    names = [f"{name} per image, at most" for name in ("gradients", "queries")]
    costs = [row for row in attack.cells(record) if row[0] in (*names, "images/s")]
    settings = [(at, views.spell(of)) for at, of in numbers.flat(record["attack"], "attack").items()]
    return [("images", str(record["images"])), *map(tuple, costs), *settings]


def distances(record: dict) -> list[tuple[str, str]]:
    """The median distances of the images that the attack got misclassified."""
    return [tuple(row) for row in attack.cells(record) if row[0].startswith("median ")]
