"""Every metric, one definition each, with its denominator; and what makes a victim's numbers meaningless."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from poisonjax.attacks import PGD
from poisonjax.runtime import distributed
from poisonjax.training import TrainState, eval_logits
from poisonjax.training.step import row_keys
from poisonjax.types import Array, Examples, Poison, to_unit


class Predictions(NamedTuple):
    """Of every test image [n]: the class predicted for it as it is, with the trigger, and under attack.

    finite: [n] bool, whether all its logits were numbers.
    """

    clean: np.ndarray
    triggered: np.ndarray
    adversarial: np.ndarray
    finite: np.ndarray


class Count(NamedTuple):
    """A metric by true class: hits [k] among the images that it is about, of [k]."""

    hits: np.ndarray
    of: np.ndarray

    @property
    def numerator(self) -> int:
        return int(self.hits.sum())

    @property
    def denominator(self) -> int:
        return int(self.of.sum())

    @property
    def value(self) -> float:
        """The fraction; nan if the metric is about no image."""
        return self.numerator / self.denominator if self.denominator else float("nan")


@distributed.cached
def _predictor(model: nn.Module, poison: Poison, attack: PGD | None) -> Callable:
    def predict(examples: Examples, state: TrainState, key: Array) -> Predictions:
        x, logits_fn = to_unit(examples.image), eval_logits(model, state)
        shown = [x, poison.apply_trigger(x)]
        if attack is not None:
            shown.append(attack(logits_fn, x, examples.label, row_keys(key, examples.index, 0)))
        logits = [logits_fn(images) for images in shown]
        classes = [jnp.argmax(each, -1).astype(jnp.int32) for each in logits]
        finite = jnp.all(jnp.isfinite(jnp.stack(logits)), axis=(0, 2))
        return Predictions(*classes[:2], classes[-1], finite)

    return distributed.over_rows(predict)


def predict(
    model: nn.Module,
    state: TrainState,
    examples: Examples,
    poison: Poison,
    attack: PGD | None,
    key: Array,
    batch: int,
    advance: Callable[[int], None] = lambda rows: None,
) -> Predictions:
    """What the network says of each of examples [n]; without an attack, `adversarial` repeats `triggered`.

    state and key are those that `distributed.replicate` gave.
    """
    return _predictor(model, poison, attack)(examples, batch, state, key, advance=advance)


def measure(labels: np.ndarray, wanted: np.ndarray, said: Predictions, classes: int) -> dict[str, Count]:
    """The metrics of labels [n] and the attacker's classes wanted [n].

    A victim is an image whose class is not the one that the attacker wants. Under all-to-all, every image is.
    clean_accuracy: images as they are, predicted as labelled, of all.
    triggered_accuracy: victims with the trigger, predicted as labelled, of all victims.
    attack_success_rate: victims with the trigger, predicted as the attacker wants, of all victims
    (Gu et al. 2019, section 4.2).
    attack_success_rate_turner: the same, of the victims that were not predicted so without the trigger
    (Turner et al. 2019, section 5, and their code).
    art_effectiveness: images with the trigger, predicted as the attacker wants, of all images, those of the
    wanted class too (the examples of the Adversarial Robustness Toolbox: accuracy on the poisoned test set); of
    none without any victim.
    robust_accuracy: images under attack, predicted as labelled, of all (Madry et al. 2018, section 5).
    """
    every, victim = np.ones(labels.shape, bool), wanted != labels
    succeeded = said.triggered == wanted
    pairs = {
        "clean_accuracy": (said.clean == labels, every),
        "triggered_accuracy": (said.triggered == labels, victim),
        "attack_success_rate": (succeeded, victim),
        "attack_success_rate_turner": (succeeded, victim & (said.clean != wanted)),
        "art_effectiveness": (succeeded, every & victim.any()),
        "robust_accuracy": (said.adversarial == labels, every),
    }
    return {name: _count(hit, about, labels, classes) for name, (hit, about) in pairs.items()}


def _count(hit: np.ndarray, about: np.ndarray, labels: np.ndarray, classes: int) -> Count:
    return Count(np.bincount(labels[hit & about], minlength=classes), np.bincount(labels[about], minlength=classes))


def audit(labels: np.ndarray, said: Predictions, classes: int) -> list[str]:
    """What makes the numbers of a network on labels [n] meaningless, one line each.

    Logits that are not numbers, one class for all images, or little more than guessing: a network that has not learnt
    its task has not learnt a backdoor either, and no defence is to be credited with that.
    """
    found = []
    if bad := int(np.sum(~said.finite)):
        found.append(f"not finite: the logits of {bad} of {len(said.finite)} test images hold NaN or infinity")
    if len(np.unique(said.clean)) == 1:
        found.append(f"collapsed: every clean test image is predicted as class {said.clean[0]}")
    elif (accuracy := np.mean(said.clean == labels)) < 2 / classes:
        found.append(f"hardly trained: {accuracy:.1%} clean accuracy, less than twice that of guessing")
    return found
