"""A network that runs on the host, called from compiled JAX functions; and JAX functions called from the host."""

import functools
import textwrap
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from poisonjax.types import LogitsFn

Forward = Callable[[np.ndarray], np.ndarray]  # images in the framework's layout -> logits [b k]
Backward = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (images, weights of the logits [b k]) -> gradient


def called_back(forward: Forward, backward: Backward, channels_first: bool) -> LogitsFn:
    """A JAX function, compiled and differentiable, of functions on the host.

    backward: may raise, if there are no gradients. Under vmap the images of all are one batch.
    """
    to_foreign, to_jax = ((0, 3, 1, 2), (0, 2, 3, 1)) if channels_first else ((0, 1, 2, 3),) * 2

    def batch(array) -> np.ndarray:
        """Images [.. b h w c] as one batch in the framework's layout."""
        return np.array(array).reshape(-1, *array.shape[-3:]).transpose(to_foreign)

    def logits(x) -> np.ndarray:
        found = np.asarray(forward(batch(x)), np.float32)
        return found.reshape(*x.shape[:-3], *found.shape[1:])

    def gradient(x, weights) -> np.ndarray:
        result = backward(batch(x), np.array(weights).reshape(-1, weights.shape[-1]))
        return np.asarray(result, np.float32).transpose(to_jax).reshape(x.shape)

    @functools.cache
    def of_each(image: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the logits of one image. ValueError unless two images have two of them."""
        one, two = (list(np.shape(forward(batch(np.zeros((rows, *image), np.float32))))) for rows in (1, 2))
        if one[:1] != [1] or two != [2, *one[1:]]:
            raise ValueError(f"it gives {one} for one image and {two} for two, and must give logits [b k]")
        return tuple(one[1:])

    @jax.custom_vjp
    def logits_fn(x):
        like = jax.ShapeDtypeStruct((len(x), *of_each(x.shape[1:])), jnp.float32)
        return jax.pure_callback(logits, like, x, vmap_method="broadcast_all")

    def pullback(x, weights):
        _check_gradient(gradient, x.shape[1:], weights.shape[-1])
        like = jax.ShapeDtypeStruct(x.shape, jnp.float32)
        return (jax.pure_callback(gradient, like, x, weights, vmap_method="broadcast_all"),)

    logits_fn.defvjp(lambda x: (logits_fn(x), x), pullback)
    return logits_fn


def _check_gradient(gradient: Backward, image: tuple[int, ...], classes: int) -> None:
    """ValueError for a network without gradients, in one line, and not out of the middle of a compiled attack."""
    try:
        gradient(np.zeros((1, *image), np.float32), np.zeros((1, classes), np.float32))
    except Exception as error:  # whatever the code of a user raises
        reason = textwrap.shorten(str(error), 200, placeholder=" ...")
        raise ValueError(f"it has no gradients: {reason}; allowed are attacks that take none") from error


def in_few_sizes(fn: Callable, *arrays: np.ndarray) -> np.ndarray:
    """fn of the rows [b ...] of arrays, filled up to a power of two, so that few sizes are compiled."""
    rows = len(arrays[0])
    whole = np.arange(1 << (rows - 1).bit_length()) % rows
    return np.array(fn(*(array[whole] for array in arrays))[:rows])
