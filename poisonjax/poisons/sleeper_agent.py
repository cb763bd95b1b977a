"""Sleeper Agent: rows whose training gradient is that of a trigger which none of them shows."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from poisonjax.attacks import PGD, Linf, Loss
from poisonjax.attacks.settings import check_counts
from poisonjax.poisons.apply import attacked, count
from poisonjax.poisons.base import Outputs
from poisonjax.poisons.source_class import SourceClassPoison
from poisonjax.poisons.triggers import BrightSquare, Trigger
from poisonjax.types import Array, Examples, LogitsFn, take, to_unit

_BATCH = 64  # rows at a time whose gradients are measured


@dataclasses.dataclass(frozen=True)
class GradientAlignment(Loss):
    """The cosine of the rows' gradient and the attacker's, which is the only output [b 1] of `SleeperAgent.view`."""

    def __call__(self, logits: Array, labels: Array) -> Array:
        return logits[:, 0]


@dataclasses.dataclass(frozen=True)
class SleeperAgent(SourceClassPoison):
    """Rows of the target class, labels kept, that teach a hidden trigger by their gradient (Souri et al. 2022).

    All rows together are changed until the gradient that they give the parameters of a surrogate points where that of
    source images with the trigger, labelled as the target, points. The surrogate is trained anew on them, from another
    start, and the rows are changed further. The authors' code takes the steps of Adam on signs of gradients, with
    decays, and crafts in batches through random crops and flips; here they are those of PGD, on all rows as they are.

    rate: share of all training rows, in (0, 1]. source: the class that the trigger sends to the target; None for every
    other one. trigger: of test images; the authors' is a patch at random places, as `RandomPlace` has it. attack: of
    one round; eps 16/255 and 250 steps in all on CIFAR-10 in the authors' code. rounds: surrogates, 5 there.
    sources_used: training rows that the trigger is put on, at most. by_norm: take the rows of the largest gradients of
    the first surrogate, instead of any. chosen: their places in the training split, () until it is fitted. ValueError
    for an impossible value.
    """

    rate: float = 0.01
    target: int = 0
    source: int | None = 1
    trigger: Trigger = BrightSquare(8)
    attack: PGD = PGD(Linf(16 / 255), steps=50, loss=GradientAlignment())
    rounds: int = 5
    sources_used: int = 1000
    by_norm: bool = True
    chosen: tuple[int, ...] = ()
    classes: int = 10

    def __post_init__(self):
        super().__post_init__()
        if self.attack.targeted or self.attack.loss != GradientAlignment():
            raise ValueError("attack must have loss=GradientAlignment(), which it raises, and must not be targeted")
        check_counts(self, "rounds")

    @property
    def needs_rows(self) -> bool:
        """True until the rows of the largest gradients are chosen."""
        return self.by_norm and not self.chosen

    def fitted(self, rows: Examples, surrogate: Callable[[], Outputs]) -> "SleeperAgent":
        """The poison with its rows, those of the target class whose gradients are largest in the surrogate."""
        places = np.flatnonzero(np.asarray(rows.label) == self.target)
        norms = gradient_norms(surrogate(), take(rows, places))
        largest = places[np.argsort(-norms, kind="stable")[: count(self.rate, len(rows.label))]]
        return dataclasses.replace(self, chosen=tuple(sorted(largest.tolist())))

    def select(self, labels: Array, key: Array) -> Array:
        """labels [n] -> mask [n] with round(rate * n) rows of the target class."""
        if self.chosen:
            return jnp.zeros(labels.shape, bool).at[jnp.array(self.chosen)].set(True)
        return super().select(labels, key)

    def view(self, outputs: Outputs, given: Examples) -> LogitsFn:
        """Images [b ...] of the target class -> the cosine of their gradient and that of the sources, [b 1]."""
        wanted = _gradient(outputs, self.trigger(to_unit(given.image)), self.target)

        def alignment(x: Array) -> Array:
            own = _gradient(outputs, x, self.target)
            cosine = jnp.vdot(own, wanted) / (_length(own) * _length(wanted))
            return jnp.broadcast_to(cosine, (len(x), 1))

        return alignment

    def perturb(self, logits_fn: LogitsFn, examples: Examples, keys: Array, *before: Examples) -> Examples:
        """All rows [b] with their gradient turned, in 8 bits, within the ball; before: the rows as they were left."""
        begin = to_unit(before[0].image) if before else None
        return attacked(self.attack, logits_fn, examples, examples.label, keys, begin=begin)


def gradient_norms(outputs: Outputs, rows: Examples) -> np.ndarray:
    """The length of the gradient of each row's loss, [n], in the parameters of a network."""

    def norm(outputs: Outputs, row: Examples) -> Array:
        return _length(_gradient(outputs, to_unit(row.image)[None], row.label[None]))

    every = jax.jit(lambda outputs, rows: jax.lax.map(lambda row: norm(outputs, row), rows, batch_size=_BATCH))
    return np.asarray(every(outputs, jax.tree.map(jnp.asarray, rows)))


def _gradient(outputs: Outputs, image: Array, labels: Array | int) -> Array:
    """The gradient of the mean loss of images [b ...] in the parameters of a network, [p]."""
    parameters, *rest = outputs.args

    def loss(parameters) -> Array:
        logits = outputs.func(parameters, *rest, image)[0]
        return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.broadcast_to(labels, len(image))).mean()

    return ravel_pytree(jax.grad(loss)(parameters))[0]


def _length(gradient: Array) -> Array:
    """The length of a gradient [p], differentiable at zero."""
    return jnp.sqrt(jnp.sum(jnp.square(gradient)) + 1e-20)
