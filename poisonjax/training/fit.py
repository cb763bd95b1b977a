"""The loop: epochs of compiled steps, saved so that a stopped run goes on and ends in the same bits."""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from poisonjax import distributed
from poisonjax.training.objectives import Objective
from poisonjax.training.settings import Training
from poisonjax.training.state import TrainState, initial_state
from poisonjax.training.step import make_train_step, zero_sums
from poisonjax.types import Array, Examples, take

# About how long one compiled call runs, on every backend: long enough to cost nothing, short enough that a progress
# bar moves and Ctrl-C is answered. Loops stay rolled: on a CPU, unrolling the attack two- or fourfold is slower.
CALL_SECONDS = 1.0


class Store(Protocol):
    """Where a run keeps what it would need to go on; `checkpoint.Checkpoints` is one."""

    def latest(self, like: Any) -> tuple[int, Any, dict] | None: ...
    def save(self, step: int, state: Any, meta: dict) -> None: ...


class Watch(Protocol):
    """Who looks on: a progress bar, TensorBoard, the signal handler."""

    def begin(self, images: int, done: int) -> None: ...
    def advance(self, images: int) -> None: ...
    def epoch(self, row: dict) -> None: ...
    def stop_requested(self) -> bool: ...


class Interrupted(Exception):
    """Training was asked to stop and has saved; the same command goes on from there."""


class Fitted(NamedTuple):
    """state: on the host. history: one row of numbers an epoch. images, seconds: trained on, without compiling."""

    state: TrainState
    history: list[dict]
    images: int
    seconds: float


@functools.cache
def program(model: nn.Module, objective: Objective, settings: Training, rows: int) -> Callable:
    """(carry, data, key, stop) -> carry: training steps up to `stop`, within one epoch, in one compiled call.

    carry is (state, sums of this epoch so far); data holds all `rows` examples. The bound is an argument, so the
    same executable, and so the same arithmetic, serves whatever number of steps a call makes.
    """
    batch, steps = settings.batch, settings.epoch_steps(rows)
    total = settings.total_steps(rows)
    step = make_train_step(model, objective, settings.optimizer(total), total, settings.augment)

    def run(carry, data, key, stop):
        order_key, step_key = jax.random.split(key)
        order = jax.random.permutation(jax.random.fold_in(order_key, carry[0].step // steps), rows)
        order = jnp.pad(order, (0, steps * batch - rows), mode="wrap")  # BatchNorm sees a full batch of images

        def body(_, carry):
            state, sums = carry
            first = state.step % steps * batch
            picked = jax.lax.dynamic_slice(order, (first,), (batch,))
            mine, real = distributed.share(picked, first + jnp.arange(batch) < rows)
            state, new = step(state, take(data, mine), real, step_key)
            return state, jax.tree.map(lambda old, add: jnp.where(first == 0, 0.0, old) + add, sums, new)

        return jax.lax.fori_loop(carry[0].step, stop, body, carry)

    return distributed.parallel(run, donate=(0,))


def _images(step: int, settings: Training, rows: int) -> int:
    """Images seen in so many steps."""
    epochs, within = divmod(step, settings.epoch_steps(rows))
    return epochs * rows + min(within * settings.batch, rows)


def _begin(model, settings: Training, examples: Examples, key: Array, store: Store) -> tuple[Any, dict]:
    """What the store has, else a new network: (carry, log)."""
    tx = settings.optimizer(settings.total_steps(len(examples.label)))
    fresh = (initial_state(model, tx, examples.image[0], key), zero_sums())
    found = store.latest(jax.device_get(fresh))
    return (fresh, {"history": [], "images": 0, "seconds": 0.0}) if found is None else found[1:]


def _timed(run: Callable, carry: Any, data: Any, key: Any, stop: int) -> tuple[Any, float]:
    start = time.monotonic()
    carry = jax.block_until_ready(run(carry, data, key, distributed.put(np.int32(stop))))
    return carry, time.monotonic() - start


def _row(at: int, steps: int, sums: Any, probed: dict) -> dict:
    """One line of the history: epochs and steps done, and the means over this epoch."""
    loss, correct, count = (float(sums[name]) for name in ("loss", "correct", "count"))
    return {"epoch": at / steps, "step": at, "train_loss": loss / count, "train_accuracy": correct / count, **probed}


def fit(
    model: nn.Module,
    objective: Objective,
    settings: Training,
    examples: Examples,
    keys: tuple[Array, Array],
    store: Store,
    watch: Watch,
    probe: Callable[[TrainState], dict] = lambda state: {},
    save_every: float = 30.0,
) -> Fitted:
    """A network trained on examples [n]; goes on from what is in `store`. Interrupted if `watch` says stop.

    keys: for the initial network, and for order and noise. probe: numbers to note after each epoch, from the
    state on the devices. save_every: seconds.
    """
    rows = len(examples.label)
    steps, total = settings.epoch_steps(rows), settings.total_steps(rows)
    carry, log = _begin(model, settings, examples, keys[0], store)
    at, pace, saved = int(carry[0].step), 1, time.monotonic()
    run, carry, data, key = program(model, objective, settings, rows), *map(distributed.put, (carry, examples, keys[1]))
    watch.begin(_images(total, settings, rows), _images(at, settings, rows))
    if at < total:
        carry, _ = _timed(run, carry, data, key, at)  # makes no step, but compiles
    while at < total:
        stop = min(at + pace, (at // steps + 1) * steps, total)
        carry, spent = _timed(run, carry, data, key, stop)
        seen, made, at = _images(stop, settings, rows) - _images(at, settings, rows), stop - at, stop
        log = log | {"images": log["images"] + seen, "seconds": log["seconds"] + spent}
        watch.advance(seen)
        if at % steps == 0 or at == total:
            row = _row(at, steps, distributed.get(carry[1]), probe(carry[0]))
            log = log | {"history": [*log["history"], row]}
            watch.epoch(row)
        stopping, overdue, pace = distributed.agree(
            watch.stop_requested(), time.monotonic() - saved > save_every, max(1, round(CALL_SECONDS * made / spent))
        )
        if stopping or overdue or at == total:
            store.save(at, distributed.get(carry), log)
            saved = time.monotonic()
        if stopping and at < total:
            raise Interrupted(f"stopped at step {at} of {total}, which is saved")
    return Fitted(distributed.get(carry[0]), **log)
