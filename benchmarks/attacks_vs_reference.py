"""Strength and speed of each attack beside a reference implementation, on the same networks and images.

    pip install -r requirements-dev.txt
    python benchmarks/attacks_vs_reference.py
    python benchmarks/attacks_vs_reference.py --images 1000 --pairs pgd autoattack --repeats 3 --json out.json

The networks are those of the tests, after standard and after adversarial training on MNIST, with the same weights in
JAX and PyTorch. Ours is compiled before it is timed. Both take turns; times are medians.
"""

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.throughput import machine
from poisonjax.attacks import (
    APGD,
    FAB,
    L2,
    PGD,
    Attack,
    AutoAttack,
    Boundary,
    CarliniWagner,
    HopSkipJump,
    Linf,
    Square,
    TargetedAPGD,
)
from poisonjax.runtime import compilation
from tests.attacks.references import Victim, from_torch, robust_accuracy, to_torch, torch_module, victim

Reference = Callable[[Victim, Attack], Callable[[], np.ndarray]]  # -> () -> images


def foolbox_torch(name: str, bounded: bool = True, **settings) -> Reference:
    """An attack of foolbox on the PyTorch network."""

    def prepared(net: Victim, attack: Attack):
        import foolbox
        import torch

        model = foolbox.PyTorchModel(torch_module(net.params), bounds=(0, 1), device="cpu")
        x, y = to_torch(net.x), torch.tensor(np.asarray(net.y)).long()
        eps = attack.ball.eps if bounded else None
        run = getattr(foolbox.attacks, name)(**settings)
        return lambda: from_torch(run(model, x, y, epsilons=eps)[1])

    return prepared


def foolbox_jax(name: str, **settings) -> Reference:
    """An attack of foolbox on the compiled JAX network."""

    def prepared(net: Victim, attack: Attack):
        import eagerpy
        import foolbox

        model = foolbox.JAXModel(net.logits_fn, bounds=(0, 1), data_format="channels_last")
        run, x, y = getattr(foolbox.attacks, name)(**settings), eagerpy.astensor(net.x), eagerpy.astensor(net.y)
        return lambda: np.asarray(run(model, x, y, epsilons=attack.ball.eps)[1].raw)

    return prepared


def official(which: str) -> Reference:
    """The authors' AutoAttack, whole or one stage, with the budget of ours."""

    def prepared(net: Victim, attack: Attack):
        import pyautoattack
        import torch

        ball = attack.ball
        whole = pyautoattack.AutoAttack(
            torch_module(net.params), norm=type(ball).__name__, eps=ball.eps, seed=0, device="cpu"
        )
        x, y = to_torch(net.x), torch.tensor(np.asarray(net.y)).long()
        if which == "whole":
            return lambda: from_torch(whole.run_standard_evaluation(x, y)[0])
        stage = getattr(whole, which)
        return lambda: from_torch(stage.perturb(x, y))

    return prepared


@dataclasses.dataclass(frozen=True)
class Pair:
    """Our attack and its reference.

    adversarial: true for the adversarially trained network. order: of the norm whose distance is compared; None for
    attacks of a given size.
    """

    ours: Attack
    theirs: Reference
    who: str
    adversarial: bool = False
    order: float | None = None


SMALL, LARGE = Linf(0.1), Linf(0.25)  # for the network after standard and after adversarial training
PAIRS = {
    "pgd": Pair(PGD(SMALL, 0.01, 40), foolbox_torch("LinfPGD", abs_stepsize=0.01, steps=40), "foolbox, PyTorch"),
    "pgd_jax": Pair(PGD(SMALL, 0.01, 40), foolbox_jax("LinfPGD", abs_stepsize=0.01, steps=40), "foolbox, JAX"),
    "pgd_l2": Pair(PGD(L2(1.5), 0.15, 40), foolbox_torch("L2PGD", abs_stepsize=0.15, steps=40), "foolbox, PyTorch"),
    "apgd_ce": Pair(APGD(LARGE), official("apgd"), "authors' code", True),
    "apgd_t": Pair(TargetedAPGD(LARGE), official("apgd_targeted"), "authors' code", True),
    "fab_t": Pair(FAB("Linf", eps=0.25), official("fab"), "authors' code", True),
    "square": Pair(Square(LARGE), official("square"), "authors' code", True),
    "autoattack": Pair(AutoAttack(SMALL), official("whole"), "authors' code"),
    "autoattack_robust": Pair(AutoAttack(LARGE), official("whole"), "authors' code", True),
    "carlini_wagner": Pair(
        CarliniWagner(steps=500, searches=6, initial_c=0.1, learning_rate=0.02),
        foolbox_torch(
            "L2CarliniWagnerAttack", bounded=False, steps=500, binary_search_steps=6, initial_const=0.1, stepsize=0.02
        ),
        "foolbox, PyTorch",
        order=2,
    ),
    "boundary": Pair(
        Boundary(queries=5000),
        foolbox_torch("BoundaryAttack", bounded=False, steps=4900),
        "foolbox, PyTorch",
        order=2,
    ),
    "hop_skip_jump": Pair(
        HopSkipJump("L2", queries=5000),
        foolbox_torch("HopSkipJumpAttack", bounded=False, steps=16),
        "foolbox, PyTorch",
        order=2,
    ),
}


def compiled(net: Victim, attack: Attack) -> Callable[[], np.ndarray]:
    """Our attack, ready to run."""
    program = compilation.jit(lambda x, y, key: attack(net.logits_fn, x, y, key))
    key = jax.random.key(0)
    ready = program.lower(net.x, net.y, key).compile()
    return lambda: np.asarray(ready(net.x, net.y, key))


def measured(pair: Pair, images: int, repeats: int) -> dict:
    """Strength and images/s of both attacks."""
    net = victim(pair.adversarial, images)
    runs = {"ours": compiled(net, pair.ours), "theirs": pair.theirs(net, pair.ours)}
    seconds, images_of = {who: [] for who in runs}, {}
    for _ in range(repeats):
        for who, run in runs.items():
            begin = time.perf_counter()
            images_of[who] = run()
            seconds[who].append(time.perf_counter() - begin)
    strength = {who: strong(net, x_adv, pair) for who, x_adv in images_of.items()}
    rates = {who: images / statistics.median(each) for who, each in seconds.items()}
    return {"reference": pair.who, "images": images, "strength": strength, "rate": rates}


def strong(net: Victim, x_adv: np.ndarray, pair: Pair) -> dict:
    """Robust accuracy, where images outside the ball count as robust, or median distance of successful attacks."""
    change = (x_adv - np.asarray(net.x)).reshape(len(x_adv), -1)
    if pair.order is None:
        ball = getattr(pair.ours, "ball", None) or Linf(pair.ours.eps)
        size = np.linalg.norm(change, 2 if isinstance(ball, L2) else np.inf, axis=1)
        shown = jnp.where((size <= ball.eps * (1 + 1e-4))[:, None, None, None], x_adv, net.x)
        return {"robust_accuracy": robust_accuracy(net.logits_fn, shown, net.y)}
    fooled = np.asarray(jnp.argmax(net.logits_fn(jnp.asarray(x_adv)), -1) != net.y)
    length = np.where(fooled, np.linalg.norm(change, pair.order, axis=1), np.inf)  # a failure is infinitely far
    return {"median_distance": float(np.median(length))}


def line(name: str, pair: Pair, row: dict) -> str:
    """Row of the table."""
    (what, ours), theirs = next(iter(row["strength"]["ours"].items())), next(iter(row["strength"]["theirs"].values()))
    shown = [f"{100 * each:.1f} %" if what == "robust_accuracy" else f"{each:.3f}" for each in (ours, theirs)]
    rates = [row["rate"][who] for who in ("ours", "theirs")]
    network = "adversarial" if pair.adversarial else "standard"
    cells = [name, row["reference"], network, *shown, *(f"{rate:,.1f}" for rate in rates), f"{rates[0] / rates[1]:.1f}"]
    return f"| {' | '.join(cells)} |"


HEAD = ["attack", "reference", "training", "ours", "theirs", "ours, images/s", "theirs, images/s", "ratio"]


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=500, help="of the MNIST test images (default: 500)")
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS), metavar="PAIR", help=", ".join(PAIRS))
    parser.add_argument("--repeats", type=int, default=1, help="runs of both, whose median is shown (default: 1)")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    args = parser.parse_args()
    results = {"machine": machine(), "pairs": {}}
    print(", ".join(f"{key} {value}" for key, value in results["machine"].items()))
    print(f"\n| {' | '.join(HEAD)} |\n{'|---' * len(HEAD)}|", flush=True)
    for name in args.pairs:
        results["pairs"][name] = measured(PAIRS[name], args.images, args.repeats)
        print(line(name, PAIRS[name], results["pairs"][name]), flush=True)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
