"""Checks of the images, labels and keys that attacks are called with."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from poisonjax.attacks.losses import Loss
from poisonjax.types import Array


def check_inputs(
    x: Array, y: Array, key: Array, loss: Loss | None = None, spatial: bool = False
) -> tuple[Array, Array, Array]:
    """Images [b ...] in at least float32, labels [b] int32 or probabilities [b k], and one typed key per row [b].

    x: floating, in [0, 1]. y: integers, one per image; probabilities if `loss` takes them. key: one, or one per image;
    typed or legacy (`jax.random.PRNGKey`). spatial: images must be [b h w c]. Dtypes and shapes are checked always, and
    values where they are concrete, so a compiled program pays nothing. ValueError, one line, for anything else.
    """
    given, (x, y) = (x, y), (_array("x", x), _array("y", y))
    _check_images(x, spatial)
    _check_labels(x, y, loss is not None and loss.takes_probabilities)
    _check_range(*given)
    keys = row_keys(key, len(x))
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return x, y.astype(jnp.int32) if jnp.issubdtype(y.dtype, jnp.integer) else y, keys


def row_keys(key: Array, rows: int) -> Array:
    """A typed key for each row: those given, [rows], or as many split off the single one given. ValueError if none."""
    key = typed_key(key)
    if key.shape not in ((), (rows,)):
        raise ValueError(f"key must be one key or one per image ({rows}), got shape {list(key.shape)}")
    return key if key.ndim else jax.random.split(key, rows)


def typed_key(key: Array) -> Array:
    """A key or keys as `jax.random.key` makes them, also from those of `jax.random.PRNGKey`. ValueError for others."""
    dtype = getattr(key, "dtype", None)
    if dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return key
    try:
        if dtype != np.uint32:
            raise TypeError
        return jax.random.wrap_key_data(key)
    except (TypeError, ValueError):
        got = repr(key) if dtype is None else f"an array of {dtype}, shape {list(key.shape)}"
        raise ValueError(f"key must be a JAX random key, as jax.random.key(0), got {got}") from None


def _array(name: str, value: Any) -> Array:
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be an array, got {type(value).__name__}") from None


def _check_images(x: Array, spatial: bool) -> None:
    if x.ndim < 2 or (spatial and x.ndim != 4):
        raise ValueError(f"x must be images of shape [{'b h w c' if spatial else 'b ...'}], got shape {list(x.shape)}")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        fix = "; divide by 255" if jnp.issubdtype(x.dtype, jnp.integer) else ""
        raise ValueError(f"x must be floating images in [0, 1], got {x.dtype}{fix}")


def _check_labels(x: Array, y: Array, probabilities: bool) -> None:
    kind, what, shape = jnp.integer, "integer labels, one per image", x.shape[:1]
    if probabilities:
        kind, what, shape = jnp.floating, "probabilities [b k], as the loss takes them", (len(x), *y.shape[-1:])
    if y.shape != shape or y.ndim > 2 or not jnp.issubdtype(y.dtype, kind):
        fix = "; take argmax(-1) of one-hot labels" if y.ndim == 2 and not probabilities else ""
        given = f"{y.dtype} of shape {list(y.shape)} for x of shape {list(x.shape)}"
        raise ValueError(f"y must be {what}, got {given}{fix}")


def _check_range(x: Array, y: Array) -> None:
    """Check values that are known on the host; by numpy, as jax would make the check a part of a traced program."""
    if _is_known(x) and np.size(x := np.asarray(x)):
        low, high = float(x.min()), float(x.max())
        if not (low >= 0 and high <= 1):
            fix = "rescale it, and normalise inside logits_fn"
            raise ValueError(f"x must be images in [0, 1], got values from {low:g} to {high:g}; {fix}")
    if _is_known(y) and np.size(y := np.asarray(y)) and y.min() < 0:
        raise ValueError(f"y must not be negative, got {y.min():g}")


def _is_known(array: Array) -> bool:
    return not isinstance(array, jax.core.Tracer) and getattr(array, "is_fully_addressable", True)
