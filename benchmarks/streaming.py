"""The cost of reading training data batch by batch from the record files instead of from device memory.

    python -m benchmarks.streaming --repeats=3

Both take turns in one run. `reading` is the time that threads spend on reading and decoding, `adds` the time that it
adds to training; the rest is hidden behind the steps.
"""

import argparse
import dataclasses
import statistics
import tempfile
import threading
import time

import jax
import numpy as np

from poisonjax import data
from poisonjax.attacks import PGD, Linf
from poisonjax.data import stream
from poisonjax.models import WongCNN
from poisonjax.training import AdversarialTraining, Standard, Training, fit
from poisonjax.training.prefetch import HostData

ATTACKS = {"standard training": None, "PGD-5": 5, "PGD-40": 40}


class Forgetful:
    """Checkpointer and callbacks that do nothing."""

    def latest(self, like):
        return None

    def save(self, step, state, meta): ...
    def begin(self, images, done): ...
    def advance(self, images): ...
    def epoch(self, row): ...
    def stop_requested(self):
        return False


@dataclasses.dataclass
class Timed:
    """A reader that sums up the seconds that its threads spend in it."""

    read: object
    seconds: float = 0.0
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    def __call__(self, at):
        start = time.thread_time()
        examples = self.read(at)
        with self.lock:
            self.seconds += time.thread_time() - start
        return examples


def seconds(steps: int | None, examples, settings: Training) -> float:
    """Seconds of training without compilation."""
    objective = Standard() if steps is None else AdversarialTraining(PGD(Linf(0.3), 0.1, steps))
    keys = jax.random.key(0), jax.random.key(1)
    return fit(WongCNN(), objective, settings, examples, keys, Forgetful(), Forgetful(), save_every=1e9).seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3, help="of which the median is shown (default: 3)")
    parser.add_argument("--epochs", type=int, default=2, help="of 4,000 images (default: 2)")
    args = parser.parse_args()
    print(f"jax {jax.__version__} on {jax.devices()[0]}, WongCNN, mnist_5k, batch 100, {args.epochs} epochs")
    with tempfile.TemporaryDirectory() as folder:
        train = data.load("mnist_5k", folder).train
        timed = Timed(stream.rows("mnist_5k", "train", folder))
        images = args.epochs * len(train.label)
        for name, steps in ATTACKS.items():
            settings = Training(batch=100, epochs=args.epochs)
            rows = []
            for _ in range(args.repeats):
                timed.seconds, resident = 0.0, seconds(steps, train, settings)
                rows.append(
                    (resident, seconds(steps, HostData(np.arange(len(train.label)), timed), settings), timed.seconds)
                )
            resident, streamed, reading = (statistics.median(column) for column in zip(*rows, strict=True))
            ours = f"resident {images / resident:8.0f} img/s   streamed {images / streamed:8.0f} img/s"
            added = f"reading {reading:5.1f} s, adds {max(0.0, streamed - resident):5.1f} s"
            print(f"{name:18} {ours}   ratio {resident / streamed:5.2f}   {added}", flush=True)


if __name__ == "__main__":
    main()
