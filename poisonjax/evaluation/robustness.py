"""Robustness of any JAX network against one attack, with its input checked before anything is computed."""

import dataclasses
import textwrap
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import FlaxError

from poisonjax.attacks import Attack
from poisonjax.attacks.checks import typed_key
from poisonjax.evaluation import attack_run, masking
from poisonjax.evaluation.attack_run import (
    AttackResult,
    CleanOutputs,
    Progress,
    StageCache,
    no_cache,
    no_progress,
)
from poisonjax.evaluation.victim import REJECTED, Victim, function_victim
from poisonjax.runtime import distributed
from poisonjax.types import Array, Cost, Examples, LogitsFn, to_unit


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Robustness:
    """Result of one attack on n images; printing it shows it as a table.

    attack: as it was run. labels: [n]. x_adv: images under attack [n ...] in [0, 1]. clean_predictions, predictions:
    classes predicted [n] without and under attack; -1 where a detector rejects. stages: {name: share still predicted as
    labelled after it}, {} unless the attack is an ensemble. median_l2, median_linf: distances from x, over the images
    that were predicted as labelled and no longer are; None where there is none. images_per_second: without compilation;
    None if a single batch was run. audit: signs that the network hides its gradient, one line each.
    """

    attack: Attack
    labels: np.ndarray
    x_adv: np.ndarray
    clean_predictions: np.ndarray
    predictions: np.ndarray
    stages: dict[str, float]
    median_l2: float | None
    median_linf: float | None
    images_per_second: float | None
    audit: tuple[str, ...]

    @property
    def clean_accuracy(self) -> float:
        """Share of the images predicted as labelled without attack."""
        return float(np.mean(self.clean_predictions == self.labels))

    @property
    def robust_accuracy(self) -> float:
        """Share of the images predicted as labelled under attack."""
        return float(np.mean(self.predictions == self.labels))

    @property
    def cost(self) -> Cost:
        """The most that the attack spends on one image."""
        return self.attack.cost

    def to_json(self) -> dict:
        """The numbers as records hold them, counts as [images predicted as labelled, all]."""
        return {
            "robust": self._count(self.predictions),
            "median_l2": self.median_l2,
            "median_linf": self.median_linf,
            "gradients": self.cost.gradients,
            "queries": self.cost.queries,
            "images_per_second": self.images_per_second,
            "stages": self.stages,
            "clean": self._count(self.clean_predictions),
            "audit": list(self.audit),
        }

    def __repr__(self) -> str:
        """An aligned table, with 95 % intervals (Wilson 1927) and the images counted."""
        rows = [
            ("clean accuracy", _share(*self._count(self.clean_predictions))),
            *((f"  after {name}", f"{100 * left:.1f} %") for name, left in self.stages.items()),
            ("robust accuracy", _share(*self._count(self.predictions))),
            ("median L2", _number(self.median_l2)),
            ("median Linf", _number(self.median_linf)),
            ("gradients per image", f"{self.cost.gradients:,} at most"),
            ("queries per image", f"{self.cost.queries:,} at most"),
            ("images per second", _number(self.images_per_second)),
            *(("warning", line) for line in self.audit),
        ]
        if rejected := int(np.sum(self.predictions == REJECTED)):
            rows.insert(2 + len(self.stages), ("rejected", f"{rejected}/{len(self.labels)}"))
        width = max(len(name) for name, _ in rows)
        title = type(self.attack).__name__ + ("" if self.attack.ball is None else f" in {self.attack.ball}")
        return "\n".join([title, *(f"{name:<{width}}  {value}" for name, value in rows)])

    def _count(self, predictions: np.ndarray) -> list[int]:
        return [int(np.sum(predictions == self.labels)), len(self.labels)]


def _share(hits: int, images: int) -> str:
    from scipy import stats  # slow to import, and needed to print alone

    low, high = (100 * bound for bound in stats.binomtest(hits, images).proportion_ci(0.95, method="wilson"))
    return f"{100 * hits / images:.1f} %  [{low:.1f}, {high:.1f}]  {hits}/{images}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def evaluate(
    network: LogitsFn | Victim,
    x: Array,
    y: Array,
    attack: Attack,
    key: Array,
    batch: int = 100,
    cache: StageCache = no_cache,
    progress: Progress = no_progress,
) -> Robustness:
    """Attack images x [n ...], uint8 or in [0, 1], with labels y [n], `batch` at a time.

    network: any JAX function images [b ...] in [0, 1] -> logits [b k], in evaluation mode: a closure over
    `model.apply`, an nnx module, or a victim, as of a trained run. The same function object compiles once. key: of
    `jax.random.key` or `jax.random.PRNGKey`. cache: may return what a stage of an ensemble computed earlier. progress:
    reports batches done. ValueError, one line, for invalid input.
    """
    if not isinstance(attack, Attack):
        raise ValueError(f"attack must be an Attack, as PGD(Linf(8/255)), got {attack!r}")
    examples, key = checked_examples(x, y), _single(key)
    victim = network if isinstance(network, Victim) else function_victim(_hashable(network))
    check_shapes(victim.logits, examples.image.shape[1:])
    victim = distributed.replicate(victim)
    outputs = checked_outputs(victim, examples, attack, batch)
    return measured(victim, examples, attack, key, batch, outputs, cache, progress)


def checked_examples(x: Array, y: Array) -> Examples:
    """The images x as float32 in [0, 1] and the labels y.

    ValueError unless x is [n ...], uint8 or floating in [0, 1], and y [n], whole numbers from 0.
    """
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim < 2 or not x.size:
        raise ValueError(f"x must be images of shape [n ...], got shape {list(x.shape)}")
    if x.dtype != np.uint8 and not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x must be uint8 or floating, got {x.dtype}")
    if not (np.all(np.isfinite(x)) and (x.dtype == np.uint8 or (x.min() >= 0 and x.max() <= 1))):
        raise ValueError(f"x must be uint8 or lie in [0, 1], got values from {x.min()} to {x.max()}")
    if not np.issubdtype(y.dtype, np.integer):
        raise ValueError(f"y must be whole numbers, got {y.dtype}")
    if y.shape != x.shape[:1]:
        raise ValueError(
            f"y must be {len(x)} labels, one per image of x [n ...], got shape {list(y.shape)} for x of shape "
            f"{list(x.shape)}"
        )
    if y.min() < 0:
        raise ValueError(f"y must be labels from 0, got {y.min()}")
    return Examples(np.asarray(to_unit(jnp.asarray(x))), y.astype(np.int32), np.arange(len(y), dtype=np.int32))


def checked_outputs(victim: Victim, examples: Examples, attack: Attack, batch: int = 100) -> CleanOutputs:
    """Clean logits of examples [n], and input-gradient magnitudes if the attack uses gradients.

    victim comes from `distributed.replicate`. ValueError unless the logits are [n k], finite and no probabilities, and
    the labels are classes of them.
    """
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    outputs = attack_run.clean_outputs(victim, examples, [attack], batch)
    logits = outputs.logits
    if examples.label.max() >= (classes := logits.shape[1]):
        raise ValueError(f"y must be labels from 0 to {classes - 1}, got {examples.label.max()}")
    if bad := int(np.sum(~np.isfinite(logits).all(1))):
        raise ValueError(f"the network must give numbers, got NaN or infinity for {bad} of {len(logits)} images")
    if np.all(logits >= 0) and np.all(np.abs(logits.sum(1) - 1) <= 1e-3):
        raise ValueError("the network must give logits, before the softmax, got probabilities")
    return outputs


def measured(
    victim: Victim,
    examples: Examples,
    attack: Attack,
    key: Array,
    batch: int,
    outputs: CleanOutputs,
    cache: StageCache = no_cache,
    progress: Progress = no_progress,
) -> Robustness:
    """The attack on examples [n], whose `checked_outputs` are given; victim comes from `distributed.replicate`."""
    result = attack_run.run(victim, examples, attack, distributed.replicate(key), batch, cache, progress)
    return _robustness(examples, attack, result, outputs)


def _robustness(examples: Examples, attack: Attack, result: AttackResult, outputs: CleanOutputs) -> Robustness:
    clean = np.asarray(to_unit(jnp.asarray(examples.image)))
    numbers = attack_run.numbers(clean, examples.label, result, attack)
    return Robustness(
        attack,
        np.asarray(examples.label),
        result.adversarial,
        result.before,
        result.after,
        result.stages,
        numbers["median_l2"],
        numbers["median_linf"],
        numbers["images_per_second"],
        tuple(masking.masking(masking.outcomes("the attack", attack, numbers), outputs)),
    )


def _single(key: Array) -> Array:
    key = typed_key(key)
    if key.ndim:
        raise ValueError(f"key must be a single key, got {list(key.shape)} of them")
    return key


def _hashable(network: Callable) -> Callable:
    """The function itself, by which programs are cached, or one around a callable that has no hash."""
    if not callable(network):
        raise ValueError(f"network must be a function images -> logits or a Victim, got {type(network).__name__}")
    try:
        hash(network)
    except TypeError:
        return lambda x: network(x)
    return network


def check_shapes(logits_fn: LogitsFn, image: tuple[int, ...]) -> int:
    """The number of classes k. ValueError unless it takes images of this shape and gives logits [b k]."""
    try:
        logits = jax.eval_shape(lambda x: logits_fn(x), jax.ShapeDtypeStruct((1, *image), jnp.float32))
    except Exception as error:  # whatever a network raises that is not made for such images
        reason = textwrap.shorten(str(error), 200, placeholder=" ...")
        if isinstance(error, FlaxError) and "mutate" in reason.lower():
            raise ValueError(f"the network must be in evaluation mode (model.eval() of nnx): {reason}") from error
        raise ValueError(f"the network cannot take images of shape {list(image)}: {reason}") from error
    shape = list(getattr(logits, "shape", ()))
    if len(shape) != 2 or shape[0] != 1 or shape[1] < 2:
        kind = shape or type(logits).__name__
        raise ValueError(f"the network must give logits of shape [b k], got {kind} for 1 image")
    return shape[1]
