"""Numbers of floating-point operations, independent of the implementation."""

import jax
import jax.numpy as jnp

from poisonjax.models.network import Network


def training_flops(forward: float, attack_steps: int) -> float:
    """FLOPs per image of a training step: 2 passes per attack step (forward, gradient of the image), 3 per update."""
    return forward * (2 * attack_steps + 3)


def forward_flops(model: Network, shape: tuple[int, ...]) -> float:
    """FLOPs of a forward pass of one image [h w c], as XLA counts them: a multiply-add is two."""
    image = jnp.zeros((1, *shape))
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    return jax.jit(model.apply).lower(variables, image).cost_analysis()["flops"]
