"""Images/s of a PGD adversarial training step with and without batch norms folded into the convolutions.

    python -m benchmarks.folding --filters=16 --steps=10 --batch=64

The network is the ResNet-18 of the CIFAR-10 experiments with --filters. Both programs take turns in one run.
"""

import argparse
from collections.abc import Callable
from unittest import mock

import jax

from benchmarks.convolutions import compiled_step, race
from poisonjax.models import ResNet18

CIFAR10 = (32, 32, 3)


def unfolded(model: ResNet18, steps: int, batch: int) -> Callable[[], object]:
    """The training step without folding."""
    with mock.patch.object(ResNet18, "can_fold_batch_norm", False):
        return compiled_step(model, steps, batch, CIFAR10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--filters", type=int, default=16, help="of the first layer; 64 is the full one (default: 16)")
    parser.add_argument("--dtype", default="float32", help="float32 (default) or bfloat16")
    parser.add_argument("--steps", type=int, default=10, help="of PGD (default: 10)")
    parser.add_argument("--batch", type=int, default=64, help="images (default: 64)")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs, of which the median is shown (default: 5)")
    args = parser.parse_args()
    model = ResNet18(filters=args.filters, dtype=args.dtype)
    programs = [unfolded(model, args.steps, args.batch), compiled_step(model, args.steps, args.batch, CIFAR10)]
    plain, folded = (args.batch / median for median in race(programs, args.repeats))
    work = f"ResNet-18 of {args.filters} filters, {args.dtype}, PGD-{args.steps}, batch {args.batch}"
    print(f"jax {jax.__version__} on {jax.devices()[0]}, {work}")
    print(f"images/s: as they are {plain:.1f}, folded {folded:.1f}, ratio {folded / plain:.2f}")


if __name__ == "__main__":
    main()
