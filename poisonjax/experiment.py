"""Experiments: frozen dataclasses that hold everything a result depends on, except the seed."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from poisonjax import data as datasets
from poisonjax.attacks import AutoAttack, LossAttack
from poisonjax.attacks.settings import check_counts
from poisonjax.data import Dataset, Reading
from poisonjax.data.subsets import All, Subset
from poisonjax.defences.base import Defence
from poisonjax.evaluation.analysis import Analysis
from poisonjax.evaluation.metrics import METRICS
from poisonjax.models.network import Network
from poisonjax.poisons.base import Poison
from poisonjax.spelling import unknown
from poisonjax.training import Objective, Standard, Training
from poisonjax.training.optimizers import Optimizer
from poisonjax.types import take


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set and which of its rows are used.

    name: what `poisonjax.data.load` knows, as `mnist` or `folder:PATH`. train, test: the rows. clean: rows of the
    training split that the defender trusts, for defences that need some; they are taken away before `train`, so that no
    network trains on them. reading: how images of one's own are read; None for the usual way. For data that no origin
    reads, a frozen dataclass derived from this one, with a `load` that returns `poisonjax.data.from_arrays(...)`.
    """

    name: str
    train: Subset = All()
    test: Subset = All()
    clean: Subset | None = None
    reading: Reading | None = None

    def load(self, data_dir: str | None) -> Dataset:
        """The whole data set, below `data_dir` (None: tfds's own default). ValueError where that fails."""
        return datasets.load(self.name, data_dir, self.reading)

    def used(self, whole: Dataset) -> Dataset:
        """The rows of the whole data set that are used. ValueError, naming the subset, if it does not have them."""
        rest, clean = whole.train, None
        if self.clean is not None:
            clean = self.clean(whole.train)
            rest = take(whole.train, ~np.isin(whole.train.index, clean.index))
        return dataclasses.replace(whole, train=self.train(rest), test=self.test(whole.test), clean=clean)


def loader(data_dir: str | None) -> Callable[[Data], Dataset]:
    """A function data -> the whole data set below data_dir, which loads each but once, whatever rows of it are used."""
    load = functools.cache(lambda data: data.load(data_dir))
    return lambda data: load(dataclasses.replace(data, train=All(), test=All(), clean=None))


@dataclasses.dataclass(frozen=True)
class Arm:
    """A training condition: one network to train.

    objective: how it learns. poisoned: on the poisoned data. defence: what defends it beyond its objective. model:
    instead of the experiment's. optimizer: instead of that of the experiment's training.
    """

    name: str
    objective: Objective = Standard()
    poisoned: bool = True
    defence: Defence | None = None
    model: Network | None = None
    optimizer: Optimizer | None = None

    @property
    def defends(self) -> bool:
        """True if it is more than standard training."""
        return self.objective != Standard() or self.defence is not None


@dataclasses.dataclass(frozen=True)
class Surrogate:
    """The training of the attacker's own network, on clean data, against which poison is crafted."""

    objective: Objective
    train: Training


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Evaluation settings.

    attack: for robust_accuracy. autoattack: for autoattack_accuracy, on the first `autoattack_images` test images; None
    for none. min_attack_success: the gate. The poison works if the attacker's success on the standard arm, as the
    poison's aim tells it, exceeds that of the same training on clean data by at least this share of what that leaves;
    otherwise nothing follows about a defence. tolerance: how far from a reported number, as a fraction, still counts as
    reproduced. batch: images at a time. ValueError for an impossible value.
    """

    attack: LossAttack
    autoattack: AutoAttack | None = None
    autoattack_images: int = 200
    min_attack_success: float = 0.5
    tolerance: float = 0.02
    batch: int = 500

    def __post_init__(self):
        for field in ("min_attack_success", "tolerance"):
            if not 0 <= getattr(self, field) <= 1:
                raise ValueError(f"{field} is a fraction and must lie in [0, 1], got {getattr(self, field)}")
        check_counts(self, "batch", "autoattack_images")


@dataclasses.dataclass(frozen=True)
class Reported:
    """A number of the report: its table, the arm and metric it is about, and its value as a fraction.

    label: the only class that it is about. note: why it may differ from what is measured.
    """

    table: str
    arm: str
    metric: str
    value: float
    label: int | None = None
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One experiment: data, poison, training conditions, evaluation, and the numbers that the report gives.

    surrogate: the attacker's own training, for a poison that needs one. reported: the report's numbers. caveats: why
    those may differ, as far as the report's own records show. analyses: further looks at every network.
    ValueError if the parts do not fit together.
    """

    name: str
    title: str
    paper_table: str
    data: Data
    model: Network
    poison: Poison
    train: Training
    evaluation: Evaluation
    arms: tuple[Arm, ...]
    surrogate: Surrogate | None = None
    reported: tuple[Reported, ...] = ()
    caveats: tuple[str, ...] = ()
    analyses: tuple[Analysis, ...] = ()

    def __post_init__(self):
        if self.poison.needs_surrogate and self.surrogate is None:
            raise ValueError(f"poison {type(self.poison).__name__} needs surrogate, the attacker's own training")
        for arm in self.arms:
            if self.poison.classes != self.model_of(arm).classes:
                raise ValueError(
                    f"poison.classes is {self.poison.classes}, but model.classes is {self.model_of(arm).classes}; "
                    "both must be the number of classes of the data set"
                )
            if arm.defence is not None and arm.defence.needs_clean and self.data.clean is None:
                raise ValueError(
                    f"arms.{arm.name}.defence: {type(arm.defence).__name__} needs clean data; set data.clean, such as "
                    "data.clean=Stratified(500), and fewer rows in data.train if it takes all"
                )
        names = [arm.name for arm in self.arms]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"arms must have different names, got {twice[0]} twice")
        if self.poisoned and "standard" not in names:
            raise ValueError(f"arms must have standard, on which the attack is tried, got {', '.join(names)}")
        if self.poisoned and self.poison.aim.spoils_accuracy and self.standard_control() is None:
            raise ValueError(
                "arms must have standard on clean data too (poisoned=False), to measure the loss of accuracy from, got "
                f"{', '.join(names)}"
            )

    @property
    def poisoned(self) -> bool:
        """True if the training data is poisoned."""
        return self.poison.poisons

    def only(self, names: Sequence[str]) -> "Experiment":
        """The experiment with the arms of these names alone, in its own order, and what the report gives for them.

        ValueError for a name that no arm has, and if the others do not make an experiment.
        """
        for name in names:
            if name not in (known := [arm.name for arm in self.arms]):
                raise ValueError(unknown("arm", name, known))
        arms = tuple(arm for arm in self.arms if arm.name in names)
        return dataclasses.replace(self, arms=arms, reported=tuple(row for row in self.reported if row.arm in names))

    def compared(self) -> list[Reported]:
        """The reported numbers of arms and metrics that there are."""
        names = [arm.name for arm in self.arms]
        return [row for row in self.reported if row.arm in names and row.metric in METRICS]

    def defended(self) -> list[str]:
        """The arms that defend themselves against the poison."""
        return [arm.name for arm in self.arms if self.poisoned and arm.defends and arm.poisoned]

    def control(self) -> str | None:
        """The first arm with a defence and without the poison."""
        return next((arm.name for arm in self.arms if self.poisoned and arm.defends and not arm.poisoned), None)

    def standard_control(self) -> str | None:
        """The arm trained as `standard` is, but without the poison: what the attacker's success is measured from."""
        return self.twin("standard")

    def twin(self, name: str) -> str | None:
        """The arm trained as that one is, but without the poison."""
        poisoned = next((arm for arm in self.arms if arm.name == name), None)
        if poisoned is None or not self.poisoned:
            return None
        same = (dataclasses.replace(poisoned, name=arm.name, poisoned=False) == arm for arm in self.arms)
        return next((arm.name for arm, is_same in zip(self.arms, same, strict=True) if is_same), None)

    def model_of(self, arm: Arm) -> Network:
        """The network of an arm."""
        return arm.model or self.model

    def training_of(self, arm: Arm) -> Training:
        """The training settings of an arm."""
        return dataclasses.replace(self.train, optimizer=arm.optimizer or self.train.optimizer)

    def fitted(self, data: Data, whole: Dataset) -> "Experiment":
        """The experiment on data of one's own, of which this is the whole data set: with its number of classes.

        Its subsets of rows are those that the experiment uses, fitted. Nothing is left to be compared with the report.
        ValueError, naming the data, if a part does not allow so many classes.
        """
        fitted = dataclasses.replace(data, train=data.train.fitted(), test=data.test.fitted())
        arms = [
            dataclasses.replace(arm, model=arm.model and dataclasses.replace(arm.model, classes=whole.classes))
            for arm in self.arms
        ]
        try:
            return dataclasses.replace(
                self,
                title=f"The experiment {self.name} on {data.name}.",
                paper_table="",
                data=fitted,
                model=dataclasses.replace(self.model, classes=whole.classes),
                poison=dataclasses.replace(self.poison, classes=whole.classes),
                arms=tuple(arms),
                reported=(),
                caveats=(),
            )
        except ValueError as error:
            raise ValueError(f"{data.name} has {whole.classes} classes: {error}") from None

    def check(self, classes: int, shape: tuple[int, ...], rows: int) -> None:
        """ValueError if it does not fit a data set of so many classes, images [h w c] or features [d], and rows."""
        if self.model.classes != classes:
            raise ValueError(f"model.classes must be {classes} for {self.data.name}, got {self.model.classes}")
        if len(shape) != 3:
            self._check_features(shape)
        self.poison.check(shape)
        for where, attack in self.attacks().items():
            if attack.ball.eps > attack.ball.max_radius(shape):
                raise ValueError(
                    f"{where}.ball.eps must be at most {attack.ball.max_radius(shape):g} for images of shape {shape} "
                    f"in [0, 1], got {attack.ball.eps}"
                )
        surrogate = self.surrogate and self.surrogate.train
        for where, training in (("train", self.train), ("surrogate.train", surrogate)):
            if training is not None and training.batch > rows:
                raise ValueError(f"{where}.batch must be at most the {rows} training rows, got {training.batch}")

    def check_parts(self, shape: tuple[int, ...]) -> None:
        """ValueError if a network cannot take images [h w c], or an attack so few classes. Nothing is computed."""
        for model in {self.model_of(arm): None for arm in self.arms}:
            model.check(shape)
        for where, attack in self.attacks().items():
            if self.model.classes < attack.fewest_classes:
                raise ValueError(
                    f"{where} needs at least {attack.fewest_classes} classes, {self.data.name} has "
                    f"{self.model.classes}; set another, or --set {where}=none if that is allowed"
                )

    def _check_features(self, shape: tuple[int, ...]) -> None:
        """ValueError for a part that is made for images, where the data are rows of features [d]."""
        rows = f"{self.data.name} has rows of {shape[0]} features"
        for path, part in _parts(self, ""):
            if getattr(part, "needs_images", False):
                raise ValueError(f"{path}: {type(part).__name__} is made for images, but {rows}")
        x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
        for model in dict.fromkeys([self.model, *map(self.model_of, self.arms)]):
            try:
                jax.eval_shape(model.init, jax.random.key(0), x)
            except Exception as error:  # whatever a network of images raises
                raise ValueError(
                    f"model: {type(model).__name__} cannot take them: {rows}; set model=TabularMLP()"
                ) from error

    def attacks(self) -> dict[str, LossAttack]:
        """Every attack in use that has a ball, by its path."""
        found = {"evaluation.attack": self.evaluation.attack, "evaluation.autoattack": self.evaluation.autoattack}
        found |= {f"arms.{arm.name}.objective.attack": arm.objective.attack for arm in self.arms}
        if self.poison.needs_surrogate:
            found |= {
                "poison.attack": self.poison.attack,
                "surrogate.objective.attack": self.surrogate.objective.attack,
            }
        return {where: attack for where, attack in found.items() if attack is not None}

    def warnings(self) -> list[str]:
        """Settings that are legal but probably not meant, one line each."""
        found, judge = [], self.evaluation.attack
        for row in self.reported:
            if row not in self.compared():
                found.append(f"reported names {row.arm}.{row.metric}, which no arm has; it is left out")
        for where, attack in self.attacks().items():
            if where == "evaluation.autoattack":
                continue
            if attack.max_distance < attack.ball.eps:
                found.append(
                    f"{where} can move at most {attack.max_distance:g} ({attack.steps} steps of {attack.step:g} "
                    f"without a random start), less than its eps of {attack.ball.eps:g}"
                )
            if where.startswith("arms") and judge.random_start and not attack.random_start:
                found.append(
                    f"{where} starts at the image itself and evaluation.attack at random in the ball: a network may "
                    "come out robust against the first only"
                )
        return found


def _parts(part: Any, path: str) -> Iterator[tuple[str, Any]]:
    """(path, setting) of every dataclass within an experiment but its networks; items of tuples by name or place."""
    if isinstance(part, tuple):
        named = {str(getattr(item, "name", place)): item for place, item in enumerate(part)}
    elif dataclasses.is_dataclass(part) and not isinstance(part, Network):
        yield path, part
        named = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    else:
        return
    for name, item in named.items():
        yield from _parts(item, f"{path}.{name}".lstrip("."))
