"""How time grows with images, epochs, PGD steps and the size of the network, and whether memory stays flat.

    python benchmarks/growth.py
    python benchmarks/growth.py --axes images steps --repeats 5

What runs is what benchmarks/throughput.py times. The points of an axis take turns; shown is the median. Time is called
linear if a straight line, fitted to have small relative residuals, misses no point by more than 10 %. The layers of a
network that is k times as wide have k squared the weights, so its axis is FLOPs, not width. Memory is called flat if
the largest is at most 10 % above the smallest: of the compiled program by its own account, and, on a CPU, the peak of
fresh processes that compile and run it, of which again the median counts, since compilation in several threads takes
now more, now less. That is asked of epochs and PGD steps; a data set and a network do need room.
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
    """size: its place on the axis. steps: how many training steps of `work` are timed."""

    size: float
    work: Work
    steps: int


def axes(cpu: bool) -> dict[str, tuple[str, list[Point]]]:
    """By name, the unit of each axis and its points."""
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
    """A point at the FLOPs of its training step."""
    image = training_flops(forward_flops(work.model, work.shape), work.objective.attack.steps)
    return Point(image * work.settings.batch / 1e9, work, steps)


def affine(sizes: list[float], seconds: list[float]) -> tuple[float, float, float]:
    """Slope, offset and largest relative residual of the line with the least squares of relative residuals."""
    x, y = np.asarray(sizes, float), np.asarray(seconds, float)
    slope, offset = np.polyfit(x, y, 1, w=1 / y)
    return float(slope), float(offset), float(np.max(np.abs(slope * x + offset - y) / y))


def growth(values: list[float]) -> float:
    """How far the largest is above the smallest, as a share of it."""
    return max(values) / min(values) - 1


def timed(points: list[Point], repeats: int) -> tuple[list[float], list[float]]:
    """Median seconds of each point, and the megabytes that its program says it needs."""
    ours = [Ours(point.work) for point in points]
    for one in ours:
        one.run(1)
    runs = [partial(one.run, point.steps) for one, point in zip(ours, points, strict=True)]
    return race(runs, repeats), [one.megabytes() for one in ours]


def peak(point: Point) -> float:
    """Megabytes that this process needed at most, once it has run a point."""
    Ours(point.work).run(point.steps)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def peaks(points: list[Point], repeats: int) -> list[float]:
    """Median of each point over as many fresh processes; the points take turns."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool:
        megabytes = list(pool.map(peak, points * repeats))
    return [statistics.median(megabytes[at :: len(points)]) for at in range(len(points))]


def verdict(claim: str, error: float) -> str:
    return f"{claim} within {TOLERANCE:.0%}: {'yes' if error <= TOLERANCE else 'no'} ({error:.1%})"


def table(unit: str, points: list[Point], times: list[float], memory: dict[str, list[float]], flat: bool) -> str:
    """Markdown, and below it what it says."""
    sizes = [point.size for point in points]
    slope, offset, worst = affine(sizes, times)
    fitted = [slope * size + offset for size in sizes]
    lines = [f"| {' | '.join([unit, 'seconds', 'line', *memory])} |", "|---" * (3 + len(memory)) + "|"]
    for size, *numbers in zip(sizes, times, fitted, *memory.values(), strict=True):
        lines.append(f"| {size:,.6g} | {' | '.join(f'{number:,.3f}' for number in numbers)} |")
    said = [verdict("time is linear", worst)]
    said += [verdict(f"{name} is flat", growth(values)) for name, values in memory.items() if flat]
    return "\n".join([*lines, "", *(f"- {line}" for line in said), ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--axes", nargs="+", choices=("images", "epochs", "steps", "width"), help="default: all")
    parser.add_argument("--repeats", type=int, default=5, help="runs, of which the median is shown (default: 5)")
    args = parser.parse_args()
    cpu = jax.default_backend() == "cpu"
    print(f"jax {jax.__version__} on {jax.device_count()} x {jax.devices()[0].device_kind}\n", flush=True)
    chosen = {name: axis for name, axis in axes(cpu).items() if name in (args.axes or axes(cpu))}
    # The processes come first: on Linux a peak starts from that of the process which starts them.
    process = {name: {"process MB": peaks(chosen[name][1], args.repeats)} for name in chosen if cpu and name in FLAT}
    for name, (unit, points) in chosen.items():
        times, program = timed(points, args.repeats)
        print(f"### {name}, from {points[0].work}\n", flush=True)
        print(table(unit, points, times, {"program MB": program} | process.get(name, {}), name in FLAT), flush=True)


if __name__ == "__main__":
    main()
