"""Networks of other frameworks as victims, and JAX networks for the attacks of other frameworks.

A foreign network runs on the host, called back from the compiled attack batch by batch, so it is much slower than a
JAX network. It must not call JAX itself, which may deadlock on a CPU. Gradients are the framework's own; there are no
second derivatives. torch, ART and Foolbox are imported where they are needed, and are not required by poisonjax.
"""

import functools
import importlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from poisonjax.runtime import compilation
from poisonjax.types import LogitsFn

Forward = Callable[[np.ndarray], np.ndarray]  # images in the framework's layout -> logits [b k]
Backward = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (images, weights of the logits [b k]) -> gradient


def from_torch(module) -> LogitsFn:
    """A JAX function of a torch.nn.Module, images [b c h w] in [0, 1] -> logits.

    It runs on the device of its parameters. ValueError if it is no module, or in training mode, in which one image
    depends on the others.
    """
    torch = _imported("torch", "PyTorch", "from_torch")
    if not isinstance(module, torch.nn.Module):
        raise ValueError(f"module must be a torch.nn.Module, got {type(module).__name__}")
    if module.training:
        raise ValueError("module must be in evaluation mode; call module.eval() before")
    parameter = next(module.parameters(), None)
    return _of_torch(module, "cpu" if parameter is None else parameter.device)


def from_foolbox(fmodel) -> LogitsFn:
    """A JAX function of a foolbox.PyTorchModel with bounds (0, 1), its preprocessing included.

    ValueError for another kind of model or other bounds.
    """
    foolbox = _imported("foolbox", "foolbox", "from_foolbox")
    if not isinstance(fmodel, foolbox.PyTorchModel):
        raise ValueError(f"fmodel must be a foolbox.PyTorchModel, got {type(fmodel).__name__}")
    if tuple(fmodel.bounds) != (0, 1):
        raise ValueError(f"fmodel must have bounds (0, 1), got {tuple(fmodel.bounds)}")
    return _of_torch(fmodel, fmodel.device)


def from_art(classifier) -> LogitsFn:
    """A JAX function of a classifier of the Adversarial Robustness Toolbox that gives logits.

    Its gradients take a backward pass per class. ValueError for another object, or one whose images have another range.
    """
    estimators = _imported("art.estimators.classification", "adversarial-robustness-toolbox", "from_art")
    if not isinstance(classifier, estimators.classifier.ClassifierMixin):
        raise ValueError(f"classifier must be one of ART's, got {type(classifier).__name__}")
    if classifier.clip_values is not None:
        low, high = (np.unique(bound).tolist() for bound in classifier.clip_values)
        if (low, high) != ([0], [1]):
            raise ValueError(f"classifier must take images in [0, 1], got clip_values {low} to {high}")

    def backward(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
        if not hasattr(classifier, "class_gradient"):
            raise ValueError(f"{type(classifier).__name__} has no gradients; allowed are attacks that take none")
        return np.einsum("bk,bk...->b...", weights, classifier.class_gradient(x))

    return _called_back(classifier.predict, backward, getattr(classifier, "channels_first", False))


def to_torch(logits_fn: LogitsFn):
    """A JAX network as a torch.nn.Module, images [b c h w] in [0, 1] -> logits, with gradients of its input.

    For Foolbox's PyTorchModel, ART's PyTorchClassifier and the authors' AutoAttack. It has no parameters. Batches are
    padded to a power of two, so that few sizes are compiled.
    """
    torch = _imported("torch", "PyTorch", "to_torch")

    @compilation.jit
    def backward(x, weights):
        return jax.vjp(logits_fn, x)[1](weights)[0]

    class Through(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return _run_in_jax(torch, forward, _channels_last(x))

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, weights):
            (x,) = ctx.saved_tensors
            gradient = _run_in_jax(torch, backward, _channels_last(x), weights)
            return gradient.permute(0, 3, 1, 2)

    class Module(torch.nn.Module):
        def forward(self, x):
            return Through.apply(x)

    forward = compilation.jit(logits_fn)
    return Module().eval()


def _imported(module: str, package: str, what: str):
    """The imported module. ImportError, one line, naming the package."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{what} needs {package}, which cannot be imported: {error}") from None


def _of_torch(model: Callable, device) -> LogitsFn:
    """A differentiable function of tensors [b c h w] in [0, 1]."""
    import torch

    def tensor(array: np.ndarray):
        return torch.tensor(array, dtype=torch.float32, device=device)

    def forward(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return model(tensor(x)).cpu().numpy()

    def backward(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
        with torch.enable_grad():
            images = tensor(x).requires_grad_()
            (gradient,) = torch.autograd.grad(model(images), images, tensor(weights))
        return gradient.cpu().numpy()

    return _called_back(forward, backward, channels_first=True)


def _called_back(forward: Forward, backward: Backward, channels_first: bool) -> LogitsFn:
    """A JAX function, compiled and differentiable, of functions on the host."""
    to_foreign, to_jax = ((0, 3, 1, 2), (0, 2, 3, 1)) if channels_first else ((0, 1, 2, 3),) * 2

    def logits(x) -> np.ndarray:
        return np.asarray(forward(np.array(x).transpose(to_foreign)), np.float32)

    def gradient(x, weights) -> np.ndarray:
        result = backward(np.array(x).transpose(to_foreign), np.array(weights))
        return np.asarray(result, np.float32).transpose(to_jax)

    @functools.cache
    def classes(shape: tuple[int, ...]) -> int:
        return logits(np.zeros((1, *shape), np.float32)).shape[-1]

    @jax.custom_vjp
    def logits_fn(x):
        like = jax.ShapeDtypeStruct((len(x), classes(x.shape[1:])), jnp.float32)
        return jax.pure_callback(logits, like, x, vmap_method="sequential")

    def pullback(x, weights):
        like = jax.ShapeDtypeStruct(x.shape, jnp.float32)
        return (jax.pure_callback(gradient, like, x, weights, vmap_method="sequential"),)

    logits_fn.defvjp(lambda x: (logits_fn(x), x), pullback)
    return logits_fn


def _channels_last(x):
    return x.permute(0, 2, 3, 1)


def _run_in_jax(torch, fn: Callable, *tensors):
    """fn of the rows [b ...] of the tensors, as a tensor on the device of the first."""
    rows, like = len(tensors[0]), tensors[0]
    whole = np.arange(1 << (rows - 1).bit_length()) % rows
    result = fn(*(tensor.detach().cpu().numpy()[whole] for tensor in tensors))
    return torch.from_numpy(np.array(result[:rows])).to(like)
