"""One update of the network: loss, gradient, one all-reduce, optimiser."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from poisonjax.attacks.blocks import where_rows
from poisonjax.keys import row_keys
from poisonjax.runtime import distributed
from poisonjax.training.augment import Augmentation
from poisonjax.training.objectives import Keys, Learner, Objective, Outputs, hard
from poisonjax.training.state import TrainState, eval_logits
from poisonjax.types import Array, Examples, to_unit

Sums = dict[str, Array]  # loss, correct and the objective's aux summed over real rows, and their count


def zero_sums(objective: Objective) -> Sums:
    """The sums over no rows."""
    return {name: jnp.float32(0) for name in ("loss", "correct", "count", *objective.aux)}


def make_train_step(
    model: nn.Module,
    objective: Objective,
    tx: optax.GradientTransformation,
    total_steps: int,
    augment: Augmentation | None = None,
) -> Callable[[TrainState, Examples, Array, Array], tuple[TrainState, Sums]]:
    """(state, this device's examples [b], which of them are real [b] bool, key) -> (state, sums over devices)."""

    loss = _loss(model, objective, total_steps)

    def step(state: TrainState, examples: Examples, real: Array, key: Array) -> tuple[TrainState, Sums]:
        now = jax.random.fold_in(key, state.step)
        attack_keys, noise_keys = (row_keys(now, examples.index, stream) for stream in (0, 1))
        if objective.replays > 1:  # a batch that is learnt from again is augmented as it was at first
            now = jax.random.fold_in(key, state.step - state.step % objective.replays)
        augment_keys = row_keys(now, examples.index, 2)
        image = examples.image if augment is None else augment(examples.image, augment_keys)
        keys = Keys(attack_keys, noise_keys)
        (gradient, slope), (sums, batch_stats) = jax.grad(loss, has_aux=True)(
            (state.params, state.perturbation), state, to_unit(image), examples.label, real, keys
        )
        gradient, sums = distributed.psum((gradient, sums))
        gradient = jax.tree.map(lambda leaf: leaf / sums["count"], gradient)
        updates, opt_state = tx.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        perturbation = state.perturbation
        if objective.carries_perturbation:  # rows that only fill up the batch keep theirs
            ahead = objective.ascend(perturbation, slope, state.step / total_steps)
            perturbation = where_rows(real, ahead, perturbation)
        return TrainState(state.step + 1, params, distributed.pmean(batch_stats), opt_state, perturbation), sums

    return step


def _loss(model: nn.Module, objective: Objective, total_steps: int) -> Callable:
    """((params, perturbation), state, x, y, real, keys) -> (sum over this device's real rows, (sums, batch_stats))."""

    def loss(learning, state, x, y, real, keys):
        params, perturbation = learning

        def apply(images: Array, noise: Array) -> Outputs:
            variables = {"params": params, "batch_stats": state.batch_stats}
            outputs, new = model.apply(variables, images, train=True, keys=noise, mutable=["batch_stats"])
            return Outputs(*outputs, new.get("batch_stats", {}))

        network = Learner(eval_logits(model, state), apply, perturbation)
        learnt = objective(network, x, y, keys, state.step / total_steps)
        correct = jnp.argmax(learnt.logits, -1) == hard(y)
        sums = {"loss": learnt.rows, "correct": correct, "count": jnp.ones_like(learnt.rows), **learnt.aux}
        sums = {name: jnp.sum(jnp.where(real, value, 0.0)) for name, value in sums.items()}
        return sums["loss"], (sums, learnt.batch_stats)

    return loss
