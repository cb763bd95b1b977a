"""Images/s of a PGD adversarial training step on this machine: our convolutions and pool against flax's own.

    python -m benchmarks.convolutions --steps=40 --batch=128
    python -m benchmarks.convolutions --steps=10 --batch=250 --bfloat16

All networks have the same parameters and take turns in one run, so that the ratio to the first, in brackets, is valid
on a busy machine. With --bfloat16 it is ours in float32 against ours in bfloat16, and in bfloat16 with all convolutions
as matrix products, for which some processors have units of their own.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from unittest import mock

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from poisonjax.attacks import PGD, Linf
from poisonjax.models import MadryCNN, ReportCNN, WongCNN, mnist, ops
from poisonjax.runtime import compilation
from poisonjax.training import AdversarialTraining, initial_state, make_train_step
from poisonjax.types import Examples

FLAX = {"Conv": nn.Conv, "max_pool2": lambda x: nn.max_pool(x, (2, 2), (2, 2))}


def compiled_step(
    model: nn.Module, steps: int, batch: int, shape: tuple[int, int, int] = (28, 28, 1)
) -> Callable[[], object]:
    """One PGD training step on random images [h w c], compiled and run once."""
    tx, key = optax.adam(1e-3), jax.random.key(0)
    image = jax.random.bits(key, (batch, *shape), "uint8")
    examples = Examples(image, jnp.arange(batch) % model.classes, jnp.arange(batch))
    objective = AdversarialTraining(PGD(Linf(0.3), step=0.01, steps=steps))
    step = compilation.jit(make_train_step(model, objective, tx, total_steps=1))
    arguments = (initial_state(model, tx, image[0], key), examples, jnp.ones(batch, bool), key)
    program = step.lower(*arguments).compile()
    jax.block_until_ready(program(*arguments))
    return lambda: jax.block_until_ready(program(*arguments))


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def race(programs: list[Callable[[], object]], repeats: int) -> list[float]:
    """Median seconds of each program; they take turns."""
    rounds = [[seconds(program) for program in programs] for _ in range(repeats)]
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


def with_flax(model: nn.Module, steps: int, batch: int) -> Callable[[], object]:
    """The same training step with flax's own layers."""
    with mock.patch.multiple(mnist, **FLAX):
        return compiled_step(model, steps, batch)


def with_products(model: nn.Module, steps: int, batch: int) -> Callable[[], object]:
    """The same training step with every convolution as matrix products."""
    with mock.patch.object(ops, "_as_product", lambda x, kernel: True):
        return compiled_step(model, steps, batch)


def against_flax(model: type[nn.Module], steps: int, batch: int) -> dict[str, Callable[[], object]]:
    return {"flax": with_flax(model(), steps, batch), "ours": compiled_step(model(), steps, batch)}


def in_bfloat16(model: type[nn.Module], steps: int, batch: int) -> dict[str, Callable[[], object]]:
    half = model(dtype="bfloat16")
    return {
        "float32": compiled_step(model(), steps, batch),
        "bfloat16": compiled_step(half, steps, batch),
        "as products": with_products(half, steps, batch),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=5, help="of PGD (default: 5)")
    parser.add_argument("--batch", type=int, default=64, help="images (default: 64)")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs, of which the median is shown (default: 3)")
    parser.add_argument("--bfloat16", action="store_true", help="ours in bfloat16 instead of flax against ours")
    args = parser.parse_args()
    print(f"jax {jax.__version__} on {jax.devices()[0]}, PGD-{args.steps}, batch {args.batch}: images/s")
    for model in (WongCNN, MadryCNN, ReportCNN):
        programs = (in_bfloat16 if args.bfloat16 else against_flax)(model, args.steps, args.batch)
        medians = race(list(programs.values()), args.repeats)
        cells = [
            f"{name} {args.batch / of:8.1f} ({medians[0] / of:4.2f})"
            for name, of in zip(programs, medians, strict=True)
        ]
        print(f"{model.__name__:10} {'   '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
