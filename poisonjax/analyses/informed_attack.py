"""Attackers who know the defence: the same attack, aware of detectors and of logits that are too far apart."""

import dataclasses
from collections.abc import Callable, Hashable
from typing import ClassVar, NamedTuple

import numpy as np

from poisonjax.attacks import Attack, evade, scaled
from poisonjax.attacks.settings import check_counts
from poisonjax.evaluation.analysis import Analysis, Subject, Table
from poisonjax.evaluation.victim import REJECTED, Victim, structure
from poisonjax.keys import row_keys
from poisonjax.reports import statistics
from poisonjax.reports.table import spread
from poisonjax.runtime import distributed
from poisonjax.types import Array, Examples, take, to_unit


class Withstood(NamedTuple):
    """Images [n] bool that are predicted as labelled or rejected: clean, and in the face of either attacker."""

    clean: np.ndarray
    unaware: np.ndarray
    aware: np.ndarray


@dataclasses.dataclass(frozen=True)
class InformedAttack(Analysis):
    """The attack as it is, which sees the logits alone, beside what an attacker who knows the defence makes of it.

    Unless an attack is aimed at the defence that it is tried on, nothing follows from its failure (Carlini & Wagner
    2017; Tramer et al. 2020). The attacker who knows runs it on logits divided by each of the `temperatures`, which
    bring back the gradient of a loss that they saturate, and past the detector if there is one, for which a rejected
    image is a failure; an image withstands it if it withstands all of these and the attack as it is. Reformers and
    masks are always within the gradient. Defences against poison in the training rows are not its subject: for those,
    poisons are made by who knows them.

    attack: None for the experiment's. temperatures: above 0, with the one that a defence was trained at. images: how
    many, the first of the test split. batch: images at a time, which detectors that look at an image many times need
    to be small. ValueError for an impossible value.
    """

    attack: Attack | None = None
    temperatures: tuple[float, ...] = (1.0, 100.0)
    images: int = 200
    batch: int = 50

    name: ClassVar[str] = "informed_attack"
    arrays: ClassVar[type] = Withstood
    heading: ClassVar[str] = "Attackers who know the defence"

    def __post_init__(self):
        check_counts(self, "images", "batch")
        if not self.temperatures or not all(each > 0 for each in self.temperatures):
            raise ValueError(f"temperatures must be at least one number above 0, got {self.temperatures}")

    def collect(self, subject: Subject) -> Withstood:
        """The images that withstand."""
        few, attack = take(subject.examples, slice(self.images)), self.attack or subject.attack
        program = _withstood(structure(subject.victim), attack, self.temperatures)
        with subject.progress("", len(few.label)) as advance:
            return Withstood(*program(few, self.batch, subject.victim, subject.key, advance=advance))

    def measure(self, arrays: Withstood, subject: Subject) -> dict:
        """{name: [images, of all]}."""
        return {name: [int(np.sum(of)), len(of)] for name, of in arrays._asdict().items()}

    def summary(self, measured: list[dict]) -> dict:
        """The shares over seeds, and the number of images."""
        names = {name: [seed[name][0] / seed[name][1] for seed in measured] for name in measured[0]}
        return {name: statistics.spread(of) for name, of in names.items()} | {"images": measured[0]["clean"][1]}

    def tables(self, summaries: dict[str, dict]) -> list[Table]:
        """A row for each arm."""
        header = ["arm", "clean images %", "under the attack %", "under that of who knows the defence %"]
        rows = [[arm, *(spread(of[name]) for name in Withstood._fields)] for arm, of in summaries.items()]
        note = (
            f"The first {next(iter(summaries.values()))['images']} test images: those predicted as labelled, or "
            "rejected. Who knows the defence evades its detector, and divides logits that are too far apart by "
            f"{' or '.join(f'{each:g}' for each in self.temperatures)}."
        )
        return [Table("", header, rows, [note])]


@distributed.cached
def _withstood(victim: Hashable, attack: Attack, temperatures: tuple[float, ...]) -> Callable:
    def look(examples: Examples, victim: Victim, key: Array) -> Withstood:
        x, keys = to_unit(examples.image), row_keys(key, examples.index, 0)
        unaware = _withstands(victim, attack(victim.logits, x, examples.label, keys), examples.label)
        aware = unaware
        for temperature in temperatures:
            shown = _aware(victim, attack)(scaled(victim.logits, temperature), x, examples.label, keys)
            aware &= _withstands(victim, shown, examples.label)
        return Withstood(_withstands(victim, x, examples.label), unaware, aware)

    return distributed.over_rows(look)


def _aware(victim: Victim, attack: Attack) -> Attack:
    """The attack past the detector of the victim, if it has one."""
    if victim.suspicion is None:
        return attack
    return evade(lambda x: victim.suspicion(x) - victim.threshold, 0.0, attack)


def _withstands(victim: Victim, x: Array, labels: Array) -> Array:
    """The images x [b ...] that are predicted as labelled [b], or rejected, [b] bool."""
    predicted = victim.classify(x, victim.logits(x))
    return (predicted == labels) | (predicted == REJECTED)
