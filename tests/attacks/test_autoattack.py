"""AutoAttack keeps the first success of its stages, fools what the authors' code fools, and each stage its contract."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poisonjax.attacks import L2, Linf
from poisonjax.attacks.apgd import APGD, TargetedAPGD
from poisonjax.attacks.autoattack import AutoAttack
from poisonjax.attacks.fab import FAB
from poisonjax.attacks.losses import DLR
from poisonjax.attacks.square import Square
from tests.attacks.references import from_torch, robust_accuracy, to_torch, torch_module, victim

SHAPE = (7, 6, 1)
BALLS = {"linf": Linf(0.2), "l2": L2(0.9)}


def attacks(ball, steps=6, targets=2, queries=25):
    """Every attack of this file, for a ball, with a small budget."""
    standard = AutoAttack(ball, steps=steps, targets=targets, queries=queries)
    return {**dict(standard.stages), **dict(AutoAttack(ball, "rand", steps=steps).stages), "standard": standard}


CASES = [(name, ball) for ball in BALLS for name in attacks(BALLS[ball])]
each_attack = pytest.mark.parametrize(("name", "ball"), CASES)


@pytest.fixture(scope="module")
def network():
    """Images -> logits of four classes, with fixed random weights."""
    rng = np.random.default_rng(0)
    first, second = (jnp.asarray(rng.normal(size=size), jnp.float32) for size in ((42, 12), (12, 4)))
    return lambda x: jnp.tanh(x.reshape(len(x), -1) @ first / 2) @ second


@pytest.fixture(scope="module")
def images(network):
    """Nine images, the last three of which have a wrong label."""
    x = jax.random.uniform(jax.random.key(1), (9, *SHAPE))
    y = jnp.argmax(network(x), -1)
    return x, jnp.where(jnp.arange(9) < 6, y, (y + 1) % 4)


def reached(ball, delta):
    flat = np.abs(np.asarray(delta, np.float64)).reshape(len(delta), -1)
    return flat.max(1) if isinstance(ball, Linf) else np.sqrt((flat**2).sum(1))


@each_attack
def test_contract(name, ball, network, images):
    """In the ball and in [0, 1]; some rows are fooled; wrong rows stay; a row depends on itself and its key alone."""
    (x, y), ball, keys = images, BALLS[ball], jax.random.split(jax.random.key(3), 9)
    attack = jax.jit(lambda *rows, of=attacks(ball)[name]: of(network, *rows))
    x_adv = attack(x, y, keys)
    assert x_adv.shape == x.shape and x_adv.dtype == jnp.float32
    assert np.all(reached(ball, x_adv - x) <= ball.eps * (1 + 1e-5))
    assert np.asarray(x_adv).min() >= 0 and np.asarray(x_adv).max() <= 1
    np.testing.assert_array_equal(x_adv[6:], x[6:])
    assert np.sum(np.argmax(network(x_adv[:6]), -1) != y[:6]) >= 2
    if name != "standard":  # whose rows are tested against its stages, below
        np.testing.assert_allclose(attack(x[4:6], y[4:6], keys[4:6]), x_adv[4:6], atol=1e-5)


@each_attack
def test_size_zero_changes_nothing(name, ball, network, images):
    zero = dataclasses.replace(BALLS[ball], eps=0.0)
    attack = attacks(zero, steps=2, queries=3)[name]
    x_adv = jax.jit(lambda x, y: attack(network, x, y, jax.random.key(0)))(*images)
    np.testing.assert_array_equal(x_adv, images[0])


@pytest.mark.parametrize("name", attacks(BALLS["linf"]))
def test_cost_is_what_is_spent_on_an_image_that_withstands(name, network, images):
    """Counted where the network is evaluated; gradients are evaluations too."""
    calls, attack = [], attacks(BALLS["linf"])[name]

    def counted(x):
        jax.debug.callback(lambda _: calls.append(1), x[0, 0, 0, 0])
        return network(x).at[:, 0].add(100.0)

    x, _ = images
    jax.jit(lambda x: attack(counted, x, jnp.zeros(len(x), int), jax.random.key(0)))(x).block_until_ready()
    jax.effects_barrier()
    assert len(calls) == sum(attack.cost)
    calls.clear()
    jax.jit(lambda x: attack(counted, x, jnp.ones(len(x), int), jax.random.key(0)))(x).block_until_ready()
    jax.effects_barrier()
    assert len(calls) <= 2  # every row is wrong from the start: one look at the images


def test_costs_by_hand():
    costs = {name: tuple(attack.cost) for name, attack in attacks(Linf(0.1), 100, 9, 5000).items()}
    assert costs["apgd_ce"] == costs["apgd_dlr"] == (101, 1)
    assert (costs["apgd_t"], costs["fab_t"], costs["square"]) == ((909, 1), (900, 901), (0, 5001))
    assert costs["standard"] == (101 + 909 + 900, 1 + 1 + 901 + 5001 + 5)


def test_published_budgets():
    """Section 5 and the authors' code."""
    ball = L2(0.5)
    assert AutoAttack(ball).stages == (
        ("apgd_ce", APGD(ball, steps=100)),
        ("apgd_t", TargetedAPGD(ball, steps=100, targets=9)),
        ("fab_t", FAB("L2", steps=100, targets=9, eps=0.5)),
        ("square", Square(ball, queries=5000, p_init=0.8)),
    )
    assert AutoAttack(ball, "rand").stages == (("apgd_ce", APGD(ball)), ("apgd_dlr", APGD(ball, loss=DLR())))


@pytest.fixture(scope="module")
def whole():
    """AutoAttack of a trained network, with its result and its keys."""
    net, ball, keys = victim(True), Linf(0.3), jax.random.split(jax.random.key(0), 32)
    attack = AutoAttack(ball, steps=1, targets=2, queries=100)  # too few steps, so that other stages have work
    x_adv = jax.jit(lambda x, y: attack(net.logits_fn, x, y, keys))(net.x, net.y)
    return net, attack, keys, x_adv


def test_stages_on_the_survivors_are_the_whole_attack(whole):
    """A row keeps its first success, whatever later stages would do; and more than one stage is needed."""
    net, attack, keys, x_adv = whole
    found, left, by_stage = np.array(net.x), np.arange(len(net.x)), {}
    for number, (name, stage) in enumerate(attack.stages):
        own = jax.vmap(jax.random.fold_in, (0, None))(keys[left], number)
        of = stage(net.logits_fn, net.x[left], net.y[left], own)
        fooled = np.argmax(net.logits_fn(of), -1) != net.y[left]
        found[left[fooled]], by_stage[name] = of[fooled], fooled.sum()
        left = left[~fooled]
    np.testing.assert_allclose(x_adv, found, atol=1e-5)
    assert sum(count > 0 for count in by_stage.values()) >= 2 and len(left)


@pytest.mark.parametrize(("adversarial", "ball"), [(False, Linf(0.06)), (False, L2(1.0)), (True, Linf(0.25))])
def test_robust_accuracy_of_the_authors_code(adversarial, ball):
    """Within three images of 96, on the mean of three keys: starts and squares are drawn by different generators."""
    official = pytest.importorskip("pyautoattack", reason="the authors' code is in requirements-dev.txt")
    torch = pytest.importorskip("torch")
    net, steps, targets, queries = victim(adversarial, 96), 10, 2, 50
    torch.set_num_threads(1)
    module, of = torch_module(net.params), {"norm": type(ball).__name__, "eps": ball.eps, "seed": 0, "device": "cpu"}
    theirs = official.AutoAttack(module, **of)
    theirs.apgd = official.autopgd_base.APGDAttack(module, n_iter=steps, **of)
    theirs.apgd_targeted = official.autopgd_base.APGDAttack_targeted(
        module, n_iter=steps, n_target_classes=targets, **of
    )
    theirs.fab = official.fab_pt.FABAttack_PT(module, n_iter=steps, n_target_classes=targets, targeted=True, **of)
    theirs.square = official.square.SquareAttack(module, n_queries=queries, resc_schedule=False, **of)
    x_adv, _ = theirs.run_standard_evaluation(to_torch(net.x), torch.tensor(np.array(net.y)).long())
    expected = robust_accuracy(net.logits_fn, from_torch(x_adv), net.y)
    ours = AutoAttack(ball, steps=steps, targets=targets, queries=queries)
    attack = jax.jit(lambda key: ours(net.logits_fn, net.x, net.y, key))
    left = [robust_accuracy(net.logits_fn, attack(jax.random.key(seed)), net.y) for seed in range(3)]
    assert 0.1 < expected < 0.95
    assert np.mean(left) <= expected + 3 / 96


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: AutoAttack(Linf(0.1), "plus"), "version must be standard or rand, got 'plus'"),
        (lambda: AutoAttack(Linf(0.1), steps=0), "steps must be at least 1"),
        (lambda: AutoAttack(Linf(0.1), targets=0), "targets must be at least 1"),
        (lambda: AutoAttack(Linf(0.1), queries=0), "queries must be at least 1"),
    ],
)
def test_impossible_settings_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(("version", "classes", "least"), [("standard", 3, 4), ("rand", 2, 3)])
def test_too_few_classes_are_refused(version, classes, least, network, images):
    x, y = images
    with pytest.raises(ValueError, match=f"needs at least {least} classes, got {classes}"):
        AutoAttack(Linf(0.1), version)(lambda x: network(x)[:, :classes], x, y, jax.random.key(0))


def test_fewer_classes_than_targets(network, images):
    """Four classes leave three targets, of the nine that are asked for."""
    x, y = images
    nine, three = (
        jax.jit(
            lambda x, y, a=AutoAttack(Linf(0.1), steps=3, targets=t, queries=5): a(network, x, y, jax.random.key(0))
        )
        for t in (9, 3)
    )
    np.testing.assert_array_equal(nine(x, y), three(x, y))
