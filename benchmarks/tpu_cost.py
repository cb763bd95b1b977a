"""Projected cost of adversarial training on 1, 8, 64 and 512 devices; a calculation, not a measurement.

    python benchmarks/tpu_cost.py
    python benchmarks/tpu_cost.py --throughput out.json --utilisation 0.3

A device is assumed to compute at a fraction of a TPU v5p's published peak; with --throughput, also at the speeds in a
file that benchmarks/throughput.py wrote. A training step sends the gradients, 4 bytes per parameter, around a ring:
each of n devices sends 2 (n - 1) / n times their size. Computing and sending are assumed not to overlap; message
latency and the means of BatchNorm, small but sequential, are ignored.
"""

import argparse
import dataclasses
import json
import statistics
import sys
from pathlib import Path

import jax
import jax.numpy as jnp

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.flops import forward_flops, training_flops
from benchmarks.throughput import works
from poisonjax.models import ResNet18
from poisonjax.models.network import Network

DEVICES = (1, 8, 64, 512)
# docs.cloud.google.com/tpu/docs/v5p, one chip: bf16 peak, memory, and half of the 1,200 GB/s that go both ways.
V5P_FLOPS, V5P_BYTES, V5P_SENDS = 459e12, 95 * 2**30, 600e9


@dataclasses.dataclass(frozen=True)
class Job:
    """An adversarial training. forward: FLOPs of one image. image: its bytes. batch: over all devices."""

    name: str
    images: int
    image: int
    parameters: float
    forward: float
    attack_steps: int
    epochs: int
    batch: int

    @property
    def steps(self) -> int:
        return self.epochs * -(-self.images // self.batch)

    @property
    def flops(self) -> float:
        """FLOPs of one image in one training step."""
        return training_flops(self.forward, self.attack_steps)


@dataclasses.dataclass(frozen=True)
class Cost:
    """Cost of a training step: seconds of computing and sending, and bytes that each of `devices` devices sends."""

    devices: int
    computing: float
    sending: float
    sent: float

    @property
    def efficiency(self) -> float:
        return self.computing / (self.computing + self.sending)

    def hours(self, job: Job) -> float:
        return job.steps * (self.computing + self.sending) / 3600


def parameters(model: Network, shape: tuple[int, ...]) -> int:
    """Number of trained parameters."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *shape)))["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def ring(size: float, devices: int) -> float:
    """Bytes that each device sends in an all-reduce of `size` bytes."""
    return 2 * (devices - 1) / devices * size


def cost(job: Job, devices: int, flops: float, sends: float) -> Cost:
    """Cost of a step of `job`. flops, sends: of one device, in FLOP/s and bytes/s."""
    sent = ring(4 * job.parameters, devices)
    return Cost(devices, -(-job.batch // devices) * job.flops / flops, sent / sends, sent)


def jobs() -> list[Job]:
    """CIFAR-10, and ImageNet at the size of ResNet-50 (He et al. 2016, table 1: 3.8e9 multiply-adds)."""
    cifar, shape = ResNet18(dtype="bfloat16"), (32, 32, 3)
    size = {"parameters": parameters(cifar, shape), "forward": forward_flops(cifar, shape)}
    imagenet = {"parameters": 25.6e6, "forward": 2 * 3.8e9}
    lengths = {"attack_steps": 10, "epochs": 40, "batch": 1024}, {"attack_steps": 10, "epochs": 90, "batch": 8192}
    return [
        Job("CIFAR-10, ResNet-18", 50_000, 32 * 32 * 3, **size, **lengths[0]),
        Job("ImageNet-sized, ResNet-50-sized", 1_281_167, 224 * 224 * 3, **imagenet, **lengths[1]),
    ]


def measured(path: str) -> dict[str, float]:
    """FLOP/s of one device by a description of the measurement, from a file of throughput.py."""
    results, speeds = json.loads(Path(path).read_text()), {}
    for entry in results["works"]:
        work = works(results["platform"])[entry["work"]]
        each = training_flops(forward_flops(work.model, work.shape), work.objective.attack.steps)
        for row in entry["rows"]:
            if row["who"] == "poisonjax":
                rate = statistics.median(row["rates"]) / row["devices"]
                speeds[f"as measured on {row['variant']} at {entry['is']}: {rate:,.0f} images/s"] = rate * each
    return speeds


def table(job: Job, flops: float, sends: float) -> str:
    """Markdown table of projections; MB and times are per device and step."""
    head = "devices", "images each", "MB sent", "sending ms", "computing ms", "efficiency %", "hours", "device hours"
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for one in (cost(job, devices, flops, sends) for devices in DEVICES):
        cells = [f"{one.devices}", f"{-(-job.batch // one.devices):,}", f"{one.sent / 1e6:,.1f}"]
        cells += [f"{1e3 * one.sending:,.2f}", f"{1e3 * one.computing:,.2f}", f"{100 * one.efficiency:.0f}"]
        cells += [f"{one.hours(job):,.2g}", f"{one.devices * one.hours(job):,.2g}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def assumptions(job: Job) -> str:
    """The assumptions behind the table of a job."""
    room = job.images * job.image
    return (
        f"{job.name}: {job.images:,} images, {job.parameters / 1e6:,.1f} M parameters, {job.forward / 1e9:,.2f} GFLOP "
        f"forward, PGD-{job.attack_steps} ({job.flops / 1e9:,.1f} GFLOP an image), batch {job.batch:,} on all devices, "
        f"{job.epochs} epochs = {job.steps:,} steps. Each device holds the whole data set: {room / 1e9:,.1f} GB, which "
        f"{'fits' if room < V5P_BYTES else 'does NOT fit'} in the {V5P_BYTES / 1e9:,.0f} GB of a v5p chip."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--throughput", metavar="JSON", help="file written by benchmarks/throughput.py --json")
    parser.add_argument("--utilisation", type=float, default=0.2, help="share of the peak (default: 0.2, assumed)")
    args = parser.parse_args()
    if not 0 < args.utilisation <= 1:
        parser.error(f"--utilisation must lie in (0, 1], got {args.utilisation}")
    speeds = measured(args.throughput) if args.throughput else {}
    peak = f"at {args.utilisation:.0%} (assumed) of the {V5P_FLOPS / 1e12:,.0f} TFLOP/s of a TPU v5p chip"
    for job in jobs():
        print(f"{assumptions(job)}\n")
        for name, flops in (speeds | {peak: args.utilisation * V5P_FLOPS}).items():
            print(f"Projected, {name} = {flops / 1e12:,.3g} TFLOP/s each; sending at {V5P_SENDS / 1e9:,.0f} GB/s:\n")
            print(table(job, flops, V5P_SENDS))


if __name__ == "__main__":
    main()
