"""Compiled programs are shared while they are in use and do not keep networks alive afterwards."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poisonjax.attacks import Linf, fgsm
from poisonjax.evaluation import attack_run, robustness
from poisonjax.evaluation.victim import function_victim
from poisonjax.runtime import distributed
from poisonjax.types import Examples

IMAGES, LABELS = np.full((2, 1, 2, 1), 0.5, np.float32), np.array([0, 1], np.int32)
ROWS = Examples(IMAGES, LABELS, np.arange(2, dtype=np.int32))


@pytest.fixture(autouse=True)
def empty_caches():
    distributed.clear_caches()


def network(scale):
    """A closure over its weights."""
    weights = jnp.array([[1.0, -1.0], [-1.0, 1.0]]) * (scale + 1)
    return lambda x: x.reshape(len(x), -1) @ weights


def alive(references):
    gc.collect()
    return sum(reference() is not None for reference in references)


def test_caches_keep_a_bounded_number_of_closures_alive():
    references = []
    for scale in range(distributed.PROGRAMS + 8):
        logits_fn = network(scale)
        references.append(weakref.ref(logits_fn))
        attack_run.clean_outputs(function_victim(logits_fn), ROWS, [], 2)
    del logits_fn
    assert alive(references) == distributed.PROGRAMS


def test_evaluated_closures_are_freed_with_the_caches():
    references = []
    for scale in range(2):
        logits_fn = network(scale)
        references.append(weakref.ref(logits_fn))
        robustness.evaluate(logits_fn, IMAGES, LABELS, fgsm(Linf(0.1)), jax.random.key(0), batch=2)
    del logits_fn
    assert alive(references) == 2
    distributed.clear_caches()
    assert alive(references) == 0


def test_equal_arguments_share_a_program():
    calls = []
    program = distributed.cached(lambda *arguments: calls.append(arguments) or len(calls))
    assert [program("a", 1), program("a", 1), program("a", 2)] == [1, 1, 2]
    distributed.clear_caches()
    assert program("a", 1) == 3
