"""How robust any JAX network is against one attack; what it is given is checked before anything is computed."""

import textwrap
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from poisonjax.attacks import AnyAttack
from poisonjax.evaluation import attack_run, masking
from poisonjax.evaluation.attack_run import AttackResult, CleanOutputs, Progress, StageCache, no_cache, no_progress
from poisonjax.evaluation.victim import Victim, function_victim
from poisonjax.runtime import distributed
from poisonjax.types import Array, Examples, LogitsFn, to_unit


class Robustness(NamedTuple):
    """tried: the images and classes. measured: what `attack_run.measure` says of them, and beside it clean, how many
    images are classified as labelled, of all, and audit, signs that the network hides its gradient, one line each."""

    tried: AttackResult
    measured: dict


def evaluate(
    logits_fn: LogitsFn,
    x: Array,
    y: Array,
    attack: AnyAttack,
    key: Array,
    batch: int = 100,
    keep: StageCache = no_cache,
) -> Robustness:
    """The attack on images x [n h w c], uint8 or in [0, 1], with labels y [n], so many at a time.

    logits_fn: any JAX function images [b h w c] in [0, 1] -> logits [b k]. keep: may give back what a stage of
    AutoAttack made earlier. ValueError, one line, for input that cannot be meant.
    """
    victim, examples = function_victim(logits_fn), check(x, y)
    _check_shapes(logits_fn, examples.image.shape[1:])
    return judge(victim, examples, attack, key, batch, look(victim, examples, attack, batch), keep)


def check(x: Array, y: Array) -> Examples:
    """The images x as float32 in [0, 1] and the labels y.

    ValueError unless x is [n h w c], uint8 or floating in [0, 1], and y [n], whole numbers from 0.
    """
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim != 4 or not x.size:
        raise ValueError(f"x must be images of shape [n h w c], got shape {list(x.shape)}")
    if x.dtype != np.uint8 and not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x must be uint8 or floating, got {x.dtype}")
    if not (np.all(np.isfinite(x)) and (x.dtype == np.uint8 or (x.min() >= 0 and x.max() <= 1))):
        raise ValueError(f"x must be uint8 or lie in [0, 1], got values from {x.min()} to {x.max()}")
    if not np.issubdtype(y.dtype, np.integer):
        raise ValueError(f"y must be whole numbers, got {y.dtype}")
    if y.shape != x.shape[:1]:
        raise ValueError(f"y must be {len(x)} labels, one an image, got shape {list(y.shape)}")
    if y.min() < 0:
        raise ValueError(f"y must be labels from 0, got {y.min()}")
    return Examples(np.asarray(to_unit(jnp.asarray(x))), y.astype(np.int32), np.arange(len(y), dtype=np.int32))


def look(victim: Victim, examples: Examples, attack: AnyAttack, batch: int = 100) -> CleanOutputs:
    """What the network says of examples [n] as they are.

    victim comes from `distributed.replicate`. ValueError unless that is logits [n k], all of them numbers and no
    probabilities, and the labels are classes of them.
    """
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    seen = attack_run.inspect(victim, examples, [attack], batch)
    if examples.label.max() >= (classes := seen.logits.shape[1]):
        raise ValueError(f"y must be labels from 0 to {classes - 1}, got {examples.label.max()}")
    if bad := int(np.sum(~np.isfinite(seen.logits).all(1))):
        raise ValueError(f"the network must give numbers, got NaN or infinity for {bad} of {len(seen.logits)} images")
    if np.all(seen.logits >= 0) and np.all(np.abs(seen.logits.sum(1) - 1) <= 1e-3):
        raise ValueError("the network must give logits, before the softmax, got probabilities")
    return seen


def _check_shapes(logits_fn: LogitsFn, image: tuple[int, ...]) -> None:
    """Whether it takes images [h w c]; and whether it gives [b k]."""
    try:
        made = jax.eval_shape(logits_fn, jax.ShapeDtypeStruct((1, *image), jnp.float32))
    except Exception as error:  # whatever a network raises that is not made for such images
        reason = textwrap.shorten(str(error), 200, placeholder=" ...")
        raise ValueError(f"the network cannot take images of shape {list(image)}: {reason}") from error
    shape = list(getattr(made, "shape", ()))
    if len(shape) != 2 or shape[0] != 1 or shape[1] < 2:
        raise ValueError(f"the network must give logits of shape [b k], got {shape or type(made).__name__} for 1 image")


def judge(
    victim: Victim,
    examples: Examples,
    attack: AnyAttack,
    key: Array,
    batch: int,
    seen: CleanOutputs,
    keep: StageCache = no_cache,
    follow: Progress = no_progress,
) -> Robustness:
    """The attack on examples [n], of which `look` gave what is seen; victim comes from `distributed.replicate`."""
    tried = attack_run.attempt(victim, examples, attack, distributed.replicate(key), batch, keep, follow)
    measured = attack_run.measure(np.asarray(to_unit(jnp.asarray(examples.image))), examples.label, tried, attack)
    clean = [int(np.sum(tried.before == examples.label)), len(examples.label)]
    audit = masking.masking(masking.outcomes("the attack", attack, measured), seen)
    return Robustness(tried, measured | {"clean": clean, "audit": audit})
