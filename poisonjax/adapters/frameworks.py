"""Networks of PyTorch, Foolbox and the Adversarial Robustness Toolbox, and JAX networks for them."""

import importlib
from collections.abc import Callable

import jax
import numpy as np

from poisonjax.adapters.callback import called_back, in_few_sizes
from poisonjax.runtime import compilation
from poisonjax.types import LogitsFn


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
    return of_torch(module, devices[0])


def from_foolbox(fmodel) -> LogitsFn:
    """A JAX function of a foolbox.PyTorchModel with bounds (0, 1), its preprocessing included.

    ValueError for another kind of model or other bounds.
    """
    foolbox = _imported("foolbox", "foolbox", "from_foolbox")
    if not isinstance(fmodel, foolbox.PyTorchModel):
        raise ValueError(f"fmodel must be a foolbox.PyTorchModel, got {type(fmodel).__name__}")
    if tuple(fmodel.bounds) != (0, 1):
        raise ValueError(f"fmodel must have bounds (0, 1), got {tuple(fmodel.bounds)}")
    return of_torch(fmodel, fmodel.device)


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
            raise ValueError(f"{type(classifier).__name__} has no class_gradient")
        return np.einsum("bk,bk...->b...", weights, classifier.class_gradient(x))

    return called_back(classifier.predict, backward, getattr(classifier, "channels_first", False))


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


def of_torch(model: Callable, device) -> LogitsFn:
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
            found = logits(images)
            if not found.requires_grad:
                raise ValueError("its logits are not tensors computed from the images")
            (gradient,) = torch.autograd.grad(found, images, tensor(weights))
        return gradient.cpu().numpy()

    return called_back(forward, backward, channels_first=True)


def _channels_last(x):
    return x.permute(0, 2, 3, 1)


def _run_in_jax(torch, fn: Callable, *tensors):
    """fn of the rows [b ...] of the tensors, as a tensor on the device of the first."""
    result = in_few_sizes(fn, *(tensor.detach().cpu().numpy() for tensor in tensors))
    return torch.from_numpy(result).to(tensors[0])
