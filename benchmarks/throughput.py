"""Images/s of PGD adversarial training on this machine: ours and, with --peers, that of other libraries.

The peer "matmul" is the machine's limit: images/s if all operations of a step were one large matrix product.

    python benchmarks/throughput.py --peers
    python benchmarks/throughput.py --works madry wong --peers pytorch --repeats 7 --seconds 5 --json out.json
    python benchmarks/throughput.py --peers --devices 1 2 --python PYTHON OTHER_PYTHON

Ours is the program that training runs: data on the device, donated state. Every contestant has its own process, which
compiles, warms up and then waits for its turn. In each round every contestant takes one turn, so that a ratio compares
numbers of the same few seconds. The table shows the median over the rounds, the lowest and the highest.
"""

import argparse
import dataclasses
import importlib
import importlib.util
import json
import os
import platform as host
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from poisonjax.attacks import PGD, Linf
from poisonjax.models import MadryCNN, ReportCNN, ResNet18, WongCNN
from poisonjax.models.network import Network
from poisonjax.runtime import distributed
from poisonjax.training import SGD, Adam, AdversarialTraining, Constant, Training, initial_state
from poisonjax.training.fit import program
from poisonjax.training.step import zero_sums
from poisonjax.types import Examples

# Modules of benchmarks/peers, and what they import.
PEERS = {"pytorch": ("torch",), "art": ("torch", "art"), "matmul": ()}
SELECTION_SECONDS = 1.0  # of each of three trials of a variant


@dataclasses.dataclass(frozen=True)
class Work:
    """Adversarial training of `model` on `rows` random images [h w c]; rows is a multiple of the batch."""

    model: Network
    objective: AdversarialTraining
    settings: Training
    shape: tuple[int, int, int]
    rows: int

    def data(self) -> Examples:
        """Images in NumPy, the same for all contestants."""
        rng = np.random.default_rng(0)
        image = rng.integers(0, 256, (self.rows, *self.shape), np.uint8)
        label = rng.integers(0, self.model.classes, self.rows, np.int32)
        return Examples(image, label, np.arange(self.rows, dtype=np.int32))

    def with_batch(self, batch: int) -> "Work":
        return dataclasses.replace(
            self, settings=dataclasses.replace(self.settings, batch=batch), rows=self.rows // batch * batch
        )

    def __str__(self) -> str:
        name, attack = type(self.model).__name__, self.objective.attack
        dtype = getattr(self.model, "dtype", "float32")
        return f"{name}, {dtype}, PGD-{attack.steps}, batch {self.settings.batch}, {self.settings.optimizer}"


def mnist(model: Network, batch: int, steps: int = 40, rows: int = 60_000) -> Work:
    objective = AdversarialTraining(PGD(Linf(0.3), 0.01, steps))
    settings = Training(batch, epochs=10**6, optimizer=Adam(1e-4))
    return Work(model, objective, settings, (28, 28, 1), rows // batch * batch)


def cifar10(model: Network, batch: int) -> Work:
    objective = AdversarialTraining(PGD(Linf(8 / 255), 2 / 255, 5))
    settings = Training(batch, epochs=10**6, optimizer=SGD(0.1, schedule=Constant()))
    return Work(model, objective, settings, (32, 32, 3), 50_000 // batch * batch)


TINY = {"tiny": mnist(WongCNN(filters=(2, 4), hidden=8), batch=16, steps=2, rows=256)}  # for tests of this script
ON_CPU = {"madry": mnist(MadryCNN(), 128), "wong": mnist(WongCNN(), 128), "report": mnist(ReportCNN(), 128)}
ON_ACCELERATOR = {"resnet18": cifar10(ResNet18(dtype="bfloat16"), 1024), "madry": mnist(MadryCNN(), 1024)}


def works(platform: str) -> dict[str, Work]:
    """Works for a platform, by name; all but the first are the default."""
    return TINY | (ON_CPU if platform == "cpu" else ON_ACCELERATOR)


class Contestant(Protocol):
    """An implementation of a work. about: its description for the table. batch: images per step. run: does n steps."""

    about: dict
    batch: int

    def run(self, steps: int) -> None: ...


class Ours:
    """The program of poisonjax.training.fit, called as `fit` calls it: never beyond the end of an epoch."""

    def __init__(self, work: Work):
        settings, data, key = work.settings, work.data(), jax.random.key(0)
        kind = jax.devices()[0].device_kind
        self.batch, self.epoch, self.at = settings.batch, settings.epoch_steps(work.rows), 0
        self.about = {"version": f"jax {jax.__version__}", "variant": f"{jax.device_count()} x {kind}"}
        self.about["devices"] = jax.device_count()
        state = initial_state(work.model, settings.optimizer(1), data.image[0], key)
        self.carry, *self.rest = map(distributed.replicate, ((state, zero_sums(work.objective)), data, key))
        run = program(work.model, work.objective, settings, work.rows)
        self.program = run.lower(self.carry, *self.rest, distributed.replicate(np.int32(0))).compile()

    def run(self, steps: int) -> None:
        end = self.at + steps
        while self.at < end:
            self.at = min(end, (self.at // self.epoch + 1) * self.epoch)
            self.carry = self.program(self.carry, *self.rest, distributed.replicate(np.int32(self.at)))
        jax.block_until_ready(self.carry)

    def megabytes(self) -> float:
        """Memory of the compiled program and its arguments, donated ones counted once."""
        needs = self.program.memory_analysis()
        parts = needs.argument_size_in_bytes, needs.output_size_in_bytes, needs.temp_size_in_bytes
        return (sum(parts) - needs.alias_size_in_bytes) / 2**20


class Turns:
    """A compiled contestant that runs for a given time."""

    def __init__(self, contestant: Contestant):
        self.contestant, self.pace = contestant, 1.0
        contestant.run(2)
        self.take(0.0)

    def take(self, seconds: float) -> float:
        """Images/s over about so many seconds, at least one step."""
        steps = max(1, round(seconds * self.pace))
        start = time.perf_counter()
        self.contestant.run(steps)
        self.pace = steps / (time.perf_counter() - start)
        return self.contestant.batch * self.pace


def variants(who: str, work: Work, platform: str) -> Iterator[tuple[str, Callable[[], Contestant]]]:
    """Variants of a contestant, of which the table shows the fastest."""
    if who == "poisonjax":
        return iter([("", lambda: Ours(work))])
    return importlib.import_module(f"benchmarks.peers.{who}").variants(work, platform)


def fastest(ways: Iterator[tuple[str, Callable[[], Contestant]]]) -> tuple[Turns, dict[str, float | str]]:
    """The fastest of several variants, and images/s of each, or its error."""
    best, tried = None, {}
    for name, build in ways:
        try:
            turns = Turns(build())
        except Exception as error:
            tried[name] = f"{type(error).__name__}: {error}".splitlines()[0]
            continue
        tried[name] = max(turns.take(SELECTION_SECONDS) for _ in range(3))
        if best is None or tried[name] > best[0]:
            best = tried[name], turns
    if best is None:
        raise RuntimeError(f"no variant ran: {tried}")
    return best[1], tried


def serve(who: str, name: str, platform: str) -> None:
    """Run a contestant's process: print its description, then images/s for every line of seconds on stdin."""
    out, sys.stdout = sys.stdout, sys.stderr
    ways = list(variants(who, works(platform)[name], platform))
    turns, tried = (Turns(ways[0][1]()), {}) if len(ways) == 1 else fastest(iter(ways))
    print(json.dumps({"batch": turns.contestant.batch, "tried": tried} | turns.contestant.about), file=out, flush=True)
    for line in sys.stdin:
        print(turns.take(float(line)), file=out, flush=True)


class Worker:
    """A contestant in its own process, idle between its turns."""

    def __init__(self, who: str, name: str, platform: str, python: str = sys.executable, devices: int = 1):
        command = [python, __file__, "--serve", who, "--works", name, "--platform", platform, "--devices", str(devices)]
        self.who, self.log = who, tempfile.TemporaryFile("w+")  # noqa: SIM115
        env = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        env |= {"JAX_PLATFORMS": "cpu"} if platform == "cpu" else {}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self.log, env=env, text=True)
        self.about = {"who": who, **json.loads(self._answer())}

    def take(self, seconds: float) -> float:
        print(seconds, file=self.process.stdin, flush=True)
        return float(self._answer())

    def _answer(self) -> str:
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            raise RuntimeError(f"{self.who} ended with exit status {self.process.wait()}:\n{self.log.read()[-2000:]}")
        return line

    def close(self) -> None:
        self.process.communicate()
        self.log.close()


def race(start: list[Callable[[], Worker]], repeats: int, seconds: float) -> list[dict]:
    """Run all rounds; one row per contestant, with its images/s in each round."""
    workers = []
    try:
        workers.extend(begin() for begin in start)
        rounds = [[worker.take(seconds) for worker in workers] for _ in range(repeats)]
    finally:
        for worker in workers:
            worker.close()
    return [worker.about | {"rates": list(rates)} for worker, *rates in zip(workers, *rounds, strict=True)]


def spread(numbers: list[float], digits: str) -> str:
    """Median, lowest and highest."""
    return f"{statistics.median(numbers):{digits}} ({min(numbers):{digits}} to {max(numbers):{digits}})"


def table(name: str, work: Work, rows: list[dict]) -> str:
    """Markdown table: images/s of each contestant, and their ratio to those of each peer in the same round."""
    peers = [row for row in rows if row["who"] in PEERS]
    lines = [f"### {name}: {work}", ""]
    head = ["", "how", "images/s", *(f"x {peer['who']}" for peer in peers)]
    lines += [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        how = ", ".join(filter(None, (row["version"], row["variant"])))
        how += f", batch {row['batch']}" if row["batch"] != work.settings.batch else ""
        ratios = [[a / b for a, b in zip(row["rates"], peer["rates"], strict=True)] for peer in peers]
        cells = [row["who"], how, spread(row["rates"], ",.0f"), *(spread(ratio, ".2f") for ratio in ratios)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def machine() -> dict:
    """This machine, its load, and the date."""
    info = Path("/proc/cpuinfo")
    models = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": models[0] if info.exists() and models else host.processor(),
        "cores": distributed.cores(),
        "system": f"{host.system()} {host.machine()}, Python {host.python_version()}",
        "load": round(os.getloadavg()[0], 1),
        "date": time.strftime("%Y-%m-%d"),
    }


def backend(python: str) -> str:
    """The backend of jax in that Python: cpu, gpu or tpu."""
    return subprocess.check_output([python, "-c", "import jax; print(jax.default_backend())"], text=True).strip()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--works", nargs="+", metavar="WORK", help="of madry, wong, report, resnet18, tiny (default: all)"
    )
    parser.add_argument("--peers", nargs="*", choices=PEERS, help="all, or those named (default: none)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds (default: 5)")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a turn (default: 5)")
    parser.add_argument("--platform", choices=("cpu", "gpu", "tpu"), help="default: what jax finds")
    parser.add_argument(
        "--python", nargs="+", default=[sys.executable], help="interpreters that run ours (default: this one)"
    )
    parser.add_argument("--devices", nargs="+", type=int, default=[1], help="forced host devices of ours (default: 1)")
    parser.add_argument("--json", metavar="OUT", help="file for the numbers of every round")
    parser.add_argument("--serve", choices=("poisonjax", *PEERS), help=argparse.SUPPRESS)
    return parser.parse_args()


def refuse(message: str) -> None:
    print(f"throughput.py: {message}", file=sys.stderr)
    sys.exit(2)


def check(args: argparse.Namespace) -> None:
    """Exit with one line and status 2 if the flags cannot be satisfied."""
    known = works(args.platform)
    if unknown := set(args.works or ()) - set(known):
        refuse(f"no work {min(unknown)!r} on {args.platform}; allowed are {', '.join(known)}")
    needed = {package for peer in args.peers for package in PEERS[peer]}
    if missing := sorted(package for package in needed if importlib.util.find_spec(package) is None):
        refuse(f"--peers needs {' and '.join(missing)}: pip install -r requirements-bench.txt")
    if args.peers and args.platform == "tpu":
        refuse("the peers run on cpu and gpu only")
    if max(args.devices) > 1 and args.platform != "cpu":
        refuse("--devices forces host devices, which only cpu has")


def contestants(args: argparse.Namespace, name: str) -> list[Callable[[], Worker]]:
    """Ours on each Python and number of devices, then the peers."""
    ours = [("poisonjax", name, args.platform, python, count) for python in args.python for count in args.devices]
    return [lambda one=one: Worker(*one) for one in ours + [(peer, name, args.platform) for peer in args.peers]]


def main() -> None:
    args = arguments()
    args.platform = args.platform or backend(args.python[0])
    if args.serve:
        distributed.split_cpu(args.devices[0])
        return serve(args.serve, args.works[0], args.platform)
    args.peers = list(PEERS) if args.peers == [] else args.peers or []
    check(args)
    result = {"machine": machine(), "platform": args.platform, "seconds": args.seconds, "works": []}
    print(", ".join(f"{key} {value}" for key, value in result["machine"].items()), end="\n\n", flush=True)
    for name in args.works or list(works(args.platform))[1:]:
        work = works(args.platform)[name]
        rows = race(contestants(args, name), args.repeats, args.seconds)
        print(table(name, work, rows), flush=True)
        result["works"].append({"work": name, "is": str(work), "batch": work.settings.batch, "rows": rows})
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
