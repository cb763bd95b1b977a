"""How a network's weights follow its gradient: settings that give an optax optimiser once the length is known."""

import dataclasses

import optax


@dataclasses.dataclass(frozen=True)
class Constant:
    """The same learning rate throughout."""

    def __call__(self, learning_rate: float, steps: int) -> optax.Schedule:
        return optax.constant_schedule(learning_rate)


@dataclasses.dataclass(frozen=True)
class Cosine:
    """From the learning rate to 0 along half a cosine (Loshchilov & Hutter 2017, section 3, without restarts)."""

    def __call__(self, learning_rate: float, steps: int) -> optax.Schedule:
        return optax.cosine_decay_schedule(learning_rate, steps)


@dataclasses.dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba 2015). ValueError unless the learning rate is above 0."""

    learning_rate: float = 1e-3
    schedule: Constant | Cosine = Constant()

    def __post_init__(self):
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")

    def __call__(self, steps: int) -> optax.GradientTransformation:
        """For a training of so many steps."""
        return optax.adam(self.schedule(self.learning_rate, steps))
