"""How much there is to calculate, whoever does it."""

import jax
import jax.numpy as jnp

from poisonjax.models.network import Network


def training_flops(forward: float, attack_steps: int) -> float:
    """Of one image: a step of the attack goes forward and back to the image (2), an update to the weights too (3)."""
    return forward * (2 * attack_steps + 3)


def forward_flops(model: Network, shape: tuple[int, ...]) -> float:
    """Of one image [h w c], as XLA counts them: a multiplication and an addition are two."""
    image = jnp.zeros((1, *shape))
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    return jax.jit(model.apply).lower(variables, image).cost_analysis()["flops"]
