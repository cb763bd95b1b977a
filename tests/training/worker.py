"""Trains tiny networks on whatever devices there are and saves what they learnt: OUT [PROCESSES ID PORT]."""

import sys

import jax
import numpy as np
from flax import linen as nn

if len(sys.argv) > 2:
    count, number, port = map(int, sys.argv[2:])
    jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=count, process_id=number)

from poisonjax.attacks import PGD, Linf
from poisonjax.models import ReportCNN, WongCNN
from poisonjax.models.layers import Conv, batch_norm
from poisonjax.runtime import distributed
from poisonjax.training import AdversarialTraining, FreeAdversarialTraining, Interrupted, Training, fit
from poisonjax.training.prefetch import HostData
from poisonjax.types import Examples, take


class Normalised(nn.Module):
    """The smallest network with batch statistics.

    Without a bias, whose gradient would be rounding errors alone, which Adam makes as large as any other.
    """

    @nn.compact
    def __call__(self, x, train=False, keys=None):
        features = nn.relu(batch_norm(Conv(4, use_bias=False)(x), train)).mean((1, 2))
        return nn.Dense(3)(features), features


ATTACK = PGD(Linf(0.1), step=0.05, steps=3)
# With batch and rows. Of 15, the last of an epoch is short, and no number of devices but 1, 3, 5 divides it. Batch
# statistics are of the same rows on 1, 2 and 8 devices only where nothing is filled up.
NETWORKS = (
    (WongCNN(filters=(2, 4), hidden=8, classes=3), 15, 50),
    (ReportCNN(width=8, classes=3), 15, 50),
    (Normalised(), 16, 48),
)


class Forgetful:
    """A store that keeps nothing."""

    def latest(self, like):
        return None

    def save(self, step, state, meta):
        pass


class Remembering:
    """A store of what was saved last."""

    kept = None

    def latest(self, like):
        return self.kept

    def save(self, step, state, meta):
        self.kept = step, state, meta


class Silent:
    """A watch that nobody sees."""

    def begin(self, images, done): ...
    def advance(self, images): ...
    def epoch(self, row): ...
    def stop_requested(self):
        return False


def examples() -> Examples:
    """50 fixed images of noise, in three classes."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 50).astype(np.int32)
    image = rng.integers(0, 256, (50, 12, 12, 1)).astype(np.uint8) // (1 + label[:, None, None, None]).astype(np.uint8)
    return Examples(image, label, np.arange(50, dtype=np.int32) * 2)


def trained(model: nn.Module, batch: int, rows: int, streamed: bool = False) -> dict:
    """What the network learnt from so many of the images, and its history."""
    keys, settings = (jax.random.key(1), jax.random.key(2)), Training(batch=batch, epochs=2)
    data = take(examples(), slice(rows))
    source = HostData(data.index, lambda at: take(data, at)) if streamed else data
    made = fit(model, AdversarialTraining(ATTACK, 0.5), settings, source, keys, Forgetful(), Silent())
    learnt = {"params": made.state.params, "batch_stats": made.state.batch_stats}
    found = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(learnt)}
    return found | {"/history": np.array([row["train_loss"] for row in made.history])}


class Impatient(Silent):
    """Stops after the first call of the program."""

    def stop_requested(self):
        return True


FREE = FreeAdversarialTraining(Linf(0.1), replays=2, eps_warmup=0.5)


def free(store, watch):
    """The carry that free adversarial training ends with: of a batch that most numbers of devices do not divide."""
    keys, settings = (jax.random.key(1), jax.random.key(2)), Training(batch=15, epochs=2)
    fit(NETWORKS[0][0], FREE, settings, examples(), keys, store, watch)
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(store.kept[1])}


def free_resumed() -> dict:
    """The weights after free training, and whether they and the perturbation are those without an interruption."""
    whole, store = free(Remembering(), Silent()), Remembering()
    try:
        free(store, Impatient())
    except Interrupted:
        resumed = free(store, Silent())
    same = all(np.array_equal(resumed[name], whole[name]) for name in whole)
    weights = {name: leaf for name, leaf in whole.items() if "params" in name}
    moved = {"moved": np.abs(whole["[0].perturbation"]).mean((1, 2, 3)), "resumed": np.array(same)}
    return weights | moved


def main(out: str) -> None:
    """Saves what each network learnt, and what `over_rows` gives."""
    found = {}
    for model, batch, rows in NETWORKS:
        found |= {type(model).__name__ + name: leaf for name, leaf in trained(model, batch, rows).items()}
    found |= {f"streamed{name}": leaf for name, leaf in trained(*NETWORKS[0], streamed=True).items()}
    found |= {f"free{name}": leaf for name, leaf in free_resumed().items()}
    apart = distributed.map_over_devices(lambda seed: (trained(*NETWORKS[0])["/history"], jax.device_count()), range(3))
    found["apart"] = np.array([history for history, _ in apart])
    times = distributed.over_rows(lambda rows, factor: rows.index * factor)
    found["over_rows"] = times(examples(), 15, distributed.replicate(np.int32(3)))
    np.savez(out, devices=jax.device_count(), **found)


main(sys.argv[1])
