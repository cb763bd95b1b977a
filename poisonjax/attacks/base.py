"""The contracts of test-time attacks."""

import abc
import inspect

from poisonjax.attacks.balls import Ball
from poisonjax.attacks.losses import Loss
from poisonjax.types import Array, Cost, LogitsFn


class Attack(abc.ABC):
    """A test-time attack: sees the victim only through `logits_fn`, so it cannot touch its state.

    A new one is a frozen dataclass with `__call__` and `cost`; the rest has defaults.

    ball: the ball around x that the result lies in; None for an attack that seeks the smallest change or is limited
    otherwise. A class that does not declare it has None.
    """

    ball: Ball | None

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        # Not in the class body of Attack: a dataclass takes an inherited value for the default of its own field.
        if "ball" not in inspect.get_annotations(cls) and not hasattr(cls, "ball"):
            cls.ball = None

    @abc.abstractmethod
    def __call__(self, logits_fn: LogitsFn, x: Array, y: Array, key: Array) -> Array:
        """x [b ...] in [0, 1], y [b] int, one key or one per row -> x_adv [b ...] in [0, 1].

        logits_fn: images [b ...] -> logits [b k]. Pure, and row by row: a row depends on itself and its key alone.
        Rows that are misclassified already may come back unchanged. ValueError for invalid input (`check_inputs`).
        """

    @property
    @abc.abstractmethod
    def cost(self) -> Cost:
        """The most that is spent on one image."""

    @property
    def stages(self) -> tuple[tuple[str, "Attack"], ...]:
        """(name, attack) of each part of an ensemble, in order, each for the rows that those before left; () for none.

        An ensemble equals its stages, run one at a time on the rows that are left.
        """
        return ()

    @property
    def climbs(self) -> bool:
        """True for an untargeted attack that takes several gradient steps and can reach the edge of its ball.

        A network that does not hide its gradient withstands such an attack less than a single step or random search.
        """
        return self.cost.gradients > 1

    @property
    def fewest_classes(self) -> int:
        """The fewest classes that a network must have for it."""
        return max((attack.fewest_classes for _, attack in self.stages), default=2)

    @property
    def single_step(self) -> bool:
        """True for an attack that takes one gradient step."""
        return self.cost.gradients == 1


class LossAttack(Attack):
    """An attack that raises a loss within a ball: what adversarial training and poisons craft images with.

    A new one is a frozen dataclass with the fields ball, loss, steps (of one run) and random_start (True if a run
    begins at a random point of the ball instead of at x).
    """

    ball: Ball
    loss: Loss
    steps: int
    random_start: bool

    @abc.abstractmethod
    def __call__(self, logits_fn: LogitsFn, x: Array, y: Array, key: Array, scale: Array | float = 1.0) -> Array:
        """x [b ...] in [0, 1], y as the loss takes it, one key or one per row -> x_adv [b ...] in ball and [0, 1].

        scale in [0, 1], which may be traced, shrinks the ball and the steps: the eps warm-up of adversarial training.
        """

    @property
    def fewest_classes(self) -> int:
        """Those that its loss needs."""
        return self.loss.fewest_classes

    @property
    @abc.abstractmethod
    def max_distance(self) -> float:
        """The largest distance from x that the result can have, in the ball's norm; at most `ball.eps`."""
