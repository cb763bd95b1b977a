"""The networks that attacks are compared on are the same in JAX and in PyTorch."""

import numpy as np
import pytest

from tests.attacks.references import from_torch, to_torch, torch_module, victim


@pytest.mark.parametrize("adversarial", [False, True])
def test_both_give_the_same_logits(adversarial):
    net = victim(adversarial)
    theirs = torch_module(net.params)(to_torch(net.x)).detach().numpy()
    np.testing.assert_allclose(net.logits_fn(net.x), theirs, atol=1e-4)
    np.testing.assert_array_equal(from_torch(to_torch(net.x)), net.x)
    assert len(net.y) == 32
