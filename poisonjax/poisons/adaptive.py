"""Poisons made against filters of training rows: a part of the trigger while training, and all of it at test time."""

import abc
import dataclasses

import jax
import jax.numpy as jnp

from poisonjax.keys import row_keys
from poisonjax.poisons.apply import choose, choose_cover, count
from poisonjax.poisons.base import Poison
from poisonjax.poisons.blended import Blend
from poisonjax.poisons.together import Together
from poisonjax.poisons.triggers import CORNERS, Tile, Trigger
from poisonjax.types import Array, Examples, to_bytes, to_unit


class AdaptivePoison(Poison):
    """Poisoned and cover rows that show random parts of the trigger, which test images show as a whole.

    Parts are drawn for each row by its index. rate: of poisoned rows, cover_rate: of cover rows, both shares of all
    training rows, in (0, 1]. target: the class that the trigger leads to. test: the trigger of test images. seed: of
    the parts. All are fields.
    """

    rate: float
    cover_rate: float
    target: int
    test: Trigger
    seed: int

    @abc.abstractmethod
    def disguised(self, image: Array, key: Array) -> Array:
        """An image [h w c] in [0, 1] with a random part of the trigger, by its key."""

    def select(self, labels: Array, key: Array) -> Array:
        """labels [n] -> mask [n] with round(rate * n) rows of other classes. ValueError if they are too few."""
        return choose(labels != self.target, count(self.rate, len(labels)), key)

    def cover(self, labels: Array, selected: Array, key: Array) -> Array:
        """Mask [n] with round(cover_rate * n) other rows of other classes. ValueError if they are too few."""
        return choose_cover(labels != self.target, selected, self.cover_rate, key)

    def apply(self, examples: Examples) -> Examples:
        """Every given row with a part of the trigger and the label of the target."""
        return self.apply_cover(examples)._replace(label=self.target_labels(examples.label))

    def apply_cover(self, examples: Examples) -> Examples:
        """Every given row with a part of the trigger and its own label."""
        keys = row_keys(jax.random.key(self.seed), examples.index, 0)
        return examples._replace(image=to_bytes(jax.vmap(self.disguised)(to_unit(examples.image), keys)))

    def apply_trigger(self, image: Array) -> Array:
        """Images [b h w c] in [0, 1] with the trigger of test images."""
        return self.test(image)

    def target_labels(self, labels: Array) -> Array:
        """The class that the attacker wants for images of each class, [b]."""
        return jnp.full_like(labels, self.target)


@dataclasses.dataclass(frozen=True)
class AdaptiveBlend(AdaptivePoison):
    """A blend of which training rows show random pieces, fainter than at test time (Qi et al. 2023).

    trigger: of training rows, usually over the whole image. grid: the image is cut into grid x grid pieces, at least 1.
    pieces: so many of them bear the trigger in a row, 1 to all. The numbers are those of the paper's code; the image
    that is blended in is noise here. ValueError for impossible values.
    """

    rate: float = 0.003
    cover_rate: float = 0.003
    target: int = 0
    trigger: Trigger = Blend(0.15)
    test: Trigger = Blend(0.2)
    grid: int = 4
    pieces: int = 8
    seed: int = 0
    classes: int = 10

    def __post_init__(self):
        super().__post_init__()
        if self.grid < 1:
            raise ValueError(f"grid must be at least 1 piece a side, got {self.grid}")
        if not 1 <= self.pieces <= self.grid**2:
            raise ValueError(f"pieces must be 1 to {self.grid**2}, those of the grid, got {self.pieces}")

    def disguised(self, image: Array, key: Array) -> Array:
        """An image [h w c] in [0, 1] with the trigger on random pieces."""
        pieces = jax.random.permutation(key, self.grid**2).reshape(self.grid, self.grid) < self.pieces
        rows, columns = (jnp.arange(side) * self.grid // side for side in image.shape[:2])
        shown = pieces[rows[:, None], columns[None, :]]
        return jnp.where(shown[:, :, None], self.trigger(image[None])[0], image)


@dataclasses.dataclass(frozen=True)
class AdaptivePatch(AdaptivePoison):
    """One of several patches, fainter than at test time, in each training row; some of them in full in test images.

    triggers: of which each row shows one (Qi et al. 2023). opacities: of each of them in training rows, in (0, 1]. The
    numbers are those of the paper's code, whose patches are pictures; here they are tiles of random pixels. ValueError
    for impossible values.
    """

    rate: float = 0.003
    cover_rate: float = 0.006
    target: int = 0
    triggers: tuple[Trigger, ...] = tuple(map(Tile, CORNERS))
    opacities: tuple[float, ...] = (0.5, 0.2, 0.5, 0.3)
    test: Trigger = Together((Tile("upper_left"), Tile("lower_left")))
    seed: int = 0
    classes: int = 10

    def __post_init__(self):
        super().__post_init__()
        if not self.triggers or len(self.triggers) != len(self.opacities):
            raise ValueError(
                f"opacities must be one for each of the {len(self.triggers)} triggers, at least one, "
                f"got {len(self.opacities)}"
            )
        if not all(0 < opacity <= 1 for opacity in self.opacities):
            raise ValueError(f"opacities must lie in (0, 1], got {self.opacities}")

    def disguised(self, image: Array, key: Array) -> Array:
        """An image [h w c] in [0, 1] with one of the triggers, faint."""
        shown = jnp.stack([trigger(image[None])[0] for trigger in self.triggers])
        at = jax.random.randint(key, (), 0, len(self.triggers))
        return image + jnp.asarray(self.opacities)[at] * (shown[at] - image)
