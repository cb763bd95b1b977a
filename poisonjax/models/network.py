"""What the networks share: checked settings, keys for their noise, and what they return."""

import dataclasses

import flax.linen as nn

from poisonjax.types import Array

Outputs = tuple[Array, Array]  # logits [b k], features [b d]
DTYPES = ("float32", "bfloat16")


class Network(nn.Module):
    """Whole numbers among the fields are sizes, as are tuples. ValueError for one below 1, or another dtype.

    can_fold_batch_norm: whether `folding.folded` is for it.
    """

    can_fold_batch_norm = False

    def __post_init__(self):
        settings = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.init}
        sizes = {name: value for name, value in settings.items() if isinstance(value, int | tuple)}
        for name, value in sizes.items():
            if not isinstance(value, bool) and min(value if isinstance(value, tuple) else (value,), default=0) < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if settings.get("dtype", DTYPES[0]) not in DTYPES:
            raise ValueError(f"dtype must be {' or '.join(DTYPES)}, got {self.dtype!r}")
        super().__post_init__()

    def noise_keys(self, train: bool, keys: Array | None) -> Array | None:
        """keys [b] when training, None otherwise. ValueError when training without."""
        if train and keys is None:
            raise ValueError(f"{type(self).__name__} has dropout: training needs keys, one a row")
        return keys if train else None
