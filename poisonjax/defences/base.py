"""Hooks of a defence: choose training rows, change the loss, change or wrap the trained network."""

import dataclasses
from collections.abc import Callable, Hashable
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import numpy as np
from jax.tree_util import Partial

from poisonjax.evaluation.victim import Victim, map_rows
from poisonjax.models.network import Network
from poisonjax.runtime import distributed
from poisonjax.training.objectives import Objective
from poisonjax.training.settings import Training
from poisonjax.types import Array, Examples, LogitsFn


class Fit(Protocol):
    """Training of a further network, of the arm's architecture and settings unless others are given."""

    def __call__(
        self,
        name: str,
        objective: Objective,
        examples: Examples,
        *,
        model: Network | None = None,
        training: Training | None = None,
        start: Victim | None = None,
    ) -> Victim:
        """The network, kept under that name, so that an interrupted run resumes. start: where its weights begin."""


class Context(NamedTuple):
    """The data and means that a defence works with.

    train: the training rows [n], without a word on which are poisoned. classes: their number. batch: rows at a time.
    key: its own randomness. fit: trains further networks. model, training: architecture and settings of the arm.
    clean: rows known to be clean, [m], for a defence that `needs_clean`; else None. dropped: the rows that `select`
    left out, [l], for `shield`; None before.
    """

    train: Examples
    classes: int
    batch: int
    key: Array
    fit: Fit
    model: Network
    training: Training
    clean: Examples | None = None
    dropped: Examples | None = None

    def map(self, fn: Callable, victim: Victim, examples: Examples, *settings: Hashable) -> Any:
        """fn(victim, examples [b], *settings) over examples [n], batch by batch; see `victim.map_rows`."""
        return map_rows(fn, distributed.replicate(victim), examples, self.batch, *settings)


class Selection(NamedTuple):
    """The rows to learn from, and how suspicious each row of `Context.train` is, [n], the higher the more."""

    examples: Examples
    suspicion: np.ndarray


class Shield(NamedTuple):
    """A trained network as a defence leaves it; None leaves that part unchanged.

    logits: images [b ...] in [0, 1] -> [b k], the repaired network, or the network behind a reformer. features: images
    -> [b d], its activations before the last layer. suspicion: images -> [b], a detector; images with more than
    `threshold` are rejected. keep: [n] bool, the training rows believed clean, where that is known only now.

    Functions that hold arrays should be `jax.tree_util.Partial(function, arrays)`: then one compiled program serves
    every seed. Plain closures work, and are compiled once each.
    """

    logits: LogitsFn | None = None
    suspicion: Callable[[Array], Array] | None = None
    threshold: float = 0.0
    keep: Array | None = None
    features: Callable[[Array], Array] | None = None


class Defence:
    """A defence. A new one is a frozen dataclass that overrides the hooks it needs.

    needs_clean: True if it works with `Context.clean`; an experiment without `data.clean` then refuses it.
    """

    needs_clean: ClassVar[bool] = False

    def select(self, context: Context) -> Examples | Selection:
        """The rows to learn from: some of `context.train`, or all with other labels, [m] int or probabilities [m k].

        Called before the network is trained; `context.fit` trains others to choose by. A `Selection` tells how
        suspicious each row is too, by which the defence is judged as a detector.
        """
        return context.train

    def objective(self, objective: Objective) -> Objective:
        """The objective to train with instead of the arm's."""
        return objective

    def shield(self, victim: Victim, context: Context) -> Shield:
        """The trained network, repaired or behind a reformer or detector; `context.train` is what it learnt from."""
        return Shield()


@dataclasses.dataclass(frozen=True)
class _Outputs:
    """Logits and features of a shield as the outputs of a victim."""

    def __call__(self, logits: Callable, features: Callable | None, x: Array) -> tuple[Array, Array | None]:
        return logits(x), None if features is None else features(x)


@dataclasses.dataclass(frozen=True)
class _Part:
    """The logits (0) or features (1) of a network."""

    place: int

    def __call__(self, outputs: Callable, x: Array) -> Array:
        return outputs(x)[self.place]


def guard(victim: Victim) -> Partial | None:
    """The logits of the shield that a victim is behind, as that shield made them; None without a shield."""
    return victim.outputs.args[0] if isinstance(victim.outputs.func, _Outputs) else None


def voted(shares: Array, smooth: Array) -> Array:
    """Shares of votes [b k] as logits in [-1, 1], with the gradient of smooth [b k] in the place of their own, 0.

    So attacks by gradient are as strong as on a network without votes (Athalye et al. 2018, section 4.1.2).
    """
    return 2 * jax.lax.stop_gradient(shares) - 1 + (smooth - jax.lax.stop_gradient(smooth))


def instead(network: Victim) -> Shield:
    """The shield that puts another network in the place of the trained one."""
    return Shield(logits=Partial(_Part(0), network.outputs), features=Partial(_Part(1), network.outputs))


def shielded(victim: Victim, shield: Shield) -> Victim:
    """The network behind its shield."""
    if shield.logits is not None or shield.features is not None:
        logits = shield.logits or Partial(_Part(0), victim.outputs)
        features = shield.features or (Partial(_Part(1), victim.outputs) if shield.logits is None else None)
        victim = victim._replace(outputs=Partial(_Outputs(), _partial(logits), features and _partial(features)))
    if shield.suspicion is None:
        return victim
    return victim._replace(suspicion=_partial(shield.suspicion), threshold=shield.threshold)


def _partial(function: Callable) -> Partial:
    return function if isinstance(function, Partial) else Partial(function)
