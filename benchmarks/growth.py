"""Growth of time and memory with images, epochs, PGD steps and the size of the network.

    python benchmarks/growth.py
    python benchmarks/growth.py --axes images steps --repeats 5

The program is the one that benchmarks/throughput.py times. The points of an axis take turns; the table shows medians.
Time counts as linear if a line with least relative residuals is within 10 % of every point. A network k times as wide
has k squared the weights, so its axis is FLOPs. Memory counts as flat if the largest value is at most 10 % above the
smallest: of the compiled program as XLA reports it and, on a CPU, the median peak of fresh processes that compile and
run it. Only epochs and PGD steps must be flat; a data set and a network need memory.
"""

import argparse
import dataclasses
import multiprocessing
import resource
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.convolutions import race
from benchmarks.flops import forward_flops, training_flops
from benchmarks.throughput import Ours, Work, mnist
from poisonjax.models import MadryCNN, WongCNN

TOLERANCE = 0.1
FLAT = ("epochs", "steps")  # the axes along which memory must not grow


@dataclasses.dataclass(frozen=True)
class Point:
    """A point of an axis. size: its position. steps: the number of training steps of `work` that are timed."""

    size: float
    work: Work
    steps: int


def axes(cpu: bool) -> dict[str, tuple[str, list[Point]]]:
    """Unit and points of each axis, by name."""
    model, batch, rows = (WongCNN(), 128, 2048) if cpu else (MadryCNN(), 1024, 16384)
    base, epoch = mnist(model, batch, steps=10, rows=rows), rows // batch
    images = [Point(n * rows, mnist(model, batch, 10, n * rows), n * epoch) for n in (1, 2, 4, 8)]
    epochs = [Point(n, base, n * epoch) for n in (1, 2, 4, 8)]
    steps = [Point(n, mnist(model, batch, n, rows), epoch) for n in (5, 10, 20, 40)]
    widths = [MadryCNN(filters=(8 * k, 16 * k), hidden=256 * k) for k in (1, 2, 4, 8)]
    flops = [sized(mnist(wide, batch, 10, rows), 2 if cpu else epoch) for wide in widths]
    return {
        "images": ("images of one epoch", images),
        "epochs": ("epochs", epochs),
        "steps": ("PGD steps", steps),
        "width": ("GFLOP a training step", flops),
    }


def sized(work: Work, steps: int) -> Point:
    """A point positioned at the FLOPs of a training step."""
    image = training_flops(forward_flops(work.model, work.shape), work.objective.attack.steps)
    return Point(image * work.settings.batch / 1e9, work, steps)


def affine(sizes: list[float], seconds: list[float]) -> tuple[float, float, float]:
    """Slope, offset and largest relative residual of the line with least squared relative residuals."""
    x, y = np.asarray(sizes, float), np.asarray(seconds, float)
    slope, offset = np.polyfit(x, y, 1, w=1 / y)
    return float(slope), float(offset), float(np.max(np.abs(slope * x + offset - y) / y))


def growth(values: list[float]) -> float:
    """Relative difference of the largest value from the smallest."""
    return max(values) / min(values) - 1


def timed(points: list[Point], repeats: int) -> tuple[list[float], list[float]]:
    """Median seconds of each point, and the megabytes of its program."""
    ours = [Ours(point.work) for point in points]
    for one in ours:
        one.run(1)
    runs = [partial(one.run, point.steps) for one, point in zip(ours, points, strict=True)]
    return race(runs, repeats), [one.megabytes() for one in ours]


def peak(point: Point) -> float:
    """Peak memory of this process in megabytes, after running a point."""
    Ours(point.work).run(point.steps)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def peaks(points: list[Point], repeats: int) -> list[float]:
    """Median peak of each point over `repeats` fresh processes; the points take turns."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool:
        megabytes = list(pool.map(peak, points * repeats))
    return [statistics.median(megabytes[at :: len(points)]) for at in range(len(points))]


def verdict(claim: str, error: float) -> str:
    return f"{claim} within {TOLERANCE:.0%}: {'yes' if error <= TOLERANCE else 'no'} ({error:.1%})"


def table(unit: str, points: list[Point], times: list[float], memory: dict[str, list[float]], flat: bool) -> str:
    """Markdown table with its verdicts below."""
    sizes = [point.size for point in points]
    slope, offset, worst = affine(sizes, times)
    fitted = [slope * size + offset for size in sizes]
    lines = [f"| {' | '.join([unit, 'seconds', 'line', *memory])} |", "|---" * (3 + len(memory)) + "|"]
    for size, *numbers in zip(sizes, times, fitted, *memory.values(), strict=True):
        lines.append(f"| {size:,.6g} | {' | '.join(f'{number:,.3f}' for number in numbers)} |")
    verdicts = [verdict("time is linear", worst)]
    verdicts += [verdict(f"{name} is flat", growth(values)) for name, values in memory.items() if flat]
    return "\n".join([*lines, "", *(f"- {line}" for line in verdicts), ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--axes", nargs="+", choices=("images", "epochs", "steps", "width"), help="default: all")
    parser.add_argument("--repeats", type=int, default=5, help="runs, of which the median is shown (default: 5)")
    args = parser.parse_args()
    cpu = jax.default_backend() == "cpu"
    print(f"jax {jax.__version__} on {jax.device_count()} x {jax.devices()[0].device_kind}\n", flush=True)
    chosen = {name: axis for name, axis in axes(cpu).items() if name in (args.axes or axes(cpu))}
    # The processes come first: on Linux, their peak starts at that of the process that starts them.
    process = {name: {"process MB": peaks(chosen[name][1], args.repeats)} for name in chosen if cpu and name in FLAT}
    for name, (unit, points) in chosen.items():
        times, program = timed(points, args.repeats)
        print(f"### {name}, from {points[0].work}\n", flush=True)
        print(table(unit, points, times, {"program MB": program} | process.get(name, {}), name in FLAT), flush=True)


if __name__ == "__main__":
    main()
