"""What an attack raises: (logits [b k], labels [b]) -> [b], one number a row."""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from poisonjax.types import Array


@dataclasses.dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy (Goodfellow et al. 2015, section 4; Madry et al. 2018, section 2)."""

    def __call__(self, logits: Array, labels: Array) -> Array:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


@dataclasses.dataclass(frozen=True)
class Margin:
    """Best wrong logit minus the right one; above 0: misclassified (Carlini & Wagner 2017, V.A, f6)."""

    def __call__(self, logits: Array, labels: Array) -> Array:
        right = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
        wrong = jnp.max(jnp.where(right, -jnp.inf, logits), axis=-1)
        return wrong - jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]


Loss = CrossEntropy | Margin
