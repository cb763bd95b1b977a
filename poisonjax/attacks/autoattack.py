"""AutoAttack: an ensemble of attacks without parameters (Croce & Hein 2020, "Reliable evaluation of adversarial
robustness with an ensemble of diverse parameter-free attacks")."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from poisonjax.attacks.apgd import APGD, TargetedAPGD
from poisonjax.attacks.balls import L2, Ball, Linf
from poisonjax.attacks.base import Attack
from poisonjax.attacks.blocks import where_rows
from poisonjax.attacks.checks import check_inputs
from poisonjax.attacks.fab import FAB
from poisonjax.attacks.losses import DLR
from poisonjax.attacks.rows import fold_in
from poisonjax.attacks.settings import check_counts, check_instance
from poisonjax.attacks.square import Square
from poisonjax.types import Array, Cost, LogitsFn


@dataclasses.dataclass(frozen=True)
class AutoAttack(Attack):
    """One attack after the other, on the images that those before left (section 5).

    ball: Linf or L2. version: "standard" is APGD on the cross-entropy, targeted APGD, targeted FAB and
    Square; "rand" is APGD on the cross-entropy and on the DLR loss, for networks with randomness of their own, such as
    a random resize of the image. There logits_fn must be a mean over 20 draws, made of the stochastic
    (x, key) -> logits by `adaptive.eot`, so that each gradient is one of the expectation. steps, targets, queries:
    those of the attacks; the published budget unless given. ValueError for another version, and when called with a
    network of less than 4 classes ("rand": 3), for which the DLR loss is not defined.
    """

    ball: Ball
    version: str = "standard"
    steps: int = 100
    targets: int = 9
    queries: int = 5000

    needs_images: ClassVar[bool] = True

    def __post_init__(self):
        if self.version not in ("standard", "rand"):
            raise ValueError(f"version must be standard or rand, got {self.version!r}")
        check_instance(self, "ball", Linf, L2, example="Linf(8/255)")
        check_counts(self, "steps", "targets", "queries")

    @property
    def stages(self) -> tuple[tuple[str, Attack], ...]:
        """The attacks by name, in order, to be run one at a time on the images that are left."""
        first = APGD(self.ball, self.steps)
        if self.version == "rand":
            return ("apgd_ce", first), ("apgd_dlr", dataclasses.replace(first, loss=DLR()))
        norm = "Linf" if isinstance(self.ball, Linf) else "L2"
        return (
            ("apgd_ce", first),
            ("apgd_t", TargetedAPGD(self.ball, self.steps, targets=self.targets)),
            ("fab_t", FAB(norm, self.steps, self.targets, eps=self.ball.eps)),
            ("square", Square(self.ball, self.queries)),
        )

    def __call__(self, logits_fn: LogitsFn, x: Array, y: Array, key: Array) -> Array:
        """x [b ...] in [0, 1], y [b], one key or one per row -> x_adv [b ...] in the ball and in [0, 1].

        The image of the first attack that succeeded, x itself where none did or none had to.
        """
        x, y, keys = check_inputs(x, y, key, spatial=True)
        attacks = [lambda y: x, *(_attack(attack, logits_fn, x, keys, i) for i, (_, attack) in enumerate(self.stages))]

        def stage(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            i, found, wrong = state
            # No image is of class -1, so an attack is done with these rows before it begins.
            x_adv = jax.lax.switch(i, attacks, jnp.where(wrong, -1, y))
            succeeded = ~wrong & (jnp.argmax(logits_fn(x_adv), -1) != y)
            return i + 1, where_rows(succeeded, x_adv, found), wrong | succeeded

        def going(state: tuple[Array, Array, Array]) -> Array:
            return (state[0] < len(attacks)) & ~jnp.all(state[2])

        return jax.lax.while_loop(going, stage, (0, x, jnp.zeros(len(x), bool)))[1]

    @property
    def cost(self) -> Cost:
        """For one image, at most: that of all attacks, and one query for x and for the result of each."""
        costs = [attack.cost for _, attack in self.stages]
        return Cost(sum(cost.gradients for cost in costs), sum(cost.queries for cost in costs) + len(costs) + 1)


def _attack(attack: Attack, logits_fn: LogitsFn, x: Array, keys: Array, stage: int):
    """Labels [b] -> x_adv [b ...], with keys of the stage's own."""
    return lambda y: attack(logits_fn, x, y, fold_in(keys, stage))
