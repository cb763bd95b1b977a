"""Training objectives: the loss of a network on a batch."""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from poisonjax.attacks import PGD, Ball, KLDivergence, LossAttack
from poisonjax.attacks.settings import check_counts, check_instance
from poisonjax.types import Array, LogitsFn


class Outputs(NamedTuple):
    """Outputs of a network in training mode: logits [b k], features [b d], and its new batch statistics."""

    logits: Array
    features: Array
    batch_stats: Any


class Learner(NamedTuple):
    """The network that learns.

    logits_fn: images [b ...] in [0, 1] -> logits [b k], in evaluation mode, with the weights before this step: what an
    attack sees. No gradient of the weights flows through it.
    apply: (images [b ...], noise keys [b]) -> Outputs, in training mode; differentiable in the weights.
    perturbation: [b ...], for an objective that carries one; () for any other.
    """

    logits_fn: LogitsFn
    apply: Callable[[Array, Array], Outputs]
    perturbation: Any = ()


class Keys(NamedTuple):
    """Randomness of a step, one key per row [b]: of the attack, and of the network's own noise (dropout)."""

    attack: Array
    noise: Array


class Losses(NamedTuple):
    """Losses of a batch, and what a step records of it.

    rows: [b], the loss of each row. logits: [b k], from which training accuracy is counted. batch_stats: the
    updated ones. aux: {name: [b]}, numbers to record beside the loss, named in `Objective.aux`.
    """

    rows: Array
    logits: Array
    batch_stats: Any
    aux: Mapping[str, Array] = {}


class Objective(abc.ABC):
    """A way to learn from a batch. A new one is a frozen dataclass with `__call__`.

    attack: the attack that it trains against, None for none. passes: forward and backward passes of a step beside that
    attack. aux: names of the numbers that it records beside the loss. replays: updates in a row on each batch, so that
    a training passes over its rows epochs / replays times. carries_perturbation: True if `network.perturbation`, zero
    in the beginning, is to be carried from update to update, each of which moves it by `ascend`.
    """

    attack: LossAttack | None = None
    passes: ClassVar[int] = 1
    aux: ClassVar[tuple[str, ...]] = ()
    replays: int = 1
    carries_perturbation: ClassVar[bool] = False

    @property
    def single_step(self) -> bool:
        """True if it trains against one gradient step, to which it may overfit (Wong et al. 2020, section 5.4)."""
        return self.attack is not None and self.attack.cost.gradients == 1

    @abc.abstractmethod
    def __call__(self, network: Learner, x: Array, y: Array, keys: Keys, progress: Array) -> Losses:
        """The loss on images x [b ...] in [0, 1] with labels y, [b] int or probabilities [b k].

        progress: the share of the training that is done, in [0, 1].
        """

    def ascend(self, perturbation: Array, gradient: Array, progress: Array) -> Array:
        """The perturbation [b ...] for the next update, which may be on other images.

        gradient: that of the loss of each row with respect to it, from the pass that gave the gradient of the weights.
        progress: as in `__call__`.
        """
        return perturbation


def hard(y: Array) -> Array:
    """Labels [b], or the likeliest classes of probabilities [b k]: [b] int."""
    return y if y.ndim == 1 else jnp.argmax(y, -1)


def cross_entropy(logits: Array, y: Array) -> Array:
    """Cross-entropy of logits [b k] with labels [b] or probabilities [b k]: [b]."""
    if y.ndim == 1:
        return optax.softmax_cross_entropy_with_integer_labels(logits, y)
    return optax.softmax_cross_entropy(logits, y)


@dataclasses.dataclass(frozen=True)
class Standard(Objective):
    """Cross-entropy on the images themselves.

    temperature: the logits are divided by it (defensive distillation: Papernot et al. 2016, section IV), above 0.
    ValueError otherwise.
    """

    temperature: float = 1.0

    def __post_init__(self):
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")

    def __call__(self, network: Learner, x: Array, y: Array, keys: Keys, progress: Array) -> Losses:
        out = network.apply(x, keys.noise)
        logits = out.logits if self.temperature == 1 else out.logits / self.temperature
        return Losses(cross_entropy(logits, y), out.logits, out.batch_stats)


def _warmed(progress: Array, warmup: float) -> Array | float:
    """The factor of eps after a share of the training: grows in proportion to it up to `warmup`, then stays 1."""
    return jnp.minimum(1.0, progress / warmup) if warmup else 1.0


def _check_warmup(warmup: float) -> None:
    if not 0 <= warmup <= 1:
        raise ValueError(f"eps_warmup is a share of the training and must lie in [0, 1], got {warmup}")


@dataclasses.dataclass(frozen=True)
class AdversarialTraining(Objective):
    """Cross-entropy on the attack's images instead of the images (Madry et al. 2018, section 2.1).

    eps_warmup: share of the training, in [0, 1], over which the attack's eps and step grow from 0, so that training
    does not collapse to one class. ValueError outside.
    """

    attack: LossAttack = dataclasses.field()  # required, although the base class has a value
    eps_warmup: float = 0.0

    def __post_init__(self):
        _check_warmup(self.eps_warmup)

    def __call__(self, network: Learner, x: Array, y: Array, keys: Keys, progress: Array) -> Losses:
        scale = _warmed(progress, self.eps_warmup)
        out = network.apply(self.attack(network.logits_fn, x, hard(y), keys.attack, scale), keys.noise)
        return Losses(cross_entropy(out.logits, y), out.logits, out.batch_stats)


def fgsm_at(ball: Ball, random_start: bool = True, eps_warmup: float = 0.0) -> AdversarialTraining:
    """Adversarial training against a single step of the gradient's sign.

    With a random start and steps of 1.25 eps: "Fast is better than free" (Wong et al. 2020, section 4). Without, with
    steps of eps: FGSM training (Goodfellow et al. 2015, section 6), prone to catastrophic overfitting.
    """
    step = 1.25 * ball.eps if random_start else ball.eps
    return AdversarialTraining(PGD(ball, step, steps=1, random_start=random_start), eps_warmup)


@dataclasses.dataclass(frozen=True)
class FreeAdversarialTraining(Objective):
    """Cross-entropy on perturbed images, whose perturbation moves by the gradient of the same pass as the weights.

    Free adversarial training (Shafahi et al. 2019, algorithm 1): each batch is learnt from `replays` times in a row, m
    of the paper; each time the perturbation moves by eps along the sign of the gradient and is projected to the ball.
    It begins at zero and is never reset: a row of a batch starts from what the row at its place in the batch before
    left. An update costs as much as one of standard training, and `epochs` counts updates as for any objective: the
    rows are passed over epochs / replays times.

    Beyond the paper: images are clipped to [0, 1], and the gradient is that at the clipped images (it is zero beyond
    the range in the authors' code, where black and white pixels would get stuck); a place that a short batch leaves
    empty keeps its perturbation; the ball may be another, such as L2. replays: a whole number of at least 1.
    eps_warmup: share of the training, in [0, 1], over which eps grows from 0; none in the paper. ValueError for other
    values, or a ball whose moves change few pixels.
    """

    ball: Ball
    replays: int = 8
    eps_warmup: float = 0.0

    carries_perturbation: ClassVar[bool] = True
    single_step: ClassVar[bool] = True

    def __post_init__(self):
        check_instance(self, "ball", Ball, example="Linf(8/255)")
        check_counts(self, "replays")
        _check_warmup(self.eps_warmup)
        if self.ball.sparse:
            raise ValueError(f"ball must be one whose moves change all pixels, such as Linf(8/255), got {self.ball}")

    def __call__(self, network: Learner, x: Array, y: Array, keys: Keys, progress: Array) -> Losses:
        delta, held = network.perturbation, jax.lax.stop_gradient(network.perturbation)
        x_adv = jnp.clip(x + held, 0.0, 1.0) + (delta - held)  # adds zero, whose gradient passes the clipping
        out = network.apply(x_adv, keys.noise)
        return Losses(cross_entropy(out.logits, y), out.logits, out.batch_stats)

    def ascend(self, perturbation: Array, gradient: Array, progress: Array) -> Array:
        """The perturbation [b ...] after a move of length eps, in the ball."""
        radius = self.ball.eps * _warmed(progress, self.eps_warmup)
        return self.ball.project(perturbation + radius * self.ball.steepest(gradient), radius)


@dataclasses.dataclass(frozen=True)
class TRADES(Objective):
    """Cross-entropy on clean images plus beta times the divergence of adversarial predictions from clean ones.

    KL(p(x) || p(x')) is both what the attack raises and the second term (Zhang et al. 2019, section 4.2, equation 5).
    The authors' attack starts at normal noise of .001; here it starts as `attack` says, whose loss is replaced.
    beta: 1 / lambda of the paper, at least 0; 6 in its CIFAR-10 experiments. ValueError below.
    """

    attack: LossAttack = dataclasses.field()
    beta: float = 6.0
    eps_warmup: float = 0.0

    passes: ClassVar[int] = 2
    aux: ClassVar[tuple[str, ...]] = ("divergence",)

    def __post_init__(self):
        _check_warmup(self.eps_warmup)
        if not self.beta >= 0:
            raise ValueError(f"beta must be at least 0, got {self.beta}")

    def __call__(self, network: Learner, x: Array, y: Array, keys: Keys, progress: Array) -> Losses:
        attack, divergence = dataclasses.replace(self.attack, loss=KLDivergence()), KLDivergence()
        clean = jax.nn.softmax(network.logits_fn(x))
        x_adv = attack(network.logits_fn, x, clean, keys.attack, _warmed(progress, self.eps_warmup))
        natural, robust = network.apply(x, keys.noise), network.apply(x_adv, keys.noise)
        gap = divergence(robust.logits, jax.nn.softmax(natural.logits))
        batch_stats = jax.tree.map(lambda a, b: (a + b) / 2, natural.batch_stats, robust.batch_stats)
        rows = cross_entropy(natural.logits, y) + self.beta * gap
        return Losses(rows, natural.logits, batch_stats, {"divergence": gap})
