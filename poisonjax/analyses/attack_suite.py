"""Many test-time attacks on one network: robust accuracy, distance and cost of each, and signs of gradient masking."""

import dataclasses
import functools
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np

from poisonjax.attacks import AnyAttack
from poisonjax.evaluation import attack_run, masking
from poisonjax.evaluation.analysis import Analysis, Figure, Subject, Table
from poisonjax.reports import figures, statistics
from poisonjax.reports.table import plain, spread
from poisonjax.runtime import distributed
from poisonjax.runtime.workdir import cached_json, load_arrays, save_arrays
from poisonjax.types import take, to_unit

HEADER = ["arm", "attack", "robust accuracy %", "median L2", "median Linf", "gradients", "queries", "images/s"]


class Collected(NamedTuple):
    """clean: a few images [n h w c] in [0, 1]. adversarial: those of each attack [a n h w c]. labels: [n]."""

    clean: np.ndarray
    adversarial: np.ndarray
    labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class NamedAttack:
    """An attack and what it is called."""

    name: str
    attack: AnyAttack


@dataclasses.dataclass(frozen=True)
class AttackSuite(Analysis):
    """Many attacks on the first test images.

    images: how many. batch: images at a time. shown: images in the picture. ValueError for an impossible value or a
    name that is given twice.
    """

    attacks: tuple[NamedAttack, ...]
    images: int = 200
    batch: int = 100
    shown: int = 4

    name: ClassVar[str] = "attack_suite"
    arrays: ClassVar[type] = Collected
    heading: ClassVar[str] = "Test-time attacks"

    def __post_init__(self):
        for field in ("images", "batch", "shown"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, got {getattr(self, field)}")
        names = [each.name for each in self.attacks]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"attacks must have different names, got {twice[0]} twice")

    def collect(self, subject: Subject) -> Collected:
        """A few images and what every attack makes of them; attacks that are done already are not repeated."""
        few = [self._attacked(subject, each)[1] for each in self.attacks]
        clean = to_unit(jnp.asarray(subject.examples.image[: self.shown]))
        return Collected(np.asarray(clean), np.stack(few), np.asarray(subject.examples.label[: self.shown]))

    def measure(self, arrays: Collected, subject: Subject) -> dict:
        """attacks: {name: what `attack_run.measure` says}. audit: signs of gradient masking."""
        examples = take(subject.examples, slice(self.images))
        measured = {each.name: self._attacked(subject, each)[0] for each in self.attacks}
        outputs = attack_run.inspect(subject.victim, examples, [each.attack for each in self.attacks], self.batch)
        outcomes = [o for each in self.attacks for o in masking.outcomes(each.name, each.attack, measured[each.name])]
        return {"attacks": measured, "audit": masking.masking(outcomes, outputs)}

    def _attacked(self, subject: Subject, each: NamedAttack) -> tuple[dict, np.ndarray]:
        """The numbers of one attack and some of its images, computed once."""
        folder, make = subject.folder, functools.partial(self._attack, subject, each)
        numbers = cached_json(folder / f"{each.name}.json", make, share=distributed.from_primary)
        return numbers, distributed.from_primary(lambda: load_arrays(folder / f"{each.name}.npz", _Few)).adversarial

    def _attack(self, subject: Subject, each: NamedAttack) -> dict:
        examples = take(subject.examples, slice(self.images))

        def progress(stage: str, images: int):
            return subject.progress(f"{each.name} {stage}".rstrip(), images)

        made = attack_run.attempt(subject.victim, examples, each.attack, subject.key, self.batch, follow=progress)
        save_arrays(subject.folder / f"{each.name}.npz", _Few(made.adversarial[: self.shown]))
        clean = np.asarray(to_unit(jnp.asarray(examples.image)))
        return attack_run.measure(clean, examples.label, made, each.attack)

    def audit(self, measured: dict) -> list[str]:
        """Signs of gradient masking."""
        return measured["audit"]

    def summary(self, measured: list[dict]) -> dict:
        """{attack: numbers over seeds}."""
        return {each: _over_seeds([of["attacks"][each] for of in measured]) for each in measured[0]["attacks"]}

    def tables(self, summaries: dict[str, dict]) -> list[Table]:
        """Every attack on every network, and what is left after the stages of ensembles."""
        tried = [(arm, name, of) for arm, attacks in summaries.items() for name, of in attacks.items()]
        note = (
            f"On the first {tried[0][2]['images']} test images. Distances are medians over the images that an attack "
            "got misclassified; gradients and queries (forward passes) are the most spent on one image."
        )
        tables = [Table("", HEADER, [[arm, *_row(name, of)] for arm, name, of in tried], [note])]
        stages = [[arm, name, at, spread(left)] for arm, name, of in tried for at, left in of["stages"].items()]
        return [*tables, Table("", ["arm", "attack", "after", "robust accuracy %"], stages)] if stages else tables

    def figures(self, arrays: dict[str, Collected], title: str, names: tuple[str, ...]) -> dict[str, Figure]:
        """Some images, one row each, beside what every attack makes of them; a picture for each arm."""
        return {f"attacks_{arm}": self._grid(of, f"{title}: {arm}", names) for arm, of in arrays.items()}

    def _grid(self, of: Collected, title: str, names: tuple[str, ...]) -> Figure:
        columns = {"clean": of.clean} | {
            each.name: images for each, images in zip(self.attacks, of.adversarial, strict=True)
        }
        labels = [f"is {names[label] if names else label}" for label in of.labels]
        return figures.image_grid(columns, labels, title)


class _Few(NamedTuple):
    """A few images of one attack, [n h w c]."""

    adversarial: np.ndarray


def _over_seeds(found: list[dict]) -> dict:
    distances = ("median_l2", "median_linf", "images_per_second")
    return {
        "robust_accuracy": statistics.spread([of["robust"][0] / of["robust"][1] for of in found]),
        "images": found[0]["robust"][1],
        **{name: statistics.spread([of[name] for of in found]) for name in distances},
        **{name: found[0][name] for name in ("gradients", "queries")},
        "stages": {name: statistics.spread([of["stages"][name] for of in found]) for name in found[0]["stages"]},
    }


def _row(name: str, of: dict) -> list[str]:
    distances = [plain(of[field]) for field in ("median_l2", "median_linf")]
    costs = [str(of[field]) for field in ("gradients", "queries")]
    return [name, spread(of["robust_accuracy"]), *distances, *costs, plain(of["images_per_second"])]
