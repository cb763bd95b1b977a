"""Trains two tiny networks on whatever devices there are and saves their parameters: OUT [PROCESSES ID PORT]."""

import sys

import jax
import numpy as np

if len(sys.argv) > 2:
    count, number, port = map(int, sys.argv[2:])
    jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=count, process_id=number)

from poisonjax import distributed
from poisonjax.attacks import PGD, Linf
from poisonjax.models import ReportCNN, WongCNN
from poisonjax.training import Madry, Training, fit
from poisonjax.types import Examples


class Forgetful:
    """A store that keeps nothing."""

    def latest(self, like):
        return None

    def save(self, step, state, meta):
        pass


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


def main(out: str) -> None:
    """Batches of 15: the last of an epoch is short, and no number of devices but 1, 3, 5 divides it."""
    attack = PGD(Linf(0.1), step=0.05, steps=3)
    found = {}
    for model in (WongCNN(filters=(2, 4), hidden=8, classes=3), ReportCNN(width=8, classes=3)):
        keys = jax.random.key(1), jax.random.key(2)
        settings = Training(attack, batch=15, epochs=2, warmup=0.5)
        made = fit(model, Madry(attack, 0.5), settings, examples(), keys, Forgetful(), Silent())
        for path, leaf in jax.tree.leaves_with_path(made.state.params):
            found[type(model).__name__ + jax.tree_util.keystr(path)] = leaf
        found[type(model).__name__ + "/history"] = np.array([row["train_loss"] for row in made.history])
    times = distributed.over_rows(lambda rows, factor: rows.index * factor)
    found["over_rows"] = times(examples(), 15, distributed.put(np.int32(3)))
    np.savez(out, devices=jax.device_count(), **found)


main(sys.argv[1])
