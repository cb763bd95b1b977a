"""The contract of a network, with checked settings and keys for its noise."""

import abc
import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from poisonjax.types import Array

Outputs = tuple[Array, Array]  # logits [b k], features [b d]
DTYPES = ("float32", "bfloat16")


class Network(nn.Module, abc.ABC):
    """A linen module from images to logits and features. A new one has settings as fields and `__call__`.

    classes: the number of classes, a field. Whole numbers among the fields are sizes, as are tuples; `dtype`, if there
    is one, is the name of the dtype that it computes in. Parameters, features and logits are float32. Batch statistics
    are the only variables besides parameters. ValueError without classes, for a size below 1, or another dtype.

    can_fold_batch_norm: True if `folding.folded` is correct for it.
    """

    can_fold_batch_norm = False

    def __post_init__(self):
        settings = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.init}
        if "classes" not in settings:
            raise ValueError(f"{type(self).__name__} needs the field classes, the number of classes of the data set")
        sizes = {name: value for name, value in settings.items() if isinstance(value, int | tuple)}
        for name, value in sizes.items():
            if not isinstance(value, bool) and min(value if isinstance(value, tuple) else (value,), default=0) < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if settings.get("dtype", DTYPES[0]) not in DTYPES:
            raise ValueError(f"dtype must be {' or '.join(DTYPES)}, got {self.dtype!r}")
        super().__post_init__()

    @abc.abstractmethod
    def __call__(self, x: Array, train: bool = False, keys: Array | None = None) -> Outputs:
        """Images x [b h w c] in [0, 1] -> logits [b k], and features [b d], the activations before the last layer.

        train: batch statistics of this batch, and noise. keys: [b], one per row, for that noise; None if not training.
        """

    def check(self, shape: tuple[int, ...]) -> None:
        """ValueError if it cannot take images [h w c]. Nothing is computed."""
        image, wrong = jax.ShapeDtypeStruct((1, *shape), jnp.float32), ""
        try:
            made = jax.eval_shape(self.init, jax.random.key(0), image)
            wrong = "a layer would be empty" if any(0 in leaf.shape for leaf in jax.tree.leaves(made)) else ""
        except Exception as error:  # flax and jax raise their own kinds
            wrong = " ".join(str(error).split())
        if wrong:
            raise ValueError(f"{type(self).__name__} cannot take images of {' x '.join(map(str, shape))}: {wrong}")

    def noise_keys(self, train: bool, keys: Array | None) -> Array | None:
        """keys [b] when training, None otherwise. ValueError when training without keys."""
        if train and keys is None:
            raise ValueError(f"{type(self).__name__} has dropout: training needs keys, one per row")
        return keys if train else None
