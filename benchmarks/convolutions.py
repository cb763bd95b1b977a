"""Images/s of a PGD adversarial training step on this machine: our convolutions and pool against flax's own.

    python -m benchmarks.convolutions --steps=40 --batch=128

Both networks have the same parameters and take turns in one run, so that the ratio is valid on a busy machine.
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
from poisonjax.models import MadryCNN, ReportCNN, WongCNN, mnist
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=5, help="of PGD (default: 5)")
    parser.add_argument("--batch", type=int, default=64, help="images (default: 64)")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs, of which the median is shown (default: 3)")
    args = parser.parse_args()
    print(f"jax {jax.__version__} on {jax.devices()[0]}, PGD-{args.steps}, batch {args.batch}: images/s")
    for model in (WongCNN(), MadryCNN(), ReportCNN()):
        programs = [with_flax(model, args.steps, args.batch), compiled_step(model, args.steps, args.batch)]
        theirs, ours = (args.batch / median for median in race(programs, args.repeats))
        print(
            f"{type(model).__name__:10} flax {theirs:8.1f}   ours {ours:8.1f}   ratio {ours / theirs:5.1f}", flush=True
        )


if __name__ == "__main__":
    main()
