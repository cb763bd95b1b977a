"""An experiment: frozen dataclasses that say everything a result depends on, but for the seed."""

import dataclasses

from poisonjax.attacks import PGD, LossAttack
from poisonjax.data.subsets import All, Stratified, Unbalanced
from poisonjax.evaluation.activations import Activations
from poisonjax.evaluation.adversarial_example import AdversarialExample
from poisonjax.evaluation.attack_suite import AttackSuite
from poisonjax.models import MadryCNN, MobileNet, ReportCifarCNN, ReportCNN, ResNet18, WongCNN
from poisonjax.poisons import BadNets, CleanLabel, NoPoison
from poisonjax.training import Training
from poisonjax.training.optimizers import Optimizer

Model = ReportCNN | MadryCNN | WongCNN | ReportCifarCNN | MobileNet | ResNet18

SCALES = ("smoke", "small", "paper")
METRICS = (
    "clean_accuracy",
    "triggered_accuracy",
    "attack_success_rate",
    "attack_success_rate_turner",
    "art_effectiveness",
    "robust_accuracy",
)


@dataclasses.dataclass(frozen=True)
class Data:
    """name: a tfds data set that `poisonjax.data.load` knows. train, test: which of its rows."""

    name: str
    train: All | Stratified | Unbalanced = All()
    test: All | Stratified | Unbalanced = All()


@dataclasses.dataclass(frozen=True)
class Arm:
    """One network to train. adversarial: on the attack's images. poisoned: on the poisoned data.

    attack: instead of train.attack. model: instead of the experiment's. optimizer: instead of train.optimizer.
    ValueError for an attack without use.
    """

    name: str
    adversarial: bool = False
    poisoned: bool = True
    attack: LossAttack | None = None
    model: Model | None = None
    optimizer: Optimizer | None = None

    def __post_init__(self):
        if self.attack is not None and not self.adversarial:
            raise ValueError("an arm with an attack of its own must be adversarial")


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How the networks are judged.

    attack: for robust_accuracy. gate: below this attack success rate of the standard arm the poison did not
    work, and nothing follows about a defence. tolerance: how far from a reported number, as a fraction, still
    counts as reproduced. batch: images at a time. ValueError for an impossible value.
    """

    attack: PGD
    gate: float = 0.5
    tolerance: float = 0.02
    batch: int = 500

    def __post_init__(self):
        for field in ("gate", "tolerance"):
            if not 0 <= getattr(self, field) <= 1:
                raise ValueError(f"{field} is a fraction and must lie in [0, 1], got {getattr(self, field)}")
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, got {self.batch}")


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


ARMS = (
    Arm("standard"),
    Arm("pgd_at", adversarial=True),
    Arm("pgd_at_clean_data", adversarial=True, poisoned=False),
)


def with_madry(attack: LossAttack) -> tuple[Arm, ...]:
    """ARMS, and beside the report's adversarial training that against an attack as Madry et al. 2018 mean it."""
    standard, reported, control = ARMS
    return standard, reported, Arm("pgd_at_madry", adversarial=True, attack=attack), control


def by_size(networks: dict[str, Model], attack: LossAttack) -> tuple[Arm, ...]:
    """Networks {size: network}, each trained in the standard way and adversarially."""
    standard = [Arm(f"standard_{size}", model=model) for size, model in networks.items()]
    madry = [Arm(f"pgd_at_madry_{size}", True, attack=attack, model=model) for size, model in networks.items()]
    return (*standard, *madry)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What is poisoned, what is trained on it, how it is judged, and what the report reported.

    surrogate: how the clean-label attacker trains his own network; None for a poison that needs none. reported: the
    report's numbers. known: why the report's numbers may differ, as far as its own records show. activations: how
    clean and triggered images are compared inside the networks. example: which images are shown under attack. suite:
    many attacks that every network is tried under.
    ValueError if the parts do not fit together.
    """

    name: str
    title: str
    paper_table: str
    data: Data
    model: Model
    poison: BadNets | CleanLabel | NoPoison
    train: Training
    evaluation: Evaluation
    surrogate: Training | None = None
    arms: tuple[Arm, ...] = ARMS
    reported: tuple[Reported, ...] = ()
    known: tuple[str, ...] = ()
    activations: Activations | None = None
    example: AdversarialExample | None = None
    suite: AttackSuite | None = None

    def __post_init__(self):
        if isinstance(self.poison, CleanLabel) and self.surrogate is None:
            raise ValueError("poison CleanLabel needs surrogate, the attacker's own training")
        for arm in self.arms:
            if self.poison.classes != self.model_of(arm).classes:
                raise ValueError(
                    f"poison.classes is {self.poison.classes}, but model.classes is {self.model_of(arm).classes}; "
                    "both must be the number of classes of the data set"
                )
        if self.activations is not None and not self.poisoned:
            raise ValueError("activations compare clean with triggered images, and NoPoison has no trigger")
        if self.poisoned and "standard" not in (names := [arm.name for arm in self.arms]):
            raise ValueError(f"arms must have standard, on which the attack is tried, got {', '.join(names)}")

    @property
    def poisoned(self) -> bool:
        """Whether anybody attacks the training data."""
        return not isinstance(self.poison, NoPoison)

    def defended(self) -> list[str]:
        """The arms that defend themselves against the poison."""
        return [arm.name for arm in self.arms if self.poisoned and arm.adversarial and arm.poisoned]

    def control(self) -> str | None:
        """The arm with the defence and without the poison."""
        return next((arm.name for arm in self.arms if self.poisoned and arm.adversarial and not arm.poisoned), None)

    def attack_of(self, arm: Arm) -> LossAttack:
        """What an adversarial arm trains against."""
        return arm.attack or self.train.attack

    def model_of(self, arm: Arm) -> Model:
        """The network of an arm."""
        return arm.model or self.model

    def training_of(self, arm: Arm) -> Training:
        """How an arm is trained."""
        return dataclasses.replace(
            self.train, attack=self.attack_of(arm), optimizer=arm.optimizer or self.train.optimizer
        )

    def check(self, classes: int, shape: tuple[int, ...], rows: int) -> None:
        """ValueError if it does not fit a data set of so many classes, images [h w c] and training rows."""
        if self.model.classes != classes:
            raise ValueError(f"model.classes must be {classes} for {self.data.name}, got {self.model.classes}")
        for where, attack in self.attacks().items():
            if attack.ball.eps > attack.ball.max_radius(shape):
                raise ValueError(
                    f"{where}.ball.eps must be at most {attack.ball.max_radius(shape):g} for images of shape {shape} "
                    f"in [0, 1], got {attack.ball.eps}"
                )
        for where, training in (("train", self.train), ("surrogate", self.surrogate)):
            if training is not None and training.batch > rows:
                raise ValueError(f"{where}.batch must be at most the {rows} training rows, got {training.batch}")

    def attacks(self) -> dict[str, LossAttack]:
        """Every attack in use, by its path."""
        found = {"evaluation.attack": self.evaluation.attack}
        if any(arm.adversarial and arm.attack is None for arm in self.arms):
            found["train.attack"] = self.train.attack
        found |= {f"arms.{arm.name}.attack": arm.attack for arm in self.arms if arm.attack is not None}
        if isinstance(self.poison, CleanLabel):
            found |= {"poison.attack": self.poison.attack, "surrogate.attack": self.surrogate.attack}
        return found

    def warnings(self) -> list[str]:
        """What is legal but probably not meant, one line each."""
        attacks, judge = self.attacks(), self.evaluation.attack
        found = [
            f"{where} can move at most {attack.max_distance:g} ({attack.steps} steps of {attack.step:g} without a "
            f"random start), less than its eps of {attack.ball.eps:g}"
            for where, attack in attacks.items()
            if attack.max_distance < attack.ball.eps
        ]
        found += [
            f"{where} starts at the image itself and evaluation.attack at random in the ball: a network may come out "
            "robust against the first only"
            for where, attack in attacks.items()
            if where.startswith(("train", "arms")) and judge.random_start and not attack.random_start
        ]
        return found
