"""Optimisers and learning-rate schedules: settings that give optax's once the length of the training is known."""

import abc
import dataclasses

import optax


class Schedule(abc.ABC):
    """The learning rate over a training. A new one is a frozen dataclass with `__call__`."""

    @abc.abstractmethod
    def __call__(self, learning_rate: float, steps: int) -> optax.Schedule:
        """The learning rate at each of so many steps, `learning_rate` being the highest."""


@dataclasses.dataclass(frozen=True)
class Constant(Schedule):
    """The same learning rate throughout."""

    def __call__(self, learning_rate: float, steps: int) -> optax.Schedule:
        return optax.constant_schedule(learning_rate)


@dataclasses.dataclass(frozen=True)
class Cosine(Schedule):
    """From the learning rate to 0 along half a cosine (Loshchilov & Hutter 2017, section 3, without restarts)."""

    def __call__(self, learning_rate: float, steps: int) -> optax.Schedule:
        return optax.cosine_decay_schedule(learning_rate, steps)


@dataclasses.dataclass(frozen=True)
class Cyclic(Schedule):
    """From 0 up to the learning rate and down to 0, both in a straight line (Smith 2017, section 3.1, one cycle).

    peak: the share of the steps, in (0, 1), at which the rate is highest. ValueError outside.
    """

    peak: float = 0.4

    def __post_init__(self):
        if not 0 < self.peak < 1:
            raise ValueError(f"peak is a share of the steps and must lie in (0, 1), got {self.peak}")

    def __call__(self, learning_rate: float, steps: int) -> optax.Schedule:
        top = max(1, round(self.peak * steps))
        up = optax.linear_schedule(0.0, learning_rate, top)
        return optax.join_schedules([up, optax.linear_schedule(learning_rate, 0.0, max(1, steps - top))], [top])


class Optimizer(abc.ABC):
    """An optimiser. A new one is a frozen dataclass with `__call__`.

    Equal settings must give the same optimiser: an interrupted training builds it anew and restores its state.
    """

    @abc.abstractmethod
    def __call__(self, steps: int) -> optax.GradientTransformation:
        """The optimiser of a training of so many steps."""


def _check_learning_rate(learning_rate: float) -> None:
    if not learning_rate > 0:
        raise ValueError(f"learning_rate must be above 0, got {learning_rate}")


@dataclasses.dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma & Ba 2015). ValueError unless the learning rate is above 0."""

    learning_rate: float = 1e-3
    schedule: Schedule = Constant()

    def __post_init__(self):
        _check_learning_rate(self.learning_rate)

    def __call__(self, steps: int) -> optax.GradientTransformation:
        return optax.adam(self.schedule(self.learning_rate, steps))


@dataclasses.dataclass(frozen=True)
class SGD(Optimizer):
    """Gradient descent with Nesterov's momentum; the decay of all weights is part of the gradient.

    The recipe of residual networks (He et al. 2016, section 4.2). momentum in [0, 1), weight_decay at least 0;
    ValueError outside.
    """

    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Schedule = Cosine()

    def __post_init__(self):
        _check_learning_rate(self.learning_rate)
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), got {self.momentum}")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay must be at least 0, got {self.weight_decay}")

    def __call__(self, steps: int) -> optax.GradientTransformation:
        descent = optax.sgd(self.schedule(self.learning_rate, steps), self.momentum, nesterov=self.momentum > 0)
        return optax.chain(optax.add_decayed_weights(self.weight_decay), descent)
