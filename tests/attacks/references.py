"""The same small trained networks in JAX and in PyTorch, to compare attacks with their reference implementations."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from poisonjax.attacks import PGD, Linf
from poisonjax.data import mnist_5k
from poisonjax.models import WongCNN
from poisonjax.training import AdversarialTraining, Standard, eval_logits, initial_state, make_train_step
from poisonjax.types import Examples, LogitsFn, to_unit

_MODEL, _TX = WongCNN(filters=(8, 16), hidden=32), optax.adam(4e-3)


class Victim(NamedTuple):
    """logits_fn: images [b h w c] -> logits. params: its weights. x, y: test images in [0, 1] and labels, all of
    which it classifies as labelled."""

    logits_fn: LogitsFn
    params: dict
    x: jax.Array
    y: jax.Array


@functools.cache
def victim(adversarial: bool = False, images: int = 32) -> Victim:
    """A network trained for seconds on 4,000 real images, plainly or against PGD with an eps of .2."""
    test = mnist_5k.splits()["test"]
    state = _trained(adversarial)
    logits_fn = jax.jit(eval_logits(_MODEL, state))
    x, y = to_unit(jnp.asarray(test[0])), np.asarray(test[1], np.int32)
    right = np.flatnonzero(np.argmax(logits_fn(x), -1) == y)
    picked = np.random.default_rng(0).permutation(right)[:images]
    return Victim(logits_fn, state.params, x[picked], jnp.asarray(y[picked]))


@functools.cache
def _trained(adversarial: bool):
    objective = AdversarialTraining(PGD(Linf(0.2), step=0.05, steps=7), eps_warmup=0.3) if adversarial else Standard()
    image, label = mnist_5k.splits()["train"]
    data = Examples(jnp.asarray(image), jnp.asarray(label, jnp.int32), jnp.arange(len(label)))
    batch, steps = 100, 400
    step = make_train_step(_MODEL, objective, _TX, steps)

    @jax.jit
    def run(state, key):
        def body(i, state):
            rows = jax.random.choice(jax.random.fold_in(key, i), len(label), (batch,), replace=False)
            return step(state, Examples(*(field[rows] for field in data)), jnp.ones(batch, bool), key)[0]

        return jax.lax.fori_loop(0, steps, body, state)

    return run(initial_state(_MODEL, _TX, image[0], jax.random.key(0)), jax.random.key(1))


def torch_module(params: dict):
    """The network as a torch.nn.Module: images [b c h w] in [0, 1] -> logits, in evaluation mode."""
    torch = pytest.importorskip("torch", reason="reference attacks need PyTorch: pip install -r requirements-dev.txt")
    convs, denses = [params[f"Conv_{i}"] for i in (0, 1)], [params[f"Dense_{i}"] for i in (0, 1)]
    layers = []
    for of in convs:
        kernel = torch.tensor(np.array(of["kernel"]).transpose(3, 2, 0, 1))
        layer = torch.nn.Conv2d(kernel.shape[1], kernel.shape[0], kernel.shape[2], stride=2, padding=1)
        layers += [_with(layer, kernel, of["bias"]), torch.nn.ReLU()]
    layers += [_ChannelsLast()]
    for of in denses:
        kernel = torch.tensor(np.array(of["kernel"]).T.copy())
        layers += [_with(torch.nn.Linear(kernel.shape[1], kernel.shape[0]), kernel, of["bias"]), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1]).eval()


def _with(layer, kernel, bias):
    import torch

    layer.weight.data, layer.bias.data = kernel.contiguous(), torch.tensor(np.array(bias))
    return layer


def _ChannelsLast():
    """Flattens as flax does: pixels by row, channels last."""
    import torch

    class Flatten(torch.nn.Module):
        def forward(self, x):
            return x.permute(0, 2, 3, 1).flatten(1)

    return Flatten()


def to_torch(x):
    """Images [b h w c] -> a tensor [b c h w]."""
    import torch

    return torch.tensor(np.array(x).transpose(0, 3, 1, 2))


def from_torch(x) -> np.ndarray:
    """A tensor [b c h w] -> images [b h w c]."""
    return x.detach().cpu().numpy().transpose(0, 2, 3, 1)


def robust_accuracy(logits_fn: LogitsFn, x_adv, y) -> float:
    """The share of images that are still classified as labelled."""
    return float((jnp.argmax(logits_fn(jnp.asarray(x_adv)), -1) == y).mean())


def assert_same_images(ours, theirs) -> None:
    """Row by row within 1e-4, but for one row in eight: where a gradient is rounding error its sign is chance, which
    differs with processors, and from there on the image goes its own way."""
    apart = np.abs(np.asarray(ours) - np.asarray(theirs)).reshape(len(ours), -1).max(1)
    assert np.mean(apart > 1e-4) <= 1 / 8, apart
