"""Defences that hide the gradient stop PGD; an attacker who knows them, or has a network of his own, gets through."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poisonjax.attacks import PGD, Attack, Linf, Margin, Patch
from poisonjax.attacks.adaptive import bpda, eot, evade, transfer, with_rejection
from poisonjax.attacks.gradient import fgsm, mi_fgsm
from poisonjax.types import Cost
from tests.attacks.references import robust_accuracy, victim

SHAPE = (3, 4, 1)


@pytest.fixture(scope="module")
def small():
    """A network of random weights, and images for it."""
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(12, 8)).astype(np.float32), rng.normal(size=(8, 3)).astype(np.float32)
    return lambda x: jnp.tanh(x.reshape(len(x), -1) @ first) @ second, rng.random((5, *SHAPE), np.float32)


def levels(x):
    """Four grey levels: flat almost everywhere."""
    return jnp.round(x * 3) / 3


def slope(logits_fn, x):
    return jax.grad(lambda x: logits_fn(x)[:, 0].sum())(x)


def test_bpda_evaluates_the_transform_and_not_its_gradient(small):
    logits_fn, x = small
    seen = bpda(levels, logits_fn)
    np.testing.assert_array_equal(seen(x), logits_fn(levels(x)))
    assert not np.any(slope(lambda x: logits_fn(levels(x)), x))
    np.testing.assert_allclose(slope(seen, x), slope(logits_fn, levels(x)), rtol=1e-6)


def test_bpda_has_the_gradient_of_backward(small):
    logits_fn, x = small
    seen = bpda(levels, logits_fn, backward=lambda x: x**2)
    np.testing.assert_array_equal(seen(x), logits_fn(levels(x)))
    np.testing.assert_allclose(slope(seen, x), 2 * x * slope(logits_fn, levels(x)), rtol=1e-5)


def test_bpda_needs_no_gradient_of_the_transform(small):
    logits_fn, x = small

    def outside(x):
        like = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return jax.pure_callback(lambda x: np.round(np.asarray(x) * 3) / np.float32(3), like, x)

    with pytest.raises(ValueError, match="Pure callbacks do not support JVP"):
        slope(lambda x: logits_fn(outside(x)), x)
    np.testing.assert_allclose(slope(bpda(outside, logits_fn), x), slope(bpda(levels, logits_fn), x), rtol=1e-5)


def test_bpda_refuses_a_backward_of_another_shape(small):
    logits_fn, x = small
    with pytest.raises(ValueError, match=r"shape \(5, 3, 3, 1\) as transform does, got \(5, 3, 4, 1\)"):
        bpda(lambda x: x[:, :, :3], logits_fn)(x)


def noisy(logits_fn):
    return lambda x, key: logits_fn(x + jax.random.normal(key, x.shape))


def test_eot_is_the_mean_over_draws_and_has_its_gradient(small):
    (logits_fn, x), key = small, jax.random.key(1)
    draws = [lambda x, i=i: noisy(logits_fn)(x, jax.random.fold_in(key, i)) for i in range(6)]
    for samples in (1, 6):
        seen = jax.jit(eot(noisy(logits_fn), key, samples))
        np.testing.assert_allclose(seen(x), np.mean([draw(x) for draw in draws[:samples]], 0), atol=1e-5)
        np.testing.assert_allclose(slope(seen, x), np.mean([slope(draw, x) for draw in draws[:samples]], 0), atol=1e-5)
    assert np.abs(draws[0](x) - draws[1](x)).max() > 0.1


def test_eot_needs_no_more_memory_for_more_draws():
    hidden, x = jnp.ones((12, 4000)), jnp.ones((20, *SHAPE))

    def wide(x, key):
        return jnp.tanh(noisy(lambda x: x.reshape(len(x), -1) @ hidden)(x, key))[:, :3]

    few, many = (
        jax.jit(lambda x, n=n: slope(eot(wide, jax.random.key(0), n), x)).lower(x).compile().memory_analysis()
        for n in (4, 64)
    )
    assert many.temp_size_in_bytes < 1.5 * few.temp_size_in_bytes


def test_eot_refuses_no_draws(small):
    with pytest.raises(ValueError, match="samples must be at least 1, got 0"):
        eot(noisy(small[0]), jax.random.key(0), 0)


def attacked(attack, logits_fn, net):
    return jax.jit(lambda key: attack(logits_fn, net.x, net.y, key))(jax.random.key(0))


def test_quantising_stops_pgd_but_not_bpda():
    net, attack = victim(), PGD(Linf(0.2), step=0.025, steps=20)

    def defended(x):
        return net.logits_fn(levels(x))

    assert robust_accuracy(defended, attacked(attack, defended, net), net.y) > 0.9
    assert robust_accuracy(defended, attacked(attack, bpda(levels, net.logits_fn), net), net.y) < 0.1


def rippled(logits_fn):
    """A random change of at most .025 with a slope of up to 5, so that the gradient of one draw is noise."""
    return lambda x, key: logits_fn(x + jnp.sin(200 * x + 2 * jnp.pi * jax.random.uniform(key, x.shape)) / 40)


def padded(logits_fn):
    """Every image moved by up to two pixels, the same way in a draw (Xie et al. 2018)."""

    def moved(x, key):
        wide = jnp.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
        return logits_fn(jax.lax.dynamic_slice(wide, (0, *jax.random.randint(key, (2,), 0, 5), 0), x.shape))

    return moved


@pytest.mark.parametrize(
    ("defence", "eps", "plain", "adaptive"), [(rippled, 0.15, (0.9, 1.0), 0.4), (padded, 0.2, (0.35, 0.7), 0.2)]
)
def test_randomness_stops_pgd_but_not_eot(defence, eps, plain, adaptive):
    net, attack = victim(), PGD(Linf(eps), step=eps / 8, steps=20)
    defended = defence(net.logits_fn)
    judged = jax.jit(lambda x: jnp.stack([defended(x, key) for key in jax.random.split(jax.random.key(9), 8)]))

    def accuracy(logits_fn):
        return float((judged(attacked(attack, logits_fn, net)).argmax(-1) == net.y).mean())

    one, many = (eot(defended, jax.random.key(7), draws) for draws in (1, 32))
    assert plain[0] <= accuracy(one) <= plain[1]
    assert accuracy(many) <= adaptive


def test_transfer_crafts_on_the_surrogate_alone():
    net, surrogate = victim(images=128), victim(True)

    def secret(x):
        raise AssertionError("the victim was asked")

    attack = mi_fgsm(Linf(0.3), steps=8)
    moved = transfer(surrogate.logits_fn, attack)
    x_adv = moved(secret, net.x, net.y, jax.random.key(0))
    np.testing.assert_array_equal(x_adv, attack(surrogate.logits_fn, net.x, net.y, jax.random.key(0)))
    assert moved.cost == attack.cost == Cost(gradients=8)
    signs = jax.random.rademacher(jax.random.key(1), net.x.shape, float)
    noise = robust_accuracy(net.logits_fn, jnp.clip(net.x + 0.3 * signs, 0, 1), net.y)
    assert robust_accuracy(net.logits_fn, x_adv, net.y) < noise - 0.3


def suspicious(x):
    """Brighter images are more suspicious."""
    return x.mean((1, 2, 3))


@pytest.mark.parametrize("shift", [-50.0, 0.0, 50.0])
def test_rejection_leads_where_the_detector_rejects_and_only_there(small, shift):
    logits_fn, x = small
    x = jnp.concatenate([x, x / 2])
    seen = with_rejection(lambda x: logits_fn(x) + shift, suspicious, 0.4, unit=0.1)(x)
    np.testing.assert_array_equal(seen[:, :-1], logits_fn(x) + shift)
    rejected = np.asarray(suspicious(x)) > 0.4
    assert 0 < rejected.sum() < len(x)
    np.testing.assert_array_equal(np.argmax(seen, -1) == 3, rejected)


def test_rejection_is_the_paper_s_logit_for_logits_from_zero_on(small):
    logits_fn, x = small
    from_zero = np.asarray(logits_fn(x) - logits_fn(x).min(-1, keepdims=True))
    seen = with_rejection(lambda x: from_zero, suspicious, 0.4)(x)
    np.testing.assert_allclose(seen[:, -1], (np.asarray(suspicious(x)) - 0.4 + 1) * from_zero.max(-1), rtol=1e-5)


class Seen(Exception):
    """What an attack saw."""


@dataclasses.dataclass(frozen=True)
class Look(Attack):
    """An attack that tells the logits of a batch."""

    batch: jax.Array
    targeted: bool = False

    def __call__(self, logits_fn, x, y, key):
        raise Seen(logits_fn(self.batch))

    cost = Cost(gradients=3)


def looked(logits_fn, x, y, batch, **options):
    with pytest.raises(Seen) as caught:
        evade(suspicious, 0.4, Look(batch, **options), unit=0.1)(logits_fn, x, y, jax.random.key(0))
    return caught.value.args[0]


def test_to_an_untargeted_attack_an_accepted_wrong_class_alone_is_a_success(small):
    logits_fn, x = small
    x, y = jnp.concatenate([x, x / 2]), np.arange(10) % 3
    margin = Margin()(looked(logits_fn, x, y, x), jnp.asarray(y))
    wrong, rejected = np.argmax(logits_fn(x), -1) != y, np.asarray(suspicious(x)) > 0.4
    assert len({*zip(wrong.tolist(), rejected.tolist(), strict=True)}) >= 3
    np.testing.assert_array_equal(margin > 0, wrong & ~rejected)
    assert looked(logits_fn, x, y, x, targeted=True).shape == (10, 4)


def test_several_images_of_a_row_share_its_label(small):
    logits_fn, x = small
    y = np.array([0, 1, 2, 0, 1])
    twice = looked(logits_fn, x, y, jnp.repeat(x, 2, 0))
    np.testing.assert_allclose(twice, np.repeat(looked(logits_fn, x, y, x), 2, 0), rtol=1e-6)


def test_evading_costs_what_the_attack_costs_and_refuses_what_has_no_rows():
    attack = PGD(Linf(0.2), steps=20)
    evading = evade(suspicious, jnp.float32(0.4), attack)
    assert hash(evading) and (evading.cost, evading.ball, evading.climbs) == (attack.cost, attack.ball, True)
    assert evade(suspicious, 0.4, fgsm(Linf(0.2))).single_step
    with pytest.raises(ValueError, match="must treat each image on its own"):
        evade(suspicious, 0.4, Patch(7))
    with pytest.raises(ValueError, match="unit must be above 0, got 0"):
        evade(suspicious, 0.4, attack, unit=0)
    with pytest.raises(ValueError, match=r"attack must be Attack, as PGD\(Linf\(8/255\)\), got 'pgd'"):
        evade(suspicious, 0.4, "pgd")
