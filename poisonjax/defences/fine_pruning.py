"""Fine-pruning: units that clean images leave idle are cut out, and the rest is trained further on clean rows.

Falls to a backdoor in units that clean images use too. An attacker who prunes before poisoning brings that about (the
pruning-aware attack of Liu et al. 2018), plain training may too: BadNets to one class (10 %, 3 x 3), learnt by WongCNN
from 3,000 images of MNIST, succeeded 95 % of the time after 46 of 100 units were pruned, and 97 % after fine-tuning.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial, keystr, tree_leaves_with_path, tree_map_with_path

from poisonjax.attacks.settings import check_counts
from poisonjax.defences.base import Context, Defence, Shield, instead
from poisonjax.evaluation.victim import Victim, row_outputs, weights
from poisonjax.training.objectives import Objective, Standard
from poisonjax.training.optimizers import Optimizer


@dataclasses.dataclass(frozen=True)
class FinePruning(Defence):
    """Prune the units before the last layer that clean rows activate least, then fine-tune (Liu et al. 2018).

    The paper prunes channels of the last convolution. Here the units are the network's features, as every network has
    them: the channels of the last convolution where it is followed by a mean over the image (ResNet18, MobileNet), else
    those of the hidden layer after it. A pruned unit has no weight to any class, in fine-tuning neither.

    drop: pruning ends before it lowers the accuracy by more than this, in (0, 1); the paper's 4 %. held_out: share of
    the clean rows, in (0, 1), on which that is measured; the others rank the units. epochs: of fine-tuning on all clean
    rows by the objective `tuning`, with the arm's optimiser; at least 1. ValueError for impossible values.
    """

    drop: float = 0.04
    held_out: float = 0.5
    epochs: int = 10
    tuning: Objective = Standard()

    needs_clean: ClassVar[bool] = True

    def __post_init__(self):
        for field in ("drop", "held_out"):
            if not 0 < getattr(self, field) < 1:
                raise ValueError(f"{field} is a share and must lie in (0, 1), got {getattr(self, field)}")
        check_counts(self, "epochs")

    def shield(self, victim: Victim, context: Context) -> Shield:
        """The pruned and fine-tuned network. ValueError for too few clean rows, or without a last layer to prune."""
        params, batch_stats = weights(victim)
        logits, features = context.map(row_outputs, victim, context.clean)
        place, kernel = last_kernel(params, logits, features)
        held_out = self._held_out(context)
        order = np.argsort(features[~held_out].mean(0), kind="stable")
        judged = logits[held_out], features[held_out], context.clean.label[held_out]
        units = tuple(order[: prunable(*judged, kernel, order, self.drop)].tolist())
        start = Victim(Partial(victim.outputs.func, without(params, place, units), batch_stats))
        held = _Held(context.training.optimizer, place, units)
        settings = dataclasses.replace(context.training, epochs=self.epochs, optimizer=held)
        return instead(context.fit("tuned", self.tuning, context.clean, training=settings, start=start))

    def _held_out(self, context: Context) -> np.ndarray:
        """The clean rows on which the accuracy is measured, [m] bool. ValueError if they or the others are none."""
        rows = len(context.clean.label)
        count = round(self.held_out * rows)
        if not 0 < count < rows:
            raise ValueError(f"held_out={self.held_out} of {rows} clean rows leaves none on one side; set data.clean")
        return np.asarray(jax.random.permutation(context.key, rows)) < count


def last_kernel(params: Any, logits: np.ndarray, features: np.ndarray) -> tuple[str, np.ndarray]:
    """The kernel [d k] of the last layer among the params, and its place as `keystr` gives it.

    It is found by what it does, not by its name: logits [m k] are features [m d] times kernel plus a constant.
    ValueError if there is no such array.
    """
    shape, found = (features.shape[1], logits.shape[1]), []
    for path, leaf in tree_leaves_with_path(params):
        if np.shape(leaf) == shape:
            rest = np.asarray(logits, np.float64) - np.asarray(features, np.float64) @ np.asarray(leaf, np.float64)
            found.append((np.ptp(rest, 0).max(), keystr(path), np.asarray(leaf)))
    error, place, kernel = min(found, key=lambda each: each[0], default=(np.inf, "", None))
    # Some accelerators multiply in bfloat16; with another kernel the error is of the size of the logits.
    if not error <= 0.05 * np.ptp(logits, 0).max():
        raise ValueError("units cannot be pruned: no parameter of the network maps its features to its logits")
    return place, kernel


def prunable(
    logits: np.ndarray, features: np.ndarray, labels: np.ndarray, kernel: np.ndarray, order: np.ndarray, drop: float
) -> int:
    """How many units, in the given order, can go before the accuracy falls by more than `drop`.

    logits [m k], features [m d] and labels [m] of clean rows; kernel [d k] of the last layer; order [d] of units.
    """
    pruned = np.array(logits, np.float64)
    least = np.mean(pruned.argmax(-1) == labels) - drop - 1e-9
    for count, unit in enumerate(order):
        pruned -= np.outer(features[:, unit], kernel[unit])
        if np.mean(pruned.argmax(-1) == labels) < least:
            return count
    return len(order)


def without(params: Any, place: str, units: tuple[int, ...]) -> Any:
    """The params, or updates of them, with 0 in the rows `units` of the array at `place`."""

    def cut(path, leaf):
        return jnp.asarray(leaf).at[np.array(units, int)].set(0.0) if keystr(path) == place else leaf

    return tree_map_with_path(cut, params)


@dataclasses.dataclass(frozen=True)
class _Held(Optimizer):
    """An optimiser that leaves the rows `units` of the array at `place` as they are."""

    optimizer: Optimizer
    place: str
    units: tuple[int, ...]

    def __call__(self, steps: int) -> optax.GradientTransformation:
        hold = optax.stateless(lambda updates, params: without(updates, self.place, self.units))
        return optax.chain(self.optimizer(steps), hold)
