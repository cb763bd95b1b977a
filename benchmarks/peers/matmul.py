"""The machine's limit: throughput if all operations of a training step were one large matrix product."""

import importlib.util
from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp

from benchmarks.flops import forward_flops, training_flops

COUNT = 8  # products per step


class Product:
    """COUNT sequential products of square matrices per step, which have as many FLOPs as `batch` images."""

    def __init__(self, work, size: int, make: Callable):
        image = training_flops(forward_flops(work.model, work.shape), work.objective.attack.steps)
        dtype = work.model.dtype
        self.batch = COUNT * 2 * size**3 / image
        self.step, version = make(size, dtype)
        self.about = {"version": version, "variant": f"{size} x {size}, {dtype}", "batch": work.settings.batch}

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.step()


def with_jax(size: int, dtype: str) -> tuple[Callable[[], None], str]:
    """The products in jax, and its version."""
    a = jnp.full((size, size), 1 / size, dtype)
    chain = jax.jit(lambda b: jax.lax.fori_loop(0, COUNT, lambda _, b: a @ b, b))
    return lambda: jax.block_until_ready(chain(a)), f"jax {jax.__version__}"


def with_torch(device: str, size: int, dtype: str) -> tuple[Callable[[], None], str]:
    """The products in PyTorch, and its version; reading a number waits for a GPU."""
    import torch

    a = torch.full((size, size), 1 / size, dtype=getattr(torch, dtype), device=device)

    def chain() -> None:
        b = a
        for _ in range(COUNT):
            b = a @ b
        b[0, 0].item()

    return chain, f"torch {torch.__version__}"


def variants(work, platform: str) -> Iterator[tuple[str, Callable[[], Product]]]:
    """Several sizes, in jax and, if it is installed, in PyTorch."""
    device = "cuda" if platform == "gpu" else platform
    makers = {"jax": with_jax}
    if importlib.util.find_spec("torch"):
        makers["torch"] = partial(with_torch, device)
    for size in (1024, 2048, 4096) if platform == "cpu" else (4096, 8192):
        for name, make in makers.items():
            yield f"{name} {size}", partial(Product, work, size, make)
