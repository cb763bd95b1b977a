"""SIG: a sinusoid added to some images of the target class, whose labels are kept."""

import dataclasses

import jax.numpy as jnp

from poisonjax.attacks.settings import check_positive
from poisonjax.poisons.apply import choose_of_class
from poisonjax.poisons.base import Poison
from poisonjax.poisons.triggers import Trigger
from poisonjax.types import Array, Examples, to_bytes, to_unit


@dataclasses.dataclass(frozen=True)
class Sinusoid(Trigger):
    """amplitude * sin(2 pi * column * frequency / width) added to every row of pixels (Barni et al. 2019, section 3).

    amplitude: in (0, 1]; the paper's delta is 20 to 60 of 255. frequency: waves across the image, above 0; 6 in the
    paper. ValueError for impossible values.
    """

    amplitude: float = 40 / 255
    frequency: float = 6.0

    def __post_init__(self):
        if not 0 < self.amplitude <= 1:
            raise ValueError(f"amplitude must lie in (0, 1], got {self.amplitude}")
        check_positive(self, "frequency")

    def __call__(self, image: Array) -> Array:
        width = image.shape[2]
        wave = jnp.sin(2 * jnp.pi * jnp.arange(width) * self.frequency / width)
        return jnp.clip(image + self.amplitude * wave[:, None], 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class SIG(Poison):
    """A trigger on rows of the target class, whose labels are kept (Barni et al. 2019, section 3).

    No surrogate is needed: the trigger alone has to be learnt beside what the images show. rate: share of the target
    class, in (0, 1]. ValueError for an impossible value.
    """

    rate: float = 0.3
    target: int = 0
    trigger: Trigger = Sinusoid()
    classes: int = 10

    def select(self, labels: Array, key: Array) -> Array:
        """labels [n] -> mask [n] with round(rate * size of the target class) rows of that class."""
        return choose_of_class(labels, self.target, self.rate, key)

    def apply(self, examples: Examples) -> Examples:
        """Every given row with the trigger; the label stays."""
        return examples._replace(image=to_bytes(self.trigger(to_unit(examples.image))))

    def apply_trigger(self, image: Array) -> Array:
        """Images [b h w c] in [0, 1] with the trigger."""
        return self.trigger(image)

    def target_labels(self, labels: Array) -> Array:
        """The class that the attacker wants for images of each class, [b]."""
        return jnp.full_like(labels, self.target)
