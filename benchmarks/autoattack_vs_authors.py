"""AutoAttack beside its authors' code, on a ResNet-18 that launch.py trained, and its test images.

    pip install -r requirements-dev.txt
    python launch.py --experiment=cifar10_badnets_resnet18
    python benchmarks/autoattack_vs_authors.py --victim=runs/cifar10_badnets_resnet18/small --arm=pgd_at

Both have the same weights in float32 (TF32 on a GPU), the same images and the published budgets. Ours is
`poisonjax.evaluation.robustness`, as in `poisonjax.runs.attack`; its rate excludes compilation. Both run once.
"""

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.throughput import machine
from poisonjax.attacks import AutoAttack, Linf
from poisonjax.evaluation import robustness
from poisonjax.evaluation.victim import network_victim
from poisonjax.models import ResNet18
from poisonjax.reports.console import say
from poisonjax.runs.attack import first
from poisonjax.runs.trained import load_trained
from poisonjax.runtime import distributed
from poisonjax.training import TrainState
from poisonjax.types import Examples, to_unit
from tests.attacks.references import to_torch

DEVICE = "cuda" if jax.default_backend() == "gpu" else "cpu"


def twin(model: ResNet18, state: TrainState):
    """The network as a torch.nn.Module, in evaluation mode: images [b c h w] in [0, 1] -> logits."""
    import torch
    from torch import nn

    from benchmarks.peers.pytorch import network

    net = network(model, 3).eval()
    net(torch.zeros(1, 3, 32, 32))  # gives the lazy layer its size
    for name, kind in {"Conv": nn.Conv2d, "BatchNorm": nn.BatchNorm2d, "Dense": nn.Linear}.items():
        there = [layer for layer in net.modules() if isinstance(layer, kind)]
        for layer, numbers in zip(there, layers(merged(state.params, state.batch_stats), name), strict=True):
            fill(layer, {key: torch.tensor(np.array(value)) for key, value in numbers.items()})
    return net.to(DEVICE)


def merged(one: dict, other: dict) -> dict:
    """Merge two trees whose leaves have different names."""
    return {
        key: merged(one[key], other[key]) if key in one and key in other else (one | other)[key] for key in one | other
    }


def layers(tree: dict, kind: str) -> list[dict]:
    """Parameters of the layers of a kind, in the order of the forward pass."""
    own = [tree[key] for key in sorted(tree) if key.startswith(f"{kind}_")]
    return own + [each for key in sorted(tree) if key.startswith("_Block") for each in layers(tree[key], kind)]


def fill(layer, numbers: dict) -> None:
    """Copy parameters of flax into a PyTorch layer; a convolution of stride 2 gets flax's padding."""
    from torch.nn import functional as F

    weight = numbers.get("kernel", numbers.get("scale"))
    order = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}[weight.ndim]
    layer.weight.data = weight.permute(order).contiguous()
    if "mean" in numbers:
        layer.running_mean, layer.running_var = numbers["mean"], numbers["var"]
    if "bias" in numbers:
        layer.bias.data = numbers["bias"]
    if getattr(layer, "stride", None) == (2, 2) and layer.kernel_size == (3, 3):
        layer.padding = (0, 0)
        layer.register_forward_pre_hook(lambda _, x: F.pad(x[0], (0, 1, 0, 1)))


def ours(model: ResNet18, state: TrainState, examples: Examples, attack: AutoAttack, batch: int) -> dict:
    """Robust accuracy and images/s of ours, without compilation."""
    victim = distributed.replicate(network_victim(model, state))
    outputs = robustness.checked_outputs(victim, examples, attack, batch)
    measured = robustness.measured(victim, examples, attack, jax.random.key(0), batch, outputs).to_json()
    hits, of = measured["robust"]
    return {"robust": hits / of, "rate": measured["images_per_second"], "stages": measured["stages"]}


def theirs(model: ResNet18, state: TrainState, examples: Examples, attack: AutoAttack, batch: int) -> dict:
    """Robust accuracy and images/s of the authors' code."""
    import pyautoattack
    import torch

    net, label = twin(model, state), torch.tensor(examples.label).long()
    x = to_torch(to_unit(jnp.asarray(examples.image))).contiguous()
    agree(net, model, state, examples)
    whole = pyautoattack.AutoAttack(net, norm="Linf", eps=attack.ball.eps, seed=0, device=DEVICE)
    begin = time.perf_counter()
    x_adv = whole.run_standard_evaluation(x, label, batch_size=batch)[0]
    seconds = time.perf_counter() - begin
    with torch.no_grad():
        left = net(x_adv.to(DEVICE)).argmax(-1).cpu() == label
    return {"robust": float(left.float().mean()), "rate": len(label) / seconds}


def agree(net, model: ResNet18, state: TrainState, examples: Examples) -> None:
    """Raise AssertionError unless both networks give the same logits on some images."""
    import torch

    x = np.asarray(to_unit(jnp.asarray(examples.image[:50])))
    with torch.no_grad():
        theirs = net(to_torch(x).to(DEVICE)).cpu().numpy()
    np.testing.assert_allclose(network_victim(model, state).logits(x), theirs, atol=0.01 if DEVICE == "cpu" else 0.1)


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--victim", required=True, help="the workdir of a run with a ResNet-18")
    parser.add_argument("--arm", required=True, help="the arm whose network is attacked")
    parser.add_argument("--data_dir", help="folder of the tfds data sets")
    parser.add_argument("--eps", type=float, default=8 / 255, help="of the Linf ball (default: 8/255)")
    parser.add_argument("--images", type=int, default=1000, help="the first of the test split (default: 1000)")
    parser.add_argument("--batch", type=int, default=250, help="images at a time (default: 250)")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    args = parser.parse_args()
    trained = load_trained(args.victim, args.arm, data_dir=args.data_dir)
    model = dataclasses.replace(trained.experiment.model_of(trained.arm), dtype="float32")
    state = TrainState(jnp.int32(0), *trained.victim.outputs.args, ())
    attack = AutoAttack(Linf(args.eps))
    examples = first(trained.dataset, attack, args.images)
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    sides = {}
    for side in (ours, theirs):
        sides[side.__name__] = side(model, state, examples, attack, args.batch)
        say(f"{side.__name__}: {sides[side.__name__]}")
    print(f"\n|  | robust accuracy % | images/s |\n|---|---|---|\n{table(sides)}")
    if args.json:
        args.json.write_text(json.dumps({"machine": machine(), "network": str(model), "images": args.images, **sides}))
    return 0


def table(sides: dict) -> str:
    """One row for each side, and one for the ratio."""
    lines = [f"| {name} | {100 * side['robust']:.1f} | {side['rate']:.2f} |" for name, side in sides.items()]
    return "\n".join([*lines, f"| ratio |  | {sides['ours']['rate'] / sides['theirs']['rate']:.1f} |"])


if __name__ == "__main__":
    sys.exit(main())
