"""Folded batch norms give the same logits and gradients with fewer operations."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import pytest

from poisonjax.models import MobileNet, ResNet18
from poisonjax.training import TrainState, eval_logits
from tests.models.test_cifar import ready

NETWORKS = {"resnet18": ResNet18(filters=4), "mobilenet": MobileNet(alpha=0.125)}


def state_and_images(model):
    variables, x = ready(model)
    return TrainState(jnp.int32(0), variables["params"], variables["batch_stats"], ()), x


def logits_and_slope(logits_fn, x):
    logits, back = jax.vjp(logits_fn, x)
    return logits, back(jnp.cos(jnp.arange(logits.size)).reshape(logits.shape))[0]


def unfolded(model, state):
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    return lambda x: model.apply(variables, x)[0]


def outputs(view, model):
    """Logits and gradients of the network that `view` gives."""
    state, x = state_and_images(model)
    return jax.jit(lambda state, x: logits_and_slope(view(model, state), x))(state, x)


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_and_gradients_are_those_of_the_network(name):
    for ours, expected in zip(*(outputs(view, NETWORKS[name]) for view in (eval_logits, unfolded)), strict=True):
        chex.assert_trees_all_close(ours, expected, atol=1e-4 * float(jnp.abs(expected).max()))


def cosine(a, b):
    return jnp.vdot(a, b) / jnp.linalg.norm(a.ravel()) / jnp.linalg.norm(b.ravel())


@pytest.mark.parametrize("name", NETWORKS)
def test_folding_loses_no_precision_in_bfloat16(name):
    half = dataclasses.replace(NETWORKS[name], dtype="bfloat16")
    exact, ours, plain = outputs(unfolded, NETWORKS[name]), outputs(eval_logits, half), outputs(unfolded, half)
    for part in (0, 1):
        assert cosine(ours[part], exact[part]) > cosine(plain[part], exact[part]) - 0.01


@pytest.mark.parametrize("name", NETWORKS)
def test_loop_contains_no_batch_norm(name):
    model = NETWORKS[name]
    state, x = state_and_images(model)

    def multiplications(view):
        def attack(state, x):
            logits_fn = view(model, state)
            return jax.lax.fori_loop(0, 5, lambda _, x: x + jax.grad(lambda x: logits_fn(x).sum())(x), x)

        text = jax.jit(attack).lower(state, x).compile().as_text()
        return sum(" multiply(" in line and "while/body" in line for line in text.splitlines())

    norms = len(jax.tree.leaves(state.batch_stats)) // 2
    assert multiplications(unfolded) - multiplications(eval_logits) >= norms
