"""Metrics, each defined once and with its denominator, and the audit that voids meaningless ones."""

from collections.abc import Callable, Hashable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from poisonjax.attacks import Attack
from poisonjax.evaluation.victim import REJECTED, Victim, structure
from poisonjax.keys import row_keys
from poisonjax.poisons.base import Poison
from poisonjax.runtime import distributed
from poisonjax.types import Array, Examples, to_unit

# Every metric there is, and what people call it; a record holds those that are defined for its networks.
METRICS = {
    "clean_accuracy": "clean accuracy",
    "triggered_accuracy": "triggered accuracy",
    "attack_success_rate": "attack success rate",
    "attack_success_rate_turner": "attack success rate (Turner)",
    "art_effectiveness": "effectiveness (ART)",
    "robust_accuracy": "PGD accuracy",
    "autoattack_accuracy": "AutoAttack accuracy",
    "clean_rejection_rate": "clean images rejected",
    "triggered_rejection_rate": "triggered images rejected",
    "adversarial_rejection_rate": "adversarial images rejected",
    "poisoned_rows_removed": "poisoned rows removed",
    "clean_rows_removed": "clean rows removed",
    "cover_rows_removed": "cover rows removed",
}


class Predictions(NamedTuple):
    """Classes predicted for every test image [n]: clean, with the trigger, and under attack; REJECTED if refused.

    finite: [n] bool, whether all its logits were numbers.
    """

    clean: np.ndarray
    triggered: np.ndarray
    adversarial: np.ndarray
    finite: np.ndarray


class Count(NamedTuple):
    """A metric by true class: hits [k] among the images that are counted, of [k]."""

    hits: np.ndarray
    of: np.ndarray

    def to_json(self) -> list[list[int]]:
        """[hits, of], as `from_json` takes them."""
        return [self.hits.tolist(), self.of.tolist()]

    @staticmethod
    def from_json(counts: list[list[int]]) -> "Count":
        """The count that `to_json` wrote."""
        return Count(*map(np.asarray, counts))

    @property
    def numerator(self) -> int:
        return int(self.hits.sum())

    @property
    def denominator(self) -> int:
        return int(self.of.sum())

    @property
    def value(self) -> float:
        """The fraction; nan if no image is counted."""
        return self.numerator / self.denominator if self.denominator else float("nan")


@distributed.cached
def _predictor(victim: Hashable, poison: Poison, attack: Attack | None) -> Callable:
    def predict(examples: Examples, victim: Victim, key: Array) -> Predictions:
        x = to_unit(examples.image)
        shown = [x, poison.apply_trigger(x)]
        if attack is not None:
            shown.append(attack(victim.logits, x, examples.label, row_keys(key, examples.index, 0)))
        logits = [victim.logits(images) for images in shown]
        classes = [victim.classify(*pair) for pair in zip(shown, logits, strict=True)]
        finite = jnp.all(jnp.isfinite(jnp.stack(logits)), axis=(0, 2))
        return Predictions(*classes[:2], classes[-1], finite)

    return distributed.over_rows(predict)


def predict(
    victim: Victim,
    examples: Examples,
    poison: Poison,
    attack: Attack | None,
    key: Array,
    batch: int,
    advance: Callable[[int], None] = lambda rows: None,
) -> Predictions:
    """Predictions for examples [n]; without an attack, `adversarial` repeats `triggered`.

    victim and key come from `distributed.replicate`.
    """
    return _predictor(structure(victim), poison, attack)(examples, batch, victim, key, advance=advance)


def measure(labels: np.ndarray, targets: np.ndarray, predictions: Predictions, classes: int) -> dict[str, Count]:
    """The metrics of labels [n] and the classes [n] that the attacker wants; see METRICS.

    A victim image is one whose class is not the one that the attacker wants; under all-to-all every image is. A
    rejected image counts as neither right nor won by the attacker, and on its own.

    clean_accuracy: clean images predicted as labelled, of all.
    triggered_accuracy: victim images with the trigger, predicted as labelled, of all victim images.
    attack_success_rate: victim images with the trigger, predicted as the attacker wants, of all victim images
    (Gu et al. 2019, section 4.2).
    attack_success_rate_turner: the same, of the victim images that were not predicted so without the trigger
    (Turner et al. 2019, section 5, and their code).
    art_effectiveness: images with the trigger, predicted as the attacker wants, of all images, those of the
    wanted class too (the examples of the Adversarial Robustness Toolbox: accuracy on the poisoned test set); of
    none without any victim image.
    robust_accuracy: images under attack, predicted as labelled, of all (Madry et al. 2018, section 5).
    *_rejection_rate: of all clean images, of all victim images with the trigger, of all images under attack; only
    for a network that can reject.
    """
    every, victim = np.ones(labels.shape, bool), targets != labels
    succeeded = predictions.triggered == targets
    pairs = {
        "clean_accuracy": (predictions.clean == labels, every),
        "triggered_accuracy": (predictions.triggered == labels, victim),
        "attack_success_rate": (succeeded, victim),
        "attack_success_rate_turner": (succeeded, victim & (predictions.clean != targets)),
        "art_effectiveness": (succeeded, every & victim.any()),
        "robust_accuracy": (predictions.adversarial == labels, every),
    }
    return {name: count(hit, counted, labels, classes) for name, (hit, counted) in pairs.items()}


def rejections(labels: np.ndarray, targets: np.ndarray, predictions: Predictions, classes: int) -> dict[str, Count]:
    """Rejected images of each kind, for a network with a detector; see `measure`."""
    every = np.ones(labels.shape, bool)
    pairs = {
        "clean_rejection_rate": (predictions.clean == REJECTED, every),
        "triggered_rejection_rate": (predictions.triggered == REJECTED, targets != labels),
        "adversarial_rejection_rate": (predictions.adversarial == REJECTED, every),
    }
    return {name: count(hit, counted, labels, classes) for name, (hit, counted) in pairs.items()}


def removals(
    labels: np.ndarray, poisoned: np.ndarray, cover: np.ndarray, keep: np.ndarray, classes: int
) -> dict[str, Count]:
    """Poisoned, clean and, if there are any, cover rows that a defence removed, of all of that kind, by label [n].

    poisoned, cover, keep: [n] bool. A cover row bears the trigger and its true label: it is no poisoned row that was
    found, and no clean row that was lost.
    """
    kinds = {"poisoned": poisoned, "clean": ~poisoned & ~cover} | ({"cover": cover} if cover.any() else {})
    return {f"{kind}_rows_removed": count(~keep, rows, labels, classes) for kind, rows in kinds.items()}


def count(hit: np.ndarray, counted: np.ndarray, labels: np.ndarray, classes: int) -> Count:
    """Hits among the rows [n] that are counted, by class."""
    return Count(np.bincount(labels[hit & counted], minlength=classes), np.bincount(labels[counted], minlength=classes))


def catastrophic_overfitting(history: list[dict]) -> list[str]:
    """A line if training against a single step did not bring, or lost, robustness to several steps.

    history: rows by epoch, whose `robust_accuracy` is that under several steps. Either it fell by over 20 points from
    the best epoch to the last (Wong et al. 2020, section 5.4, stop there), or the accuracy on the images of the single
    step ends over 50 points above it.
    """
    rows = [row for row in history if "robust_accuracy" in row]
    if not rows:
        return []
    best, last = max(row["robust_accuracy"] for row in rows), rows[-1]
    if best - last["robust_accuracy"] <= 0.2 and last["train_accuracy"] - last["robust_accuracy"] <= 0.5:
        return []
    return [
        f"catastrophic overfitting: {last['train_accuracy']:.1%} training accuracy against a single step, but "
        f"{last['robust_accuracy']:.1%} test accuracy under PGD (at best {best:.1%} after an epoch)"
    ]


def audit(labels: np.ndarray, predictions: Predictions, classes: int, learnt: float | None = None) -> list[str]:
    """Reasons why the numbers of a network on labels [n] are meaningless, one line each.

    Logits that are not numbers, one class for all images, or little more than guessing: a network that has not learnt
    its task has not learnt a backdoor either, and no defence is to be credited with that.

    learnt: the training accuracy of a network whose test accuracy the attacker has spoilt, by which to tell then.
    """
    found = []
    if bad := int(np.sum(~predictions.finite)):
        found.append(f"not finite: the logits of {bad} of {len(predictions.finite)} test images hold NaN or infinity")
    if learnt is not None:
        if learnt < 2 / classes:
            found.append(f"undertrained: {learnt:.1%} training accuracy, less than twice that of guessing")
    elif len(np.unique(predictions.clean)) == 1:
        found.append(f"collapsed: every clean test image is predicted as class {predictions.clean[0]}")
    elif (accuracy := np.mean(predictions.clean == labels)) < min(2 / classes, (1 + 1 / classes) / 2):
        bound = "twice that of guessing" if classes > 2 else "half-way from guessing to 100%"
        found.append(f"undertrained: {accuracy:.1%} clean accuracy, less than {bound}")
    return found
