"""Chen et al. 2020: jumps along a gradient that is estimated from decisions, then back to the boundary."""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from poisonjax.attacks.balls import L2, Linf
from poisonjax.attacks.base import Attack
from poisonjax.attacks.boundary import Wrong, boundary_image, decisions, misclassified_start
from poisonjax.attacks.carlini_wagner import none_yet
from poisonjax.attacks.checks import check_inputs
from poisonjax.attacks.rows import fold_in, l2, linf, per_row
from poisonjax.attacks.settings import check_counts
from poisonjax.types import Array, Cost, LogitsFn

_LANDINGS = 6  # tries of one jump, each half as long as the one before


@dataclasses.dataclass(frozen=True)
class HopSkipJump(Attack):
    """HopSkipJumpAttack (Chen et al. 2020, section 4, algorithm 2): sees only the class that the network decides for.

    Each round estimates the gradient at the boundary, jumps along it by the geometric progression of section 4.3, and
    bisects back to the boundary. norm: "L2" or "Linf", the distance that is to be small. queries: for an image, of
    all kinds; as many rounds as they allow. tries: how many noise images it may start from. evaluations: queries for
    the first gradient, sqrt(t) times as many for that of round t. at_once: how many of them share one forward pass,
    and are the least that is added. ValueError for an impossible setting.
    """

    norm: str = "L2"
    queries: int = 25_000
    tries: int = 100
    evaluations: int = 100
    at_once: int = 20

    def __post_init__(self):
        if self.norm not in ("L2", "Linf"):
            raise ValueError(f"norm must be L2 or Linf, got {self.norm!r}")
        check_counts(self, "queries", "tries", "evaluations", "at_once")

    def __call__(self, logits_fn: LogitsFn, x: Array, y: Array, key: Array) -> Array:
        """x [b ...] in [0, 1], y [b] -> the closest misclassified image found, in [0, 1]; x where there is none.

        ValueError if queries are too few to start.
        """
        x, y, keys = check_inputs(x, y, key)
        wrong = decisions(logits_fn, y, x.shape[1:])
        halvings, batches = self._halvings(x[0].size), jnp.asarray(self._batches(x[0].size))

        def hop(t: Array, state):
            image, closest = state
            landed = self._jump(wrong, x, image, t, batches[t], fold_in(keys, 1 + self.tries + t))
            image = boundary_image(wrong, self._between(x, landed), x, halvings)
            distance = self._length(image - x).reshape(-1)
            return image, closest.or_closer(image, distance, distance >= 0)

        start = misclassified_start(wrong, x, keys, self.tries), none_yet(x)
        return jax.lax.fori_loop(0, len(batches), hop, start)[1].image

    @property
    def cost(self) -> Cost:
        """Queries for one image, at most."""
        return Cost(queries=self.queries)

    def _halvings(self, pixels: int) -> int:
        """Bisections that come to within theta of the boundary (section 4.4): d^-1.5 of the distance, Linf d^-2."""
        return math.ceil(math.log2(pixels) * (1.5 if self.norm == "L2" else 2.0))

    def _batches(self, pixels: int) -> np.ndarray:
        """Passes that each round spends on its gradient; the first round has none and only finds the boundary."""
        halvings = self._halvings(pixels)
        left, batches = self.queries - (1 + self.tries) - halvings, [0]
        if left < 0:
            raise ValueError(
                f"queries must be at least {self.queries - left} for images of {pixels} values and {self.tries} tries, "
                f"got {self.queries}"
            )
        while (spare := (left - _LANDINGS - halvings) // self.at_once) > 0:
            batches.append(min(spare, math.ceil(self.evaluations * math.sqrt(len(batches)) / self.at_once)))
            left -= batches[-1] * self.at_once + _LANDINGS + halvings
        return np.array(batches)

    def _jump(self, wrong: Wrong, x: Array, image: Array, t: Array, batches: Array, keys: Array) -> Array:
        """A jump from the boundary along the gradient to misclassified images [b ...]; round 0 stays."""
        distance = self._length(image - x)
        slope = self._slope(wrong, image, distance / x[0].size, batches, keys)
        ahead = (L2(0.0) if self.norm == "L2" else Linf(0.0)).steepest(slope)

        def land(state):
            tries, size, landed = state
            landed = landed | wrong(jnp.clip(image + size * ahead, 0.0, 1.0))
            return tries + 1, jnp.where(landed, size, size / 2), landed

        def unsettled(state):
            return (state[0] < _LANDINGS) & (t > 0) & ~jnp.all(state[2])

        first = jnp.int32(0), distance / jnp.sqrt(jnp.maximum(t, 1)), distance == 0
        _, size, landed = jax.lax.while_loop(unsettled, land, first)
        return jnp.where(landed, jnp.clip(image + size * ahead, 0.0, 1.0), image)

    def _slope(self, wrong: Wrong, image: Array, delta: Array, batches: Array, keys: Array) -> Array:
        """The direction in which images [b ...] at the boundary turn misclassified, of no particular length.

        Moves of length delta [b 1 ...], each with the sign of its decision, and the mean sign taken off as the control
        variate (section 4.2, equation 16).
        """

        def ask(i: Array, sums):
            moved = image[:, None] + delta[:, None] * self._directions(keys, i, image.shape[1:])
            moved = jnp.clip(moved, 0.0, 1.0)
            move, sign = moved - image[:, None], jnp.where(wrong(moved), 1.0, -1.0)
            return [total + jnp.sum(each, axis=1) for total, each in zip(sums, (sign * move, move, sign), strict=True)]

        sums = [jnp.zeros_like(image), jnp.zeros_like(image), jnp.zeros_like(delta)]
        signed, move, sign = jax.lax.fori_loop(0, batches, ask, sums)
        mean = sign / jnp.maximum(batches * self.at_once, 1)
        return signed - jnp.where(jnp.abs(mean) < 1, mean, 0.0) * move

    def _directions(self, keys: Array, i: Array, shape: tuple[int, ...]) -> Array:
        """Random moves of length one, [b n h w c]: uniform on the sphere, for Linf from the corners of the cube."""
        draw = jax.random.normal if self.norm == "L2" else jax.random.rademacher

        def one(key):
            moves = draw(jax.random.fold_in(key, i), (self.at_once, *shape))
            return moves / per_row(l2(moves), moves)

        return jax.vmap(one)(keys)

    def _between(self, x: Array, far: Array) -> Callable[[Array], Array]:
        """Share [b 1 ...] of the distance -> the image there on the way from x to far; for Linf the nearest to far."""
        if self.norm == "L2":
            return lambda share: x + share * (far - x)
        longest = self._length(far - x)
        return lambda share: x + jnp.clip(far - x, -share * longest, share * longest)

    def _length(self, delta: Array) -> Array:
        """Length of each row of delta [b ...] in the norm, as [b 1 ...]."""
        return per_row(l2(delta) if self.norm == "L2" else linf(delta), delta)
