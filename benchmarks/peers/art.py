"""AdversarialTrainerMadryPGD of the Adversarial Robustness Toolbox, on the PyTorch network of the other peer."""

from collections.abc import Callable, Iterator
from functools import partial

import art
import numpy as np
import torch
from art.defences.trainer import AdversarialTrainerMadryPGD
from art.estimators.classification import PyTorchClassifier

from benchmarks.peers.pytorch import network, optimizer


class Toolbox:
    """Its trainer, with data in memory. attack_batch: images per batch of its attack."""

    def __init__(self, work, device: str, attack_batch: int):
        settings, attack, data = work.settings, work.objective.attack, work.data()
        self.batch, self.epoch = settings.batch, settings.epoch_steps(work.rows)
        self.image = np.ascontiguousarray(data.image.transpose(0, 3, 1, 2)).astype(np.float32) / 255
        self.label = data.label.astype(np.int64)
        net = network(work.model, work.shape[-1])
        net(torch.from_numpy(self.image[:2]))  # gives the lazy layers their sizes
        tx = optimizer(settings.optimizer, net.parameters(), capturable=False)
        options = {"optimizer": tx, "clip_values": (0.0, 1.0), "device_type": device}
        classifier = PyTorchClassifier(net, torch.nn.CrossEntropyLoss(), data.image[0].T.shape, 10, **options)
        self.trainer = AdversarialTrainerMadryPGD(
            classifier, 1, self.batch, eps=attack.ball.eps, eps_step=attack.step, max_iter=attack.steps
        )
        self.net = net
        self.trainer.attack.set_params(batch_size=attack_batch)
        self.about = {"version": f"art {art.__version__}", "variant": f"attack {attack_batch} at a time"}

    def run(self, steps: int) -> None:
        while steps:
            count = min(steps, self.epoch)
            self.trainer.fit(self.image[: count * self.batch], self.label[: count * self.batch])
            steps -= count


def variants(work, platform: str) -> Iterator[tuple[str, Callable[[], Toolbox]]]:
    """Its default attack batch, and the whole batch at once."""
    for size in (32, work.settings.batch):
        yield f"attack {size} at a time", partial(Toolbox, work, platform, size)
