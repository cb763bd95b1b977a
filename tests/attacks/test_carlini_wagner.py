"""Carlini & Wagner's attacks find what geometry and the reference implementations find."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poisonjax.attacks.carlini_wagner import CarliniWagner, CarliniWagnerLinf
from poisonjax.attacks.losses import Margin
from poisonjax.types import LogitsFn
from tests.attacks.references import from_torch, robust_accuracy, to_torch, torch_module, victim

L2_ATTACK = CarliniWagner(learning_rate=0.02, steps=150, searches=8, initial_c=0.1)
LINF_ATTACK = CarliniWagnerLinf(learning_rate=0.02, steps=150, initial_c=0.05)
BOTH = pytest.mark.parametrize("attack", [L2_ATTACK, LINF_ATTACK], ids=["l2", "linf"])


class Plane(NamedTuple):
    """Two classes on the two sides of a plane. x: images of class 0, far from the edges of the box. l2, linf: how far
    each is from the plane."""

    logits_fn: LogitsFn
    x: np.ndarray
    y: np.ndarray
    l2: np.ndarray
    linf: np.ndarray


@functools.cache
def plane(rows=6, shape=(4, 3, 1)):
    rng = np.random.default_rng(0)
    normal = rng.normal(size=np.prod(shape)).astype(np.float32)
    x = (0.5 + rng.uniform(-0.05, 0.05, (rows, *shape))).astype(np.float32)
    heights = x.reshape(rows, -1) @ normal
    heights, offset = heights - heights.min() + 0.3, 0.3 - heights.min()

    def logits_fn(images):
        height = images.reshape(len(images), -1) @ normal + offset
        return jnp.stack([height, jnp.zeros_like(height)], -1)

    y = np.zeros(rows, np.int32)
    return Plane(logits_fn, x, y, heights / np.linalg.norm(normal), heights / np.abs(normal).sum())


def deaf(images):
    """A network that decides for class 0 whatever it sees."""
    return jnp.zeros((len(images), 2)).at[:, 0].set(1.0)


def counted(logits_fn):
    """The same network, and the list of the sizes of the batches that it is asked about."""
    calls = []

    def counting(images):
        jax.debug.callback(lambda: calls.append(len(images)))
        return logits_fn(images)

    return counting, calls


def attacked(attack, logits_fn, x, y):
    return np.asarray(jax.jit(lambda x, y: attack(logits_fn, x, y, jax.random.key(0)))(x, y))


def length(delta, order):
    return np.linalg.norm(np.asarray(delta).reshape(len(delta), -1), ord=order, axis=1)


@pytest.mark.parametrize(("attack", "order", "slack"), [(L2_ATTACK, 2, 1.02), (LINF_ATTACK, np.inf, 1.15)])
def test_the_closest_image_across_a_plane_is_found(attack, order, slack):
    logits_fn, x, y, *distances = plane()
    x_adv, nearest = attacked(attack, logits_fn, x, y), distances[order != 2]
    assert np.all(np.argmax(logits_fn(x_adv), -1) == 1)
    found = length(x_adv - x, order)
    assert np.all((found >= nearest * (1 - 1e-4)) & (found <= nearest * slack))  # tau shrinks by a tenth


@BOTH
def test_a_row_does_not_depend_on_its_neighbours(attack):
    logits_fn, x, y, *_ = plane()
    whole, part = attacked(attack, logits_fn, x, y), attacked(attack, logits_fn, x[4:6], y[4:6])
    np.testing.assert_allclose(whole[4:6], part, atol=1e-5)


@BOTH
def test_misclassified_or_unattackable_rows_are_returned_unchanged(attack):
    logits_fn, x, y, *_ = plane()
    mixed = np.arange(len(x)) % 2
    np.testing.assert_array_equal(attacked(attack, logits_fn, x, mixed)[1::2], x[1::2])
    np.testing.assert_array_equal(attacked(attack, deaf, x, y), x)


@BOTH
def test_targets_are_reached(attack):
    net = victim()
    x, y = net.x[:4], (net.y[:4] + 3) % 10
    x_adv = attacked(dataclasses.replace(attack, targeted=True, learning_rate=0.1, steps=100), net.logits_fn, x, y)
    np.testing.assert_array_equal(np.argmax(net.logits_fn(x_adv), -1), y)
    assert x_adv.min() >= 0 and x_adv.max() <= 1


@BOTH
def test_confidence_is_the_lead_of_the_wrong_class(attack):
    logits_fn, x, y, *_ = plane()
    lead = Margin()(logits_fn(attacked(dataclasses.replace(attack, confidence=0.5), logits_fn, x, y)), y)
    assert np.all((lead >= 0.5) & (lead <= 0.65))


@pytest.mark.parametrize("abort_early", [False, True])
@BOTH
def test_cost_bounds_the_gradients(attack, abort_early):
    attack = dataclasses.replace(attack, abort_early=abort_early, steps=40)
    logits_fn, calls = counted(plane().logits_fn)
    attacked(attack, logits_fn, plane().x, plane().y)
    jax.effects_barrier()
    assert 0 < len(calls) <= attack.cost.gradients
    assert (len(calls) == attack.cost.gradients) == (not abort_early and isinstance(attack, CarliniWagner))


def test_rows_that_no_longer_improve_end_the_run():
    logits_fn, calls = counted(deaf)
    attacked(CarliniWagner(steps=100, searches=1), logits_fn, plane().x, plane().y)
    jax.effects_barrier()
    assert len(calls) == 11  # the loss is first compared after a tenth of the steps


@pytest.mark.parametrize("adversarial", [False, True])
def test_l2_distortion_is_that_of_foolbox(adversarial):
    net, settings = victim(adversarial), {"steps": 250, "abort_early": False}
    x, y = net.x[:8], net.y[:8]
    attack = CarliniWagner(searches=4, initial_c=1.0, learning_rate=0.03, **settings)
    theirs, _ = by_foolbox(
        "L2CarliniWagnerAttack", net, x, y, binary_search_steps=4, initial_const=1.0, stepsize=0.03, **settings
    )
    ours = attacked(attack, net.logits_fn, x, y)
    assert robust_accuracy(net.logits_fn, ours, y) == 0 == robust_accuracy(net.logits_fn, theirs, y)
    assert np.median(length(ours - x, 2)) <= 1.005 * np.median(length(theirs - x, 2))
    hasty = attacked(dataclasses.replace(attack, abort_early=True), net.logits_fn, x, y)
    assert np.median(length(hasty - x, 2)) <= 1.03 * np.median(length(theirs - x, 2))


def by_foolbox(name, net, x, y, **settings):
    """What foolbox's attack of that name makes of the images, and how often it asked about an image."""
    foolbox = pytest.importorskip("foolbox", reason="a reference implementation: pip install -r requirements-dev.txt")
    import torch

    network, calls = counted_torch(net)
    model = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
    attack = getattr(foolbox.attacks, name)(**settings)
    torch.manual_seed(0)
    images = attack(model, to_torch(x), torch.tensor(np.asarray(y)).long(), epsilons=None)[1]
    return from_torch(images), sum(calls) / len(x)


def counted_torch(net):
    """The network in PyTorch, and the list of the sizes of the batches that it is asked about."""
    network, calls = torch_module(net.params), []
    network[0].register_forward_hook(lambda _, images, __: calls.append(len(images[0])))
    import torch

    torch.set_num_threads(1)  # its threads wait for each other for minutes where the machine has other work
    return network, calls


def test_linf_distortion_is_at_most_that_of_art():
    pytest.importorskip("art", reason="a reference implementation: pip install -r requirements-dev.txt")
    net = victim()
    x, y = net.x[:3], net.y[:3]
    theirs, spent = art_linf(net, x, y, max_iter=40, initial_const=0.5, largest_const=2.0, learning_rate=0.05)
    attack = CarliniWagnerLinf(steps=18, initial_c=0.5, largest_c=2.0, learning_rate=0.2, smallest_tau=0.1)
    assert attack.cost.gradients <= spent
    ours = attacked(attack, net.logits_fn, x, y)
    assert robust_accuracy(net.logits_fn, ours, y) == 0
    assert np.median(length(ours - x, np.inf)) <= np.median(length(theirs - x, np.inf))


def art_linf(net, x, y, **settings):
    """What ART's attack makes of the images, and how often it asked about an image."""
    import torch
    from art.attacks.evasion import CarliniLInfMethod
    from art.estimators.classification import PyTorchClassifier

    network, calls = counted_torch(net)
    classifier = PyTorchClassifier(
        network, torch.nn.CrossEntropyLoss(), (1, 28, 28), 10, clip_values=(0.0, 1.0), device_type="cpu"
    )
    images = CarliniLInfMethod(classifier, verbose=False, **settings).generate(to_torch(x).numpy(), np.asarray(y))
    return images.transpose(0, 2, 3, 1), sum(calls) / len(x)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (functools.partial(CarliniWagner, confidence=-1), "confidence must not be negative, got -1"),
        (functools.partial(CarliniWagner, learning_rate=0), "learning_rate must be above 0, got 0"),
        (functools.partial(CarliniWagner, steps=0), "steps must be at least 1, got 0"),
        (functools.partial(CarliniWagner, searches=0), "searches must be at least 1, got 0"),
        (functools.partial(CarliniWagnerLinf, initial_c=0), "initial_c must be above 0, got 0"),
        (functools.partial(CarliniWagnerLinf, initial_c=1.0, largest_c=0.5), "largest_c must be at least initial_c"),
        (functools.partial(CarliniWagnerLinf, shrink=1.0), "shrink must lie between 0 and 1, got 1.0"),
        (functools.partial(CarliniWagnerLinf, smallest_tau=0), "smallest_tau must lie between 0 and 1, got 0"),
    ],
)
def test_impossible_settings_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
