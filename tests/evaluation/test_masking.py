"""Networks that hide their gradient are flagged by attacks that do not need it, and plain ones are not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poisonjax.attacks import FAB, PGD, AutoAttack, Linf, Square, bpda, eot, fgsm
from poisonjax.evaluation.attack_run import CleanOutputs
from poisonjax.evaluation.masking import AttackOutcome, masking, outcomes
from poisonjax.evaluation.robustness import checked_examples, checked_outputs, evaluate
from poisonjax.evaluation.victim import function_victim
from tests.attacks.references import victim
from tests.attacks.test_adaptive import levels, rippled

KEY = jax.random.key(0)


def attacked(logits_fn, attacks, net):
    """Robust accuracy under each attack, the signs of masking of all together, and the results."""
    results = {name: evaluate(logits_fn, net.x, net.y, attack, KEY) for name, attack in attacks.items()}
    each = [outcome for name in attacks for outcome in outcomes(name, attacks[name], results[name].to_json())]
    outputs = checked_outputs(function_victim(logits_fn), checked_examples(net.x, net.y), attacks["pgd"])
    return {name: result.robust_accuracy for name, result in results.items()}, masking(each, outputs), results


def attacks(eps, queries=150):
    ball = Linf(eps)
    return {"fgsm": fgsm(ball), "pgd": PGD(ball, eps / 5, 10), "square": Square(ball, queries)}


@pytest.mark.parametrize(("adversarial", "eps"), [(False, 0.06), (True, 0.25)])
def test_plain_networks_are_not_flagged(adversarial, eps):
    net = victim(adversarial)
    left, lines, _ = attacked(net.logits_fn, attacks(eps), net)
    assert lines == [] and 0 < left["pgd"] < 1


def test_a_quantised_network_is_flagged_and_broken():
    net = victim()

    def defended(x):
        return net.logits_fn(levels(x))

    left, lines, results = attacked(defended, attacks(0.2), net)
    assert left["pgd"] > 0.9 and left["square"] < 0.5
    assert lines[0] == "gradient masking: the gradient of 100.0% of the images is zero or not a number"
    assert lines[1].startswith("gradient masking: square, without gradients, leaves ") and len(lines) == 2
    assert "and pgd, which climbs the gradient, " in lines[1] or "and fgsm" in lines[1]
    assert list(results["pgd"].audit) == lines[:1]
    through = evaluate(bpda(levels, net.logits_fn), net.x, net.y, attacks(0.2)["pgd"], KEY)
    after = np.argmax(defended(through.x_adv), -1)
    assert np.mean(after == net.y) < 0.1


def test_autoattack_stages_add_up_and_flag_a_quantised_network():
    rng = np.random.default_rng(0)
    weights, x = jnp.asarray(rng.normal(size=(36, 4)), jnp.float32), rng.random((24, 6, 6, 1), np.float32)

    def defended(images):
        return levels(images).reshape(len(images), -1) @ weights

    y = np.argmax(defended(x), -1)
    made = evaluate(defended, x, y, AutoAttack(Linf(0.15), steps=2, targets=2, queries=60), KEY, 10)
    left = made.stages
    assert left["apgd_ce"] > left["fab_t"] - 0.2 and left["square"] < left["fab_t"] - 0.2
    after = np.argmax(defended(made.x_adv), -1)
    assert np.mean(after == y) == left["square"] and made.to_json()["robust"] == [np.sum(after == y), 24]
    assert np.abs(made.x_adv - x).max() <= 0.15 + 1e-6
    assert "square, without gradients, leaves" in made.audit[1] and len(made.audit) == 2


def by_content(stochastic):
    """A random layer as a function: each call draws by what the images are."""

    def logits_fn(x):
        bits = jax.lax.bitcast_convert_type(x.sum((1, 2, 3)), jnp.uint32)
        keys = jax.vmap(lambda row: jax.random.fold_in(jax.random.key(9), row))(bits)
        return jax.vmap(lambda image, key: stochastic(image[None], key)[0])(x, keys)

    return logits_fn


def test_a_random_layer_is_flagged_and_broken():
    net = victim()
    stochastic = rippled(net.logits_fn)
    left, lines, _ = attacked(by_content(stochastic), attacks(0.15), net)
    assert left["pgd"] > left["square"] + 0.05
    assert len(lines) == 1 and lines[0].startswith("gradient masking: square, without gradients, leaves ")
    through = evaluate(eot(stochastic, jax.random.key(7), 16), net.x, net.y, attacks(0.15)["pgd"], KEY)
    assert np.mean(np.argmax(by_content(stochastic)(through.x_adv), -1) == net.y) < 0.4


def test_masking_rule_by_hand():
    ball, steep = Linf(0.3), CleanOutputs(np.zeros((20, 3)), np.ones(20))
    pgd, step, square = (attacks(0.3)[name] for name in ("pgd", "fgsm", "square"))

    def signs(*attacks, outputs=steep):
        return masking([AttackOutcome(f"a{i}", *each) for i, each in enumerate(attacks)], outputs)

    assert signs((pgd, 0.5), (square, 0.46), (step, 0.46)) == []  # less than 5 points
    assert signs((pgd, 0.5), (square, 0.44), (step, 0.52)) == [
        "gradient masking: a1, without gradients, leaves 44.0% of the images, and a0, which climbs the gradient, "
        "50.0% in the same ball, Linf(eps=0.3)"
    ]
    assert signs((pgd, 0.5), (step, 0.44))[0].startswith("gradient masking: a1, a single step, leaves 44.0%")
    assert signs((pgd, 0.5), (Square(Linf(0.4)), 0.1)) == []  # another ball
    assert signs((FAB(), 0.5), (square, 0.1)) == []  # of no ball
    assert len(signs((FAB(eps=0.3), 0.5), (square, 0.1))) == 1
    assert signs((PGD(ball, 0.01, 5), 0.9), (square, 0.1)) == []  # cannot cross the ball
    assert signs((dataclasses.replace(pgd, targeted=True), 0.9), (square, 0.1)) == []
    for slopes, lines in (([0.0, *[1] * 19], 0), ([0.0, np.nan, *[1] * 18], 1)):
        assert len(signs(outputs=CleanOutputs(steep.logits, np.array(slopes)))) == lines
    assert signs(outputs=CleanOutputs(steep.logits, None)) == []


def test_each_stage_of_an_ensemble_is_an_outcome():
    attack = AutoAttack(Linf(0.3))
    stages = {"apgd_ce": 0.5, "apgd_t": 0.4, "fab_t": 0.4, "square": 0.3}
    after = outcomes("auto", attack, {"stages": stages, "robust": [3, 10]})
    assert [(each.name, each.robust) for each in after] == [(f"auto {name}", left) for name, left in stages.items()]
    (line,) = masking(after, CleanOutputs(np.zeros((10, 3)), np.ones(10)))
    assert line.startswith("gradient masking: auto square, without gradients, leaves 30.0% of the images, and auto ap")
