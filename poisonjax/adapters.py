"""Networks of other frameworks as victims, and JAX networks for the attacks of other frameworks.

A foreign network runs on the host, called back from the compiled attack batch by batch, so it is much slower than a
JAX network. It must not call JAX itself, which may deadlock on a CPU. Gradients are the framework's own; there are no
second derivatives. torch, ART and Foolbox are imported where they are needed, and are not required by poisonjax.
"""

import functools
import importlib
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from poisonjax.runtime import compilation
from poisonjax.types import LogitsFn

Forward = Callable[[np.ndarray], np.ndarray]  # images in the framework's layout -> logits [b k]
Backward = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (images, weights of the logits [b k]) -> gradient


def adapted(network) -> LogitsFn:
    """A network that somebody names, as a JAX function: a torch.nn.Module, a class of them, or a function as it is.

    A module is put in evaluation mode. A class is called without arguments, so it must load its weights itself.
    ValueError, one line, as `from_torch`, or if the class cannot be called so.
    """
    torch = sys.modules.get("torch")  # without it there are no modules
    if torch is None:
        return network
    if isinstance(network, type) and issubclass(network, torch.nn.Module):
        try:
            network = network()
        except Exception as error:  # whatever the code of a user raises
            raise ValueError(f"{network.__name__}() fails, without arguments: {error}") from error
    return from_torch(network.eval()) if isinstance(network, torch.nn.Module) else network


def from_torch(module) -> LogitsFn:
    """A JAX function of a torch.nn.Module, images [b c h w] in [0, 1] -> logits [b k], float32.

    The function takes images [b h w c], and turns them around. It runs on the device of the parameters, of which it
    takes no gradient. ValueError if it is no module, in training mode, in which one image depends on the others, in
    another precision, on several devices, or on none (meta).
    """
    torch = _imported("torch", "PyTorch", "from_torch")
    if not isinstance(module, torch.nn.Module):
        raise ValueError(f"module must be a torch.nn.Module, got {type(module).__name__}")
    if any(part.training for part in module.modules()):
        raise ValueError("module must be in evaluation mode; call module.eval() before")
    tensors = [*module.parameters(), *module.buffers()]
    if other := {str(each.dtype) for each in tensors if each.is_floating_point()} - {"torch.float32"}:
        raise ValueError(f"module must be in torch.float32, got {min(other)}; call module.float() before")
    devices = sorted({str(each.device) for each in tensors}) or ["cpu"]
    if len(devices) > 1 or devices == ["meta"]:
        raise ValueError(f"module must have its weights on one device, got {', '.join(devices)}; load it on the cpu")
    return _of_torch(module, devices[0])


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
        raise ImportError(
            f"{what} needs {package}, which cannot be imported: {error}; pip install 'poisonjax[torch]'"
        ) from None


def _of_torch(model: Callable, device) -> LogitsFn:
    """A differentiable function of tensors [b c h w] in [0, 1]."""
    import torch

    def tensor(array: np.ndarray):
        return torch.tensor(array, dtype=torch.float32, device=device)

    def logits(images):
        found = model(images)
        if not isinstance(found, torch.Tensor):
            raise ValueError(f"it gives a {type(found).__name__}, and must give a tensor of logits")
        return found

    def forward(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return logits(tensor(x)).cpu().numpy()

    def backward(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
        with torch.enable_grad():
            images = tensor(x).requires_grad_()
            (gradient,) = torch.autograd.grad(logits(images), images, tensor(weights))
        return gradient.cpu().numpy()

    return _called_back(forward, backward, channels_first=True)


def _called_back(forward: Forward, backward: Backward, channels_first: bool) -> LogitsFn:
    """A JAX function, compiled and differentiable, of functions on the host.

    Under vmap the images of all are one batch.
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
        like = jax.ShapeDtypeStruct(x.shape, jnp.float32)
        return (jax.pure_callback(gradient, like, x, weights, vmap_method="broadcast_all"),)

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
