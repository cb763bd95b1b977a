"""Networks as the loops over images take them: hashable, and called with a state, images -> logits."""

import dataclasses
from typing import Any

from flax import linen as nn

from poisonjax.training import TrainState, eval_logits
from poisonjax.types import LogitsFn


@dataclasses.dataclass(frozen=True)
class Network:
    """A flax model, in evaluation mode; its weights are the state."""

    model: nn.Module

    def __call__(self, state: TrainState) -> LogitsFn:
        return eval_logits(self.model, state)


@dataclasses.dataclass(frozen=True)
class Fixed:
    """Any JAX function images [b h w c] in [0, 1] -> logits [b k]; the state is of no use to it, () will do."""

    logits_fn: LogitsFn

    def __call__(self, state: Any) -> LogitsFn:
        return self.logits_fn


Victim = Network | Fixed
