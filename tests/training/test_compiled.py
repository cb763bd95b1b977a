"""What the compiled training step is made of: one all-reduce a step, none within the attack; for TPU and CUDA too."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import pytest

from poisonjax.attacks import PGD, Linf
from poisonjax.models import MadryCNN, MobileNet, ReportCifarCNN, ReportCNN, ResNet18, WongCNN
from poisonjax.models.ops import conv
from poisonjax.runtime import distributed
from poisonjax.training import AdversarialTraining, CropFlip, initial_state, make_train_step
from poisonjax.types import Examples

ROOT = Path(__file__).parents[2]
ATTACK = PGD(Linf(0.1), step=0.05, steps=3)
# Compiles the loop over steps for two devices and prints its program.
COMPILE = """
import jax, numpy as np
from poisonjax.runtime import distributed
from poisonjax.attacks import PGD, Linf
from poisonjax.models import {model}
from poisonjax.training import AdversarialTraining, FreeAdversarialTraining, Training
from poisonjax.training.fit import _on_devices, fresh, program
from poisonjax.types import Examples

model, objective = {network}, {objective}
settings = Training(batch=8, epochs=2)
data = Examples(np.zeros((16, 32, 32, 3), np.uint8), np.arange(16) % 10, np.arange(16))
carry = _on_devices(fresh(model, objective, settings, 16, data.image[0], jax.random.key(0)))
arguments = distributed.replicate((data, jax.random.key(0), np.int32(4)))
print(program(model, objective, settings, 16).lower(carry, *arguments).compile().as_text())
"""
COLLECTIVE = re.compile(r" = .*\b(all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(-start)?\(")


def compiled(network, objective="AdversarialTraining(PGD(Linf(0.1), step=0.05, steps=3))"):
    """The HLO text for two forced host devices, as {computation: text}."""
    forced = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "PJRT_NPROC": "4"}
    code = COMPILE.format(model=network.partition("(")[0], network=network, objective=objective)
    env = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"} | forced
    made = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=300)
    assert made.returncode == 0, made.stderr
    return dict(re.findall(r"^(?:ENTRY )?%?([\w.-]+) \(.*?\{\n(.*?)^\}", made.stdout, flags=re.M | re.S))


def called(computations, name):
    """The names of all computations that one uses, itself among them."""
    found, queue = set(), [name]
    while queue:
        if (name := queue.pop()) not in found and name in computations:
            found.add(name)
            queue += re.findall(r"%([\w.-]+)", computations[name])
    return found


def loops(computations):
    """{body of a loop: computations that it uses}."""
    bodies = re.findall(r"\bwhile\(.*?body=%?([\w.-]+)", "\n".join(computations.values()))
    return {body: called(computations, body) for body in bodies}


def collectives(computations, names):
    return [line for name in names for line in computations[name].splitlines() if COLLECTIVE.search(line)]


@pytest.mark.parametrize(
    ("network", "once"),
    [
        ("WongCNN(filters=(2, 4), hidden=8)", True),
        ("ResNet18(filters=2, sync_batch_norm=False)", True),
        ("ResNet18(filters=2)", False),
    ],
)
def test_one_all_reduce_a_step_and_none_within_the_attack(network, once):
    """BatchNorm over all devices has its own, but not within the attack either, which sees the averages."""
    computations = compiled(network)
    every = collectives(computations, computations)
    nested = loops(computations)
    inner = {body for body, uses in nested.items() if not any(other in uses for other in nested if other != body)}
    assert (len(every) == 1) == once and all("all-reduce" in line for line in every), every
    assert len(nested) > len(inner) >= 1, "a loop over steps, and at least one within it"
    assert not collectives(computations, {name for body in inner for name in nested[body]})
    assert any(collectives(computations, uses) for uses in nested.values()), "it is within the loop over steps"


def test_a_carried_perturbation_stays_on_its_device():
    computations = compiled("WongCNN(filters=(2, 4), hidden=8)", "FreeAdversarialTraining(Linf(0.1), replays=2)")
    every = collectives(computations, computations)
    assert len(every) == 1 and "all-reduce" in every[0], every
    assert any(collectives(computations, uses) for uses in loops(computations).values())


@pytest.mark.skipif(jax.__version_info__ >= (0, 11), reason="later ones convolve in all threads")
def test_convolutions_are_kept_from_the_library_that_runs_them_in_one_thread():
    arrays = jnp.zeros((8, 14, 14, 32)), jnp.zeros((5, 5, 32, 64))
    told, untold = (fn(conv).lower(*arrays).compile().as_text() for fn in (distributed.parallel, jax.jit))
    assert "__ynn_fusion" in untold and "__ynn_fusion" not in told and " convolution(" in told


NETWORKS = {
    "report": (ReportCNN(width=8), (28, 28, 1)),
    "madry": (MadryCNN(filters=(2, 4), hidden=8), (28, 28, 1)),
    "wong": (WongCNN(filters=(2, 4), hidden=8), (28, 28, 1)),
    "report_cifar": (ReportCifarCNN(width=8), (32, 32, 3)),
    "mobilenet": (MobileNet(alpha=0.0625), (32, 32, 3)),
    "resnet18": (ResNet18(filters=2), (32, 32, 3)),
    "resnet18_bfloat16": (ResNet18(filters=2, dtype="bfloat16"), (32, 32, 3)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_step_lowers_for_accelerators_from_here(name):
    model, shape = NETWORKS[name]
    tx, key = optax.adam(1e-3), jax.random.key(0)
    examples = Examples(jnp.zeros((4, *shape), jnp.uint8), jnp.arange(4), jnp.arange(4))
    step = jax.jit(make_train_step(model, AdversarialTraining(ATTACK), tx, 1, CropFlip()))
    state = jax.eval_shape(lambda: initial_state(model, tx, examples.image[0], key))
    traced = step.trace(state, examples, jnp.ones(4, bool), key)
    for platform in ("tpu", "cuda"):
        lowered = traced.lower(lowering_platforms=(platform,)).as_text()
        assert "stablehlo.convolution" in lowered and "stablehlo.while" in lowered, platform
