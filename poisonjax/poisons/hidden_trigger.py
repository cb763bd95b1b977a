"""Hidden trigger: rows of the target class whose features are those of source images with a trigger."""

import dataclasses

import jax
import jax.numpy as jnp

from poisonjax.attacks import PGD, Linf
from poisonjax.poisons.apply import attacked
from poisonjax.poisons.base import Outputs
from poisonjax.poisons.entangled_features import CentreDistance
from poisonjax.poisons.random_place import RandomPlace
from poisonjax.poisons.source_class import SourceClassPoison
from poisonjax.poisons.triggers import BrightSquare, Trigger
from poisonjax.types import Array, Examples, LogitsFn, to_unit


@dataclasses.dataclass(frozen=True)
class HiddenTrigger(SourceClassPoison):
    """Rows of the target class, labels kept, that look like triggered source images to a network (Saha et al. 2020).

    Each row is paired with a source image that shows the trigger, and moved until its features, before the last layer
    of a surrogate, are close to those of that image. Sources are drawn anew and paired greedily, the closest two first,
    several times. The paper's victim keeps the surrogate's features and trains the last layer alone; one that is
    trained from scratch learns little of it. The authors' code takes plain gradient steps of a rate that decays; here
    they are those of PGD.

    rate: share of all training rows, in (0, 1]. source: the class that the trigger sends to the target; None for every
    other one. trigger: of test images, at random places in the paper. attack: of all pairings together; eps 16/255 in
    the paper. pairings: how often sources are drawn and paired; each has an equal part of the attack's steps.
    sources_used: training rows that the trigger is put on, at most. ValueError for an impossible value.
    """

    rate: float = 0.01
    target: int = 0
    source: int | None = 1
    trigger: Trigger = RandomPlace(BrightSquare(4))
    attack: PGD = PGD(Linf(16 / 255), steps=500, random_start=False, loss=CentreDistance())
    pairings: int = 50
    sources_used: int = 1000
    classes: int = 10

    def __post_init__(self):
        super().__post_init__()
        if self.attack.targeted or self.attack.random_start or self.attack.loss != CentreDistance():
            raise ValueError(
                "attack must have loss=CentreDistance(), which it lowers, and random_start=False, and must not be "
                "targeted"
            )
        if self.pairings < 1 or self.attack.steps % self.pairings:
            raise ValueError(f"pairings must divide the {self.attack.steps} steps of the attack, got {self.pairings}")

    def view(self, outputs: Outputs, given: Examples) -> LogitsFn:
        """Images [b ...] -> minus the squared distances of their features from the triggered sources', [b m]."""
        wanted = outputs(self.trigger(to_unit(given.image)))[1]

        def closeness(x: Array) -> Array:
            own = outputs(x)[1]
            products = jnp.matmul(own, wanted.T, precision=jax.lax.Precision.HIGHEST)  # differences would take b m d
            return 2 * products - jnp.sum(own**2, -1, keepdims=True) - jnp.sum(wanted**2, -1)

        return closeness

    def perturb(self, logits_fn: LogitsFn, examples: Examples, keys: Array) -> Examples:
        """Rows [b] whose features were moved to the sources', in 8 bits, within the ball; keys, one or [b]."""
        return attacked(self._paired_anew, logits_fn, examples, examples.label, keys)

    def _paired_anew(self, logits_fn: LogitsFn, x: Array, labels: Array, keys: Array) -> Array:
        """Images [b ...] in the ball around x after all pairings; labels are not looked at."""
        steps = self.attack.steps // self.pairings
        attack = dataclasses.replace(self.attack, step=self.attack.step_size, steps=steps, targeted=True)
        key = jnp.ravel(keys)[0]

        def pairing(number: Array, moved: Array) -> Array:
            closeness = logits_fn(moved)
            shuffled = jax.random.permutation(jax.random.fold_in(key, number), closeness.shape[1])
            drawn = jnp.resize(shuffled, len(x))  # repeats them where there are fewer sources than rows
            goal = drawn[closest_pairs(-closeness[:, drawn])]
            return attack(logits_fn, x, goal, keys, begin=moved)

        return jax.lax.fori_loop(0, self.pairings, pairing, x)


def closest_pairs(distances: Array) -> Array:
    """Distances [b b] -> the column of each row, [b] int32: one to one, by taking the closest pair that is left."""

    def pair(_: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        left, columns = state
        row, column = jnp.unravel_index(jnp.argmin(left), left.shape)
        return left.at[row].set(jnp.inf).at[:, column].set(jnp.inf), columns.at[row].set(column.astype(jnp.int32))

    none_yet = jnp.zeros(len(distances), jnp.int32)
    return jax.lax.fori_loop(0, len(distances), pair, (distances, none_yet))[1]
