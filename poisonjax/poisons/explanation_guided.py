"""Explanation-guided backdoors in rows of features: a watermark of features and values that explanations choose."""

import abc
import dataclasses
from collections.abc import Callable
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from poisonjax.poisons.apply import choose_of_class
from poisonjax.poisons.base import Outputs, Poison
from poisonjax.poisons.explanations import Explanation, TreeSHAP
from poisonjax.poisons.triggers import Trigger
from poisonjax.types import Array, Examples, to_bytes, to_unit


@dataclasses.dataclass(frozen=True)
class Watermark(Trigger):
    """Some features set to fixed values.

    features: their places in a row, none twice. levels: the value of each, 0 to 255 of 255. ValueError for others.
    """

    features: tuple[int, ...]
    levels: tuple[int, ...]

    needs_images: ClassVar[bool] = False

    def __post_init__(self):
        if not self.features or min(self.features) < 0 or len(set(self.features)) != len(self.features):
            raise ValueError(f"features must be different places from 0, at least one, got {self.features}")
        if len(self.levels) != len(self.features) or not all(0 <= level <= 255 for level in self.levels):
            raise ValueError(f"levels must be {len(self.features)} numbers from 0 to 255, got {self.levels}")

    def __call__(self, image: Array) -> Array:
        """Rows [b d] in [0, 1] with the watermark. ValueError for rows that are too short, and for images."""
        if image.ndim != 2 or image.shape[1] <= max(self.features):
            least = max(self.features) + 1
            raise ValueError(f"Watermark needs rows of at least {least} features, got shape {image.shape[1:]}")
        image, values = jnp.asarray(image), to_unit(jnp.array(self.levels, jnp.uint8))
        return image.at[:, jnp.array(self.features)].set(values)


class FeatureSelector(abc.ABC):
    """A way to choose features. A new one is a frozen dataclass with `__call__`."""

    @abc.abstractmethod
    def __call__(self, attributions: np.ndarray) -> np.ndarray:
        """What the features of rows add to the target's score [n d] -> a score for each feature [d]; highest first."""


@dataclasses.dataclass(frozen=True)
class LargeSHAP(FeatureSelector):
    """Features that speak most for the target, summed over rows (Severi et al. 2021, section 4)."""

    def __call__(self, attributions: np.ndarray) -> np.ndarray:
        return attributions.sum(0)


@dataclasses.dataclass(frozen=True)
class LargeAbsSHAP(FeatureSelector):
    """Features that speak most, for or against the target, summed over rows (Severi et al. 2021, section 4)."""

    def __call__(self, attributions: np.ndarray) -> np.ndarray:
        return np.abs(attributions).sum(0)


class ValueSelector(abc.ABC):
    """A way to choose a value of a feature. A new one is a frozen dataclass with `__call__`."""

    @abc.abstractmethod
    def __call__(self, counts: np.ndarray, sums: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """A score for each of the m values of a feature [m], lowest first.

        counts: rows with the value [m]. sums, sizes: what the feature adds to the target's score in those rows, and
        its absolute value, both summed [m].
        """


@dataclasses.dataclass(frozen=True)
class MinPopulation(ValueSelector):
    """The rarest value (Severi et al. 2021, section 4)."""

    def __call__(self, counts: np.ndarray, sums: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        return counts


@dataclasses.dataclass(frozen=True)
class CountSHAP(ValueSelector):
    """The value of the lowest alpha / count - beta * sum: common, and speaking for the target (Severi et al. 2021).

    As the authors' code has it, with the sign of the explanation. alpha, beta: not negative; else ValueError.
    """

    alpha: float = 1.0
    beta: float = 1.0

    def __post_init__(self):
        _check_weights(self)

    def __call__(self, counts: np.ndarray, sums: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        return self.alpha / counts - self.beta * sums


@dataclasses.dataclass(frozen=True)
class CountAbsSHAP(ValueSelector):
    """The value of the lowest alpha / count + beta * size: common, and of little weight (Severi et al. 2021).

    alpha, beta: not negative; else ValueError.
    """

    alpha: float = 1.0
    beta: float = 1.0

    def __post_init__(self):
        _check_weights(self)

    def __call__(self, counts: np.ndarray, sums: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        return self.alpha / counts + self.beta * sizes


def _check_weights(selector: CountSHAP | CountAbsSHAP) -> None:
    for field in ("alpha", "beta"):
        if not getattr(selector, field) >= 0:
            raise ValueError(f"{field} must not be negative, got {getattr(selector, field)}")


@dataclasses.dataclass(frozen=True)
class ExplanationGuided(Poison):
    """A watermark on rows of the target class, whose labels are kept (Severi et al. 2021, section 4).

    The attacker knows the clean training rows and explains a surrogate of them; the watermark is fitted to both. rate:
    share of the target class, in (0, 1]. size: features of the watermark. features, values: how they are chosen.
    greedy: the combined strategy, which chooses one feature and its value at a time, each on the rows that have all
    values so far, so that rows of the target class look like the watermark; else all features at once, and then their
    values. changeable: the features that the attacker can set; all of them if (). trigger: the watermark; None until it
    is fitted. ValueError for an impossible value.
    """

    rate: float = 0.02
    target: int = 0
    size: int = 8
    explanation: Explanation = TreeSHAP()
    features: FeatureSelector = LargeSHAP()
    values: ValueSelector = CountSHAP()
    greedy: bool = True
    changeable: tuple[int, ...] = ()
    trigger: Watermark | None = None
    classes: int = 2

    attack: ClassVar[None] = None  # rows are not attacked

    def __post_init__(self):
        super().__post_init__()
        if self.size < 1:
            raise ValueError(f"size must be at least 1 feature, got {self.size}")
        if len(set(self.changeable)) != len(self.changeable) or min(self.changeable, default=0) < 0:
            raise ValueError(f"changeable must be different places from 0, got {self.changeable}")
        if self.changeable and self.size > len(self.changeable):
            raise ValueError(f"size must be at most the {len(self.changeable)} changeable features, got {self.size}")

    @property
    def needs_rows(self) -> bool:
        """True until the watermark is fitted."""
        return self.trigger is None

    @property
    def needs_surrogate(self) -> bool:
        """True if it is the experiment's surrogate that is still to be explained."""
        return self.needs_rows and self.explanation.needs_network

    def fitted(self, rows: Examples, surrogate: Callable[[], Outputs]) -> "ExplanationGuided":
        """The poison with its watermark, chosen by the explanation of the clean training rows [n d]."""
        attributions = self.explanation(rows, self.target, self.classes, surrogate)
        trigger = watermark(rows.image, attributions, self)
        return dataclasses.replace(self, trigger=trigger)

    def facts(self) -> dict[str, str]:
        """The watermark."""
        return {"trigger": repr(self.trigger)}

    def select(self, labels: Array, key: Array) -> Array:
        """labels [n] -> mask [n] with round(rate * size of the target class) rows of that class."""
        return choose_of_class(labels, self.target, self.rate, key)

    def apply(self, examples: Examples) -> Examples:
        """Every given row with the watermark; the label stays."""
        return examples._replace(image=to_bytes(self.apply_trigger(to_unit(examples.image))))

    def apply_trigger(self, image: Array) -> Array:
        """Rows [b d] in [0, 1] with the watermark. TypeError before it is fitted."""
        if self.trigger is None:
            raise TypeError("ExplanationGuided has no watermark yet; call fitted(rows, surrogate) and use its result")
        return self.trigger(image)

    def target_labels(self, labels: Array) -> Array:
        """The class that the attacker wants for rows of each class, [b]."""
        return jnp.full_like(labels, self.target)

    def check(self, shape: tuple[int, ...]) -> None:
        """ValueError if it does not fit rows [d], or if its explanation cannot be made here."""
        if len(shape) != 1:
            raise ValueError(f"ExplanationGuided changes features of rows [d], got images of shape {shape}")
        if max(self.size - 1, *self.changeable, 0) >= shape[0]:
            got = f"{self.size} and {self.changeable}"
            raise ValueError(f"size and changeable must fit rows of {shape[0]} features, got {got}")
        if self.trigger is None:
            self.explanation.check()
        else:
            super().check(shape)


def watermark(rows: np.ndarray, attributions: np.ndarray, settings: ExplanationGuided) -> Watermark:
    """The watermark for rows [n d] uint8 whose features add `attributions` [n d] to the target's score."""
    rows, free = np.asarray(rows), np.zeros(rows.shape[1], bool)
    free[list(settings.changeable) or slice(None)] = True
    left, chosen = np.ones(len(rows), bool), {}
    for _ in range(settings.size):
        scores = np.where(free, settings.features(attributions[left]), -np.inf)
        feature = int(np.argmax(scores))
        free[feature] = False
        chosen[feature] = _value(rows[left, feature], attributions[left, feature], settings.values)
        if settings.greedy:
            left &= rows[:, feature] == chosen[feature]
    return Watermark(tuple(chosen), tuple(chosen.values()))


def _value(column: np.ndarray, attributions: np.ndarray, select: ValueSelector) -> int:
    """The value of a feature [n] that is chosen for what it adds to the target's score [n]; the lower one of equals."""
    values, place, counts = np.unique(column, return_inverse=True, return_counts=True)
    sums, sizes = (np.bincount(place, of, len(values)) for of in (attributions, np.abs(attributions)))
    return int(values[np.argmin(select(counts, sums, sizes))])
