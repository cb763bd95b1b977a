"""MagNet: autoencoders that know clean images alone move others towards them, and reject what lies too far off.

Falls to an attack through the autoencoders and the detectors, for which a rejected image counts as a failure (Carlini &
Wagner 2017, MagNet): `attacks.evade`. Try it on `CarliniWagner`: sign steps within Linf leave noise on all pixels,
which detectors see. The paper claims nothing against an attacker who knows its networks.
"""

import abc
import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from poisonjax.attacks.settings import check_nonnegative, check_positive
from poisonjax.defences.base import Context, Defence, Shield
from poisonjax.evaluation.victim import Victim, row_suspicions
from poisonjax.models.autoencoders import DenoisingAutoencoder
from poisonjax.models.network import Network
from poisonjax.training.objectives import Keys, Learner, Losses, Objective
from poisonjax.training.settings import Training
from poisonjax.types import Array, Examples, take


@dataclasses.dataclass(frozen=True)
class Reconstruction(Objective):
    """Squared error of an autoencoder whose input has normal noise added, and its target has not.

    Every step draws new noise, where the authors' code draws it once for all epochs; its penalty of 1e-9 on activations
    is left out. noise: the standard deviation, for pixels in [0, 1]. ValueError below 0.
    """

    noise: float = 0.1

    def __post_init__(self):
        check_nonnegative(self, "noise")

    def __call__(self, network: Learner, x: Array, y: Array, keys: Keys, progress: Array) -> Losses:
        noise = jax.vmap(lambda key: jax.random.normal(key, x.shape[1:]))(keys.attack)
        out = network.apply(jnp.clip(x + self.noise * noise, 0.0, 1.0), keys.noise)
        return Losses(jnp.mean((out.logits - x.reshape(len(x), -1)) ** 2, -1), out.logits, out.batch_stats)


def reconstructed(autoencoder: Victim, x: Array) -> Array:
    """What an autoencoder makes of images x [b h w c]: the same shape."""
    return autoencoder.logits(x).reshape(x.shape)


class Detector(abc.ABC):
    """A score of images. A new one is a frozen dataclass with `__call__` and the two fields.

    autoencoder: the network whose reconstruction it looks at. rate: share of clean images that it may reject, in
    (0, 1). ValueError outside.
    """

    autoencoder: Network
    rate: float

    def __post_init__(self):
        if not 0 < self.rate < 1:
            raise ValueError(f"rate is a share of clean images and must lie in (0, 1), got {self.rate}")

    @abc.abstractmethod
    def __call__(self, victim: Victim, autoencoder: Victim, x: Array) -> Array:
        """Images x [b h w c] -> [b], the higher the more suspicious. victim: the undefended network."""


@dataclasses.dataclass(frozen=True)
class ReconstructionError(Detector):
    """The distance of an image from its reconstruction (Meng & Chen 2017, section 4.2).

    power: p of the mean of |x - ae(x)|^p, which orders images as the p-norm does. ValueError below 1.
    """

    power: float = 2
    autoencoder: Network = DenoisingAutoencoder()
    rate: float = 0.001

    def __post_init__(self):
        super().__post_init__()
        if not self.power >= 1:
            raise ValueError(f"power must be at least 1, got {self.power}")

    def __call__(self, victim: Victim, autoencoder: Victim, x: Array) -> Array:
        return jnp.mean(jnp.abs(x - reconstructed(autoencoder, x)) ** self.power, tuple(range(1, x.ndim)))


@dataclasses.dataclass(frozen=True)
class Divergence(Detector):
    """How differently the network classifies an image and its reconstruction (Meng & Chen 2017, section 4.2).

    The Jensen-Shannon divergence of both softmaxes, whose logits are divided by `temperature`: without one, confident
    softmaxes hide the difference. ValueError unless it is above 0.
    """

    temperature: float = 10.0
    autoencoder: Network = DenoisingAutoencoder()
    rate: float = 0.01

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "temperature")

    def __call__(self, victim: Victim, autoencoder: Victim, x: Array) -> Array:
        seen, reformed = victim.logits(x), victim.logits(reconstructed(autoencoder, x))
        return jensen_shannon(seen / self.temperature, reformed / self.temperature)


def jensen_shannon(first: Array, second: Array) -> Array:
    """The Jensen-Shannon divergence of the softmaxes of two sets of logits [b k], [b], in [0, log 2]."""
    p, q = jax.nn.log_softmax(first), jax.nn.log_softmax(second)
    middle = jnp.logaddexp(p, q) - math.log(2)
    return jnp.sum(jnp.exp(p) * (p - middle) + jnp.exp(q) * (q - middle), -1) / 2


def threshold(scores: np.ndarray, rate: float) -> np.ndarray:
    """The score that a further clean image exceeds with a probability of at most `rate`, of clean scores [m].

    The k-th largest with k = floor(rate (m + 1)), as in conformal prediction. ValueError if the scores are too few.
    """
    rank = math.floor(rate * (len(scores) + 1) + 1e-9)  # .05 x 60 is 2.9999 in floats
    if rank < 1:
        raise ValueError(
            f"a rate of {rate} needs {math.ceil(1 / rate) - 1} held-out clean rows, got {len(scores)}; set more in "
            "data.clean, or a higher rate"
        )
    return np.float32(np.sort(scores)[-rank])


@dataclasses.dataclass(frozen=True)
class MagNet(Defence):
    """Reject images that a detector finds too far from clean ones; classify reconstructions (Meng & Chen 2017).

    The paper trains the autoencoders on the training set, which it takes to be clean. Here that may be poisoned, and an
    autoencoder reproduces what it was trained on, so that it is the clean rows that they learn from. The defaults are
    those for MNIST (section 5); `magnet_cifar10` has those for CIFAR-10.

    detectors: an image is rejected if any of them finds more than its rate allows, so that the rates add up at most;
    none: nothing is rejected. reformer: the autoencoder before the network; None leaves it out. Equal autoencoders are
    trained once; `classes` of each becomes the number of values of an image. noise: of their training. held_out: share
    of the clean rows, in (0, 1), that sets the thresholds and trains nothing; the 5,000 of 60,000 of the paper would be
    too few of a small clean set. training: of the autoencoders. ValueError for an impossible setting.
    """

    detectors: tuple[Detector, ...] = (
        ReconstructionError(2),
        ReconstructionError(1, DenoisingAutoencoder(pooled=False)),
    )
    reformer: Network | None = DenoisingAutoencoder()
    noise: float = 0.1
    held_out: float = 0.5
    training: Training = Training(batch=256, epochs=100)

    needs_clean: ClassVar[bool] = True
    needs_images: ClassVar[bool] = True

    def __post_init__(self):
        Reconstruction(self.noise)  # raises for an impossible noise
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out is a share of the clean rows and must lie in (0, 1), got {self.held_out}")
        if not self.detectors and self.reformer is None:
            raise ValueError("MagNet needs a detector or a reformer, got neither")

    def shield(self, victim: Victim, context: Context) -> Shield:
        """The network behind the reformer and the detectors, with threshold 1.

        ValueError if the clean rows are too few for a rate.
        """
        learnt, held_out = self._split(context)
        networks = self._autoencoders(context, learnt)
        logits = None if self.reformer is None else Partial(reformed, victim, networks[self.reformer])
        if not self.detectors:
            return Shield(logits)
        scores = tuple(Partial(each, victim, networks[each.autoencoder]) for each in self.detectors)
        clean = [context.map(row_suspicions, victim._replace(suspicion=score), held_out) for score in scores]
        limits = [threshold(of, each.rate) for of, each in zip(clean, self.detectors, strict=True)]
        return Shield(logits, Partial(worst, scores, np.array(limits)), 1.0)

    def _split(self, context: Context) -> tuple[Examples, Examples]:
        """The clean rows to learn from, and those held out, at random. ValueError if none is left of either."""
        rows = len(context.clean.label)
        count, order = round(self.held_out * rows), np.asarray(jax.random.permutation(context.key, rows))
        if not 0 < count < rows:
            raise ValueError(f"held_out of {self.held_out} leaves no rows on one side of {rows} clean rows")
        return take(context.clean, order[count:]), take(context.clean, order[:count])

    def _autoencoders(self, context: Context, rows: Examples) -> dict[Network, Victim]:
        """The trained autoencoder of each architecture."""
        wanted = [each for each in (self.reformer, *(one.autoencoder for one in self.detectors)) if each is not None]
        objective, values = Reconstruction(self.noise), math.prod(rows.image.shape[1:])
        return {
            network: context.fit(
                f"autoencoder{number}", objective, rows, model=network.clone(classes=values), training=self.training
            )
            for number, network in enumerate(dict.fromkeys(wanted))
        }


def magnet_cifar10() -> MagNet:
    """MagNet as for CIFAR-10 (Meng & Chen 2017, section 5): one autoencoder without pooling, and three detectors."""
    flat = DenoisingAutoencoder(pooled=False)
    detectors = ReconstructionError(1, flat, 0.005), Divergence(10.0, flat), Divergence(40.0, flat)
    return MagNet(detectors, flat, noise=0.025)


def reformed(victim: Victim, autoencoder: Victim, x: Array) -> Array:
    """The logits of the reconstructions of images x [b h w c]: [b k]."""
    return victim.logits(reconstructed(autoencoder, x))


def worst(scores: tuple[Partial, ...], limits: Array, x: Array) -> Array:
    """The largest of the scores of images x [b h w c] in units of their limits, [b]: above 1 where any rejects."""
    found = jnp.stack([score(x) for score in scores], -1)
    return jnp.max(found / jnp.maximum(limits, 1e-12), -1)  # a score that is 0 on clean images has the limit 0
