"""One update of the network: attack, gradient, one all-reduce, optimiser."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from poisonjax.runtime import distributed
from poisonjax.training.augment import CropFlip
from poisonjax.training.objectives import Objective
from poisonjax.training.state import TrainState, eval_logits
from poisonjax.types import Array, Examples, to_unit

Sums = dict[str, Array]  # loss and correct summed over real rows, and their count


def zero_sums() -> Sums:
    """The sums over no rows."""
    return {"loss": jnp.float32(0), "correct": jnp.float32(0), "count": jnp.float32(0)}


def row_keys(key: Array, index: Array, stream: int) -> Array:
    """A key for each row [b] that depends on the row alone, not on where in the batch it stands."""
    return jax.vmap(lambda row: jax.random.fold_in(jax.random.fold_in(key, stream), row))(index)


def make_train_step(
    model: nn.Module,
    objective: Objective,
    tx: optax.GradientTransformation,
    total_steps: int,
    augment: CropFlip | None = None,
) -> Callable[[TrainState, Examples, Array, Array], tuple[TrainState, Sums]]:
    """(state, this device's examples [b], which of them are real [b] bool, key) -> (state, sums over devices)."""

    def loss(params, state, x, y, real, keys):
        variables = {"params": params, "batch_stats": state.batch_stats}
        (logits, _), new = model.apply(variables, x, train=True, keys=keys, mutable=["batch_stats"])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
        sums = {"loss": losses, "correct": jnp.argmax(logits, -1) == y, "count": jnp.ones_like(losses)}
        sums = {name: jnp.sum(jnp.where(real, value, 0.0)) for name, value in sums.items()}
        return sums["loss"], (sums, new.get("batch_stats", {}))

    def step(state: TrainState, examples: Examples, real: Array, key: Array) -> tuple[TrainState, Sums]:
        key = jax.random.fold_in(key, state.step)
        attack_keys, noise_keys, augment_keys = (row_keys(key, examples.index, stream) for stream in (0, 1, 2))
        image = examples.image if augment is None else augment(examples.image, augment_keys)
        x, y = to_unit(image), examples.label
        x = objective(eval_logits(model, state), x, y, attack_keys, state.step / total_steps)
        gradient, (sums, batch_stats) = jax.grad(loss, has_aux=True)(
            state.params, state, jax.lax.stop_gradient(x), y, real, noise_keys
        )
        gradient, sums = distributed.psum((gradient, sums))
        gradient = jax.tree.map(lambda leaf: leaf / sums["count"], gradient)
        updates, opt_state = tx.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, distributed.pmean(batch_stats), opt_state), sums

    return step
