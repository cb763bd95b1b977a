"""The training loop: epochs of compiled steps, saved so that a resumed run ends in the same bits."""

import time
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from poisonjax.runtime import distributed
from poisonjax.training.objectives import Objective
from poisonjax.training.prefetch import HostData, prefetch
from poisonjax.training.settings import Training
from poisonjax.training.state import TrainState, initial_state
from poisonjax.training.step import make_train_step, zero_sums
from poisonjax.types import Array, Examples, take

# About how long one compiled call runs, on every backend: long enough to cost nothing, short enough that a progress
# bar moves and Ctrl-C is answered. Loops stay rolled: on a CPU, unrolling the attack two- or fourfold is slower.
CALL_SECONDS = 1.0


class Checkpointer(Protocol):
    """Storage of the state that resuming needs; `checkpoint.Checkpoints` is one."""

    def latest(self, like: Any) -> tuple[int, Any, dict] | None: ...
    def save(self, step: int, state: Any, meta: dict) -> None: ...


class Callbacks(Protocol):
    """Callbacks of the training loop: progress bar, TensorBoard, stop signal.

    begin: before the program compiles. advance: after each call of it.
    """

    def begin(self, images: int, done: int) -> None: ...
    def advance(self, images: int) -> None: ...
    def epoch(self, row: dict) -> None: ...
    def stop_requested(self) -> bool: ...


class Interrupted(Exception):
    """Training stopped on request, after saving; the same command resumes it."""


class Fitted(NamedTuple):
    """A trained network. state: on the host. history: one row per epoch. images, seconds: of training."""

    state: TrainState
    history: list[dict]
    images: int
    seconds: float


@distributed.cached
def program(model: nn.Module, objective: Objective, settings: Training, rows: int) -> Callable:
    """(carry, data, key, stop) -> carry: training steps up to `stop`, within one epoch, in one compiled call.

    carry is (state, sums of this epoch so far); data holds all `rows` examples. The bound is an argument, so the
    same executable, and so the same arithmetic, serves whatever number of steps a call makes.
    """
    batch, steps, replays = settings.batch, settings.epoch_steps(rows), objective.replays
    step = _one_step(model, objective, settings, rows)

    def run(carry, data, key, stop):
        order = _order(key, carry[0].step // (steps * replays), settings, rows)

        def body(_, carry):
            # Without replays the program, and so the last bit of a network, stays as it was before there were any.
            turn = carry[0].step if replays == 1 else carry[0].step // replays
            first = turn % steps * batch
            picked = jax.lax.dynamic_slice(order, (first,), (batch,))
            mine, real = distributed.shard(picked, first + jnp.arange(batch) < rows)
            return step(carry, take(data, mine), real, key)

        return jax.lax.fori_loop(carry[0].step, stop, body, carry)

    return distributed.parallel(run, donate=(0,))


def _order(key: Array, epoch: Array, settings: Training, rows: int) -> Array:
    """The positions of the examples in a pass over them, [steps * batch]: a permutation, padded with its beginning."""
    order = jax.random.permutation(jax.random.fold_in(jax.random.split(key)[0], epoch), rows)
    return jnp.pad(order, (0, settings.epoch_steps(rows) * settings.batch - rows), mode="wrap")


def _one_step(model: nn.Module, objective: Objective, settings: Training, rows: int) -> Callable:
    """(carry, this device's examples, which are real, key) -> carry."""
    total, steps = settings.total_steps(rows), settings.epoch_steps(rows)
    step = make_train_step(model, objective, settings.optimizer(total), total, settings.augment)

    def advance(carry, mine, real, key):
        state, sums = carry
        begins = state.step % steps == 0
        state, new = step(state, mine, real, jax.random.split(key)[1])
        return state, jax.tree.map(lambda old, add: jnp.where(begins, 0.0, old) + add, sums, new)

    return advance


@distributed.cached
def _streamed_step(model: nn.Module, objective: Objective, settings: Training, rows: int) -> Callable:
    return distributed.parallel(_one_step(model, objective, settings, rows), donate=(0,))


def streaming(model: nn.Module, objective: Objective, settings: Training, rows: int, at: int, order: Array) -> Callable:
    """`program` for data on the host: the same batches, each read and sent while earlier ones are trained on.

    To be called for the steps from `at` on, in turn, with one and the same HostData. order: the key, on the host.
    """
    step, batches = _streamed_step(model, objective, settings, rows), None
    replays, total = objective.replays, -(-settings.total_steps(rows) // objective.replays)

    def run(carry, data: HostData, key, stop):
        nonlocal batches, at
        if batches is None:
            read = prefetch(lambda share: _sent(data, *share), _shares(order, settings, rows, at // replays, total))
            batches = islice((batch for batch in read for _ in range(replays)), at % replays, None)
            first = next(batches)
            batches = chain([first], batches)
            jax.block_until_ready(step(jax.tree.map(jnp.copy, carry), *first, key))  # compiles, off the clock
        for _ in range(at, int(distributed.fetch(stop))):
            carry, at = step(carry, *next(batches), key), at + 1
        return carry

    return run


def _shares(key: Array, settings: Training, rows: int, at: int, total: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Positions of this process's rows, and which are real, of every batch from `at` on, until the pass of the last."""
    steps = settings.epoch_steps(rows)
    for epoch in range(at // steps, -(-total // steps)):
        order = np.asarray(_order(key, epoch, settings, rows))
        for first in range((at % steps if epoch == at // steps else 0) * settings.batch, len(order), settings.batch):
            within = np.arange(first, first + settings.batch)
            yield distributed.local_shard(order[within], within < rows)


def _sent(data: HostData, picked: np.ndarray, real: np.ndarray):
    """The rows, laid out as `picked` [devices b] or [b] is, and which are real, on the devices."""
    examples = jax.tree.map(lambda leaf: leaf.reshape(*picked.shape, *leaf.shape[1:]), data.read(picked.ravel()))
    return distributed.place_shards((examples, real))


def _images(step: int, settings: Training, rows: int, replays: int) -> int:
    """Images seen in so many steps, those of a batch as often as it is replayed."""
    passes = [divmod((step + again) // replays, settings.epoch_steps(rows)) for again in range(replays)]
    return sum(whole * rows + min(within * settings.batch, rows) for whole, within in passes)


def fresh(
    model, objective: Objective, settings: Training, rows: int, image: Array, key: Array
) -> tuple[TrainState, Any]:
    """A new network for images [h w c], to be trained on so many rows, and its sums: what `fit` starts from."""
    state = initial_state(model, settings.optimizer(settings.total_steps(rows)), image, key)
    if objective.carries_perturbation:
        state = state._replace(perturbation=jnp.zeros((settings.batch, *image.shape), jnp.float32))
    return state, zero_sums(objective)


def _on_devices(carry: tuple[TrainState, Any]) -> tuple[TrainState, Any]:
    """The carry on the devices: all of it on each, but of the perturbation the rows that it trains on."""
    state, sums = carry
    perturbation = distributed.scatter(state.perturbation)
    state, sums = distributed.replicate((state._replace(perturbation=()), sums))
    return state._replace(perturbation=perturbation), sums


def _on_host(carry: tuple[TrainState, Any], batch: int) -> tuple[TrainState, Any]:
    """The carry as it is stored, which is the same for any number of devices."""
    state, sums = carry
    perturbation = distributed.gather(state.perturbation, batch)
    state, sums = distributed.fetch((state._replace(perturbation=()), sums))
    return state._replace(perturbation=perturbation), sums


def restored(
    model: nn.Module, objective: Objective, settings: Training, rows: int, image: Array, store: Checkpointer
) -> TrainState:
    """The network that `fit` left, on the host. ValueError if training has not finished, or had other settings.

    rows: of its training data. image: one of them, [h w c].
    """
    like = jax.eval_shape(lambda key: fresh(model, objective, settings, rows, image, key), jax.random.key(0))
    found, total = store.latest(like), settings.total_steps(rows)
    if found is None or found[0] < total:
        raise ValueError(
            f"training is at step {0 if found is None else found[0]} of {total}; run its command again to finish it"
        )
    return found[1][0]


def _begin(
    model,
    objective: Objective,
    settings: Training,
    examples: Examples | HostData,
    key: Array,
    store: Checkpointer,
    start: tuple[Any, Any] | None,
) -> tuple[Any, dict]:
    """The stored (carry, log), or those of a new network, with the weights `start` if they are given."""
    image = examples.read(np.arange(1)).image[0] if isinstance(examples, HostData) else examples.image[0]
    begun = fresh(model, objective, settings, len(examples.index), image, key)
    if start is not None:
        begun = begun[0]._replace(params=start[0], batch_stats=start[1]), begun[1]
    found = store.latest(jax.device_get(begun))
    return (begun, {"history": [], "images": 0, "seconds": 0.0}) if found is None else found[1:]


def _compiled(
    model, objective: Objective, settings: Training, examples: Examples | HostData, order: Array, carry: Any, key: Any
) -> tuple[Callable, Any, Any]:
    """The program of the steps that are left, compiled, the data that it takes, and the carry.

    order: the key, on the host; carry and key are on the devices.
    """
    rows, at = len(examples.index), int(distributed.fetch(carry[0].step))
    if isinstance(examples, HostData):
        run, data = streaming(model, objective, settings, rows, at, order), examples
    else:
        run, data = program(model, objective, settings, rows), distributed.replicate(examples)
    if at < settings.total_steps(rows):
        carry, _ = _timed(run, carry, data, key, at)  # makes no step, but compiles
    return run, data, carry


def _timed(run: Callable, carry: Any, data: Any, key: Any, stop: int) -> tuple[Any, float]:
    start = time.monotonic()
    carry = jax.block_until_ready(run(carry, data, key, distributed.replicate(np.int32(stop))))
    return carry, time.monotonic() - start


def _row(at: int, steps: int, sums: Any, probed: dict) -> dict:
    """One line of the history: epochs and steps done, and the means over this epoch."""
    means = {name: float(value) / float(sums["count"]) for name, value in sums.items() if name != "count"}
    named = {f"train_{name}": value for name, value in means.items() if name != "correct"}
    return {"epoch": at / steps, "step": at, **named, "train_accuracy": means["correct"], **probed}


def fit(
    model: nn.Module,
    objective: Objective,
    settings: Training,
    examples: Examples | HostData,
    keys: tuple[Array, Array],
    store: Checkpointer,
    watch: Callbacks,
    probe: Callable[[TrainState], dict] = lambda state: {},
    save_every: float = 30.0,
    start: tuple[Any, Any] | None = None,
) -> Fitted:
    """Train a network on examples [n], resuming from `store`. Interrupted, after saving, if `watch` says stop.

    keys: for the initial network, and for order and noise. probe: (state on the devices) -> numbers to record after an
    epoch. save_every: seconds. start: (params, batch_stats) to go on from. HostData are trained on as rows in memory.
    """
    steps, total = settings.epoch_steps(rows := len(examples.index)), settings.total_steps(rows)
    carry, log = _begin(model, objective, settings, examples, keys[0], store, start)
    at, pace, saved, replays = int(carry[0].step), 1, time.monotonic(), objective.replays
    carry, key = _on_devices(carry), distributed.replicate(keys[1])
    watch.begin(_images(total, settings, rows, replays), _images(at, settings, rows, replays))
    run, data, carry = _compiled(model, objective, settings, examples, keys[1], carry, key)
    while at < total:
        stop = min(at + pace, (at // steps + 1) * steps, total)
        carry, spent = _timed(run, carry, data, key, stop)
        pace, seen = max(1, round(CALL_SECONDS * (stop - at) / spent)), _images(stop, settings, rows, replays)
        watch.advance(seen - log["images"])
        at, log = stop, log | {"images": seen, "seconds": log["seconds"] + spent}
        if at % steps == 0 or at == total:
            log = log | {"history": [*log["history"], _row(at, steps, distributed.fetch(carry[1]), probe(carry[0]))]}
            watch.epoch(log["history"][-1])
        overdue = time.monotonic() - saved > save_every
        stopping, overdue, pace = distributed.all_max(watch.stop_requested(), overdue, pace)
        if stopping or overdue or at == total:
            store.save(at, _on_host(carry, settings.batch), log)
            saved = time.monotonic()
        if stopping and at < total:
            raise Interrupted(f"stopped at step {at} of {total}, which is saved")
    return Fitted(_on_host(carry, settings.batch)[0], **log)
