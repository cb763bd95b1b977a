"""Many test-time attacks on one network: robust accuracy, distance and cost of each, and signs of gradient masking."""

import dataclasses
import functools
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np

from poisonjax.attacks import Attack
from poisonjax.attacks.settings import check_counts
from poisonjax.evaluation import attack_run, masking
from poisonjax.evaluation.analysis import Analysis, Figure, Subject, Table
from poisonjax.poisons.base import Poison
from poisonjax.reports import statistics
from poisonjax.reports.images import Column, class_name, sheet
from poisonjax.reports.table import plain, spread
from poisonjax.runtime import distributed
from poisonjax.runtime.workdir import cached_json, load_arrays, save_arrays
from poisonjax.types import Examples, take, to_unit

HEADER = ["arm", "attack", "robust accuracy %", "median L2", "median Linf", "gradients", "queries", "images/s"]


class Collected(NamedTuple):
    """clean: a few images [n h w c] in [0, 1]. adversarial: those of each attack [a n h w c]. labels: [n]."""

    clean: np.ndarray
    adversarial: np.ndarray
    labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class NamedAttack:
    """An attack and its name in tables."""

    name: str
    attack: Attack


@dataclasses.dataclass(frozen=True)
class AttackSuite(Analysis):
    """Many attacks on the first test images.

    attacks: with different names. images: number of images attacked. batch: images at a time. shown: images in the
    picture. ValueError for an impossible value or a repeated name.
    """

    attacks: tuple[NamedAttack, ...]
    images: int = 200
    batch: int = 100
    shown: int = 4

    name: ClassVar[str] = "attack_suite"
    arrays: ClassVar[type] = Collected
    heading: ClassVar[str] = "Test-time attacks"

    def __post_init__(self):
        check_counts(self, "images", "batch", "shown")
        names = [named.name for named in self.attacks]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"attacks must have different names, got {twice[0]} twice")

    def check(self, examples: Examples, poison: Poison) -> None:
        """ValueError if an attack needs more classes."""
        for named in self.attacks:
            if poison.classes < named.attack.fewest_classes:
                raise ValueError(
                    f"attack {named.name} needs at least {named.attack.fewest_classes} classes, got {poison.classes}"
                )

    def collect(self, subject: Subject) -> Collected:
        """A few images, clean and under every attack; attacks that were run already are not repeated."""
        few = [self._attacked(subject, named)[1] for named in self.attacks]
        clean = to_unit(jnp.asarray(subject.examples.image[: self.shown]))
        return Collected(np.asarray(clean), np.stack(few), np.asarray(subject.examples.label[: self.shown]))

    def measure(self, arrays: Collected, subject: Subject) -> dict:
        """attacks: {name: its `attack_run.numbers`}. audit: signs of gradient masking."""
        examples = take(subject.examples, slice(self.images))
        numbers = {named.name: self._attacked(subject, named)[0] for named in self.attacks}
        outputs = attack_run.clean_outputs(subject.victim, examples, [a.attack for a in self.attacks], self.batch)
        outcomes = [o for a in self.attacks for o in masking.outcomes(a.name, a.attack, numbers[a.name])]
        return {"attacks": numbers, "audit": masking.masking(outcomes, outputs)}

    def _attacked(self, subject: Subject, named: NamedAttack) -> tuple[dict, np.ndarray]:
        """The numbers of one attack and some of its images, computed once."""
        folder, make = subject.folder, functools.partial(self._attack, subject, named)
        numbers = cached_json(folder / f"{named.name}.json", make, share=distributed.from_primary)
        return numbers, distributed.from_primary(lambda: load_arrays(folder / f"{named.name}.npz", _Few)).adversarial

    def _attack(self, subject: Subject, named: NamedAttack) -> dict:
        examples = take(subject.examples, slice(self.images))

        def progress(stage: str, images: int):
            return subject.progress(f"{named.name} {stage}".rstrip(), images)

        result = attack_run.run(subject.victim, examples, named.attack, subject.key, self.batch, progress=progress)
        save_arrays(subject.folder / f"{named.name}.npz", _Few(result.adversarial[: self.shown]))
        clean = np.asarray(to_unit(jnp.asarray(examples.image)))
        return attack_run.numbers(clean, examples.label, result, named.attack)

    def audit(self, measured: dict) -> list[str]:
        """Signs of gradient masking."""
        return measured["audit"]

    def summary(self, measured: list[dict]) -> dict:
        """{attack: numbers over seeds}."""
        names = measured[0]["attacks"]
        return {name: _over_seeds([seed["attacks"][name] for seed in measured]) for name in names}

    def tables(self, summaries: dict[str, dict]) -> list[Table]:
        """Every attack on every network, and the accuracy left after each stage of ensembles."""
        results = [(arm, name, cells) for arm, attacks in summaries.items() for name, cells in attacks.items()]
        note = (
            f"On the first {results[0][2]['images']} test images. Distances are medians over the images that an attack "
            "got misclassified; gradients and queries (forward passes) are the most spent on one image."
        )
        tables = [Table("", HEADER, [[arm, *_row(name, cells)] for arm, name, cells in results], [note])]
        stages = [[arm, name, at, spread(left)] for arm, name, cells in results for at, left in cells["stages"].items()]
        return [*tables, Table("", ["arm", "attack", "after", "robust accuracy %"], stages)] if stages else tables

    def figures(self, arrays: dict[str, Collected], title: str, names: tuple[str, ...]) -> dict[str, Figure]:
        """Some images, one row each, beside the adversarial image of every attack; a picture for each arm."""
        return {f"attacks_{arm}": self._grid(of, f"{title}: attacks on {arm}", names) for arm, of in arrays.items()}

    def _grid(self, collected: Collected, title: str, names: tuple[str, ...]) -> Figure:
        pairs = zip(self.attacks, collected.adversarial, strict=True)
        attacked = [Column(named.name, few) for named, few in pairs]
        labels = [f"true: {class_name(label, names)}" for label in collected.labels]
        return sheet(title, labels, attacked, Column("clean", collected.clean))


class _Few(NamedTuple):
    """A few images of one attack, [n h w c]."""

    adversarial: np.ndarray


def _over_seeds(seeds: list[dict]) -> dict:
    """The numbers of one attack for each seed -> their spread over seeds."""
    spreads, first = ("median_l2", "median_linf", "images_per_second"), seeds[0]
    return {
        "robust_accuracy": statistics.spread([seed["robust"][0] / seed["robust"][1] for seed in seeds]),
        "images": first["robust"][1],
        **{name: statistics.spread([seed[name] for seed in seeds]) for name in spreads},
        **{name: first[name] for name in ("gradients", "queries")},
        "stages": {name: statistics.spread([seed["stages"][name] for seed in seeds]) for name in first["stages"]},
    }


def _row(name: str, cells: dict) -> list[str]:
    distances = [plain(cells[field]) for field in ("median_l2", "median_linf")]
    costs = [str(cells[field]) for field in ("gradients", "queries")]
    return [name, spread(cells["robust_accuracy"]), *distances, *costs, plain(cells["images_per_second"])]
