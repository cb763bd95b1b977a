"""Objectives: each gives the loss that its paper writes, on the images that its attack makes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from poisonjax.attacks import APGD, PGD, Linf
from poisonjax.keys import row_keys
from poisonjax.models import ReportCNN, WongCNN
from poisonjax.training import (
    TRADES,
    Adam,
    AdversarialTraining,
    FreeAdversarialTraining,
    Standard,
    Training,
    eval_logits,
    fgsm_at,
    initial_state,
    make_train_step,
)
from poisonjax.training.fit import fit
from poisonjax.training.objectives import Keys, Learner, Outputs
from poisonjax.training.step import zero_sums
from poisonjax.types import Examples, to_unit
from tests.training.test_fit import Callbacks, Memory

EPS = 0.02
ATTACK = PGD(Linf(EPS), step=EPS / 2, steps=2)
MODEL = WongCNN(filters=(4, 8), hidden=16, classes=3)
OBJECTIVES = {
    "standard": Standard(),
    "standard at a temperature": Standard(temperature=20.0),
    "adversarial training": AdversarialTraining(ATTACK, eps_warmup=0.5),
    "fast adversarial training": fgsm_at(Linf(EPS)),
    "FGSM adversarial training": fgsm_at(Linf(EPS), random_start=False),
    "TRADES": TRADES(ATTACK, beta=6.0, eps_warmup=0.5),
    "free adversarial training": FreeAdversarialTraining(Linf(EPS), replays=2),
}


@pytest.fixture(scope="module")
def examples():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 12).astype(np.int32)
    image = (rng.integers(0, 80, (12, 12, 12, 1)) + 80 * label[:, None, None, None]).astype(np.uint8)
    return Examples(image, label, np.arange(12, dtype=np.int32))


@pytest.fixture(scope="module")
def state(examples):
    return initial_state(MODEL, Adam(0.01)(10), examples.image[0], jax.random.key(1))


def learner(state, seen=None) -> Learner:
    """The network, noting the images that it learns from."""
    logits_fn = eval_logits(MODEL, state)

    def apply(x, keys):
        if seen is not None:
            seen.append(x)
        return Outputs(logits_fn(x), None, {})

    return Learner(logits_fn, apply)


def learnt(objective, state, examples, y=None, progress=1.0, seen=None):
    keys = row_keys(jax.random.key(0), examples.index, 0)
    x, y = to_unit(jnp.asarray(examples.image)), jnp.asarray(examples.label if y is None else y)
    network = learner(state, seen)._replace(perturbation=begun(objective, x))
    return objective(network, x, y, Keys(keys, keys), progress)


def begun(objective, x):
    """The perturbation before the first update."""
    return jnp.zeros(x.shape) if objective.carries_perturbation else ()


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_contract(objective, state, examples):
    loss = learnt(objective, state, examples)
    assert loss.rows.shape == (12,) and loss.logits.shape == (12, 3) and np.isfinite(loss.rows).all()
    assert tuple(loss.aux) == objective.aux and all(value.shape == (12,) for value in loss.aux.values())
    assert hash(objective) == hash(dataclasses.replace(objective)) and objective == dataclasses.replace(objective)


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_training_lowers_the_loss_and_records_the_aux(objective, examples):
    arguments = MODEL, objective, Training(batch=6, epochs=40, optimizer=Adam(0.02))
    made = fit(*arguments, examples, (jax.random.key(1), jax.random.key(2)), Memory(), Callbacks())
    row = made.history[-1]
    assert row["train_accuracy"] > 0.6 and {f"train_{name}" for name in objective.aux} <= set(row)
    if objective.attack is None:  # under attack the loss rises with eps
        assert row["train_loss"] < made.history[0]["train_loss"]


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_probabilities_that_are_certain_are_labels(objective, state, examples):
    certain = learnt(objective, state, examples, y=jax.nn.one_hot(examples.label, 3))
    np.testing.assert_allclose(certain.rows, learnt(objective, state, examples).rows, rtol=1e-5, atol=1e-6)


def test_soft_labels_at_a_temperature_by_hand(state, examples):
    soft = np.random.default_rng(1).dirichlet(np.ones(3), 12)
    loss = learnt(Standard(temperature=5.0), state, examples, y=soft)
    scaled = np.asarray(loss.logits, np.float64) / 5
    expected = -np.sum(soft * (scaled - np.log(np.sum(np.exp(scaled), 1, keepdims=True))), 1)
    np.testing.assert_allclose(loss.rows, expected, rtol=1e-4)


def test_trades_by_hand(state, examples):
    """Cross-entropy of the clean image plus beta KL(clean || adversarial)."""
    seen = []
    loss = learnt(TRADES(ATTACK, beta=3.0), state, examples, seen=seen)
    clean, adversarial = (np.asarray(jax.nn.log_softmax(eval_logits(MODEL, state)(x)), np.float64) for x in seen)
    divergence = np.sum(np.exp(clean) * (clean - adversarial), 1)
    expected = -clean[np.arange(12), examples.label] + 3.0 * divergence
    np.testing.assert_allclose(loss.rows, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(loss.aux["divergence"], divergence, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(np.abs(seen[1] - seen[0]).max(), EPS, atol=1e-6)


def test_trades_attacks_the_divergence_and_not_the_label(state, examples):
    shown, shifted = [], []
    learnt(TRADES(ATTACK), state, examples, seen=shown)
    learnt(TRADES(ATTACK), state, examples, y=(examples.label + 1) % 3, seen=shifted)
    np.testing.assert_array_equal(shown[1], shifted[1])


@pytest.mark.parametrize(("progress", "share"), [(0.0, 0.0), (0.25, 0.5), (0.5, 1.0), (1.0, 1.0)])
@pytest.mark.parametrize(
    "objective",
    [
        AdversarialTraining(ATTACK, eps_warmup=0.5),
        AdversarialTraining(APGD(Linf(EPS), steps=3, best_loss=True), eps_warmup=0.5),
        TRADES(ATTACK, eps_warmup=0.5),
    ],
)
def test_warm_up_grows_eps_in_proportion(objective, progress, share, state, examples):
    seen = []
    learnt(objective, state, examples, progress=progress, seen=seen)
    moved = np.abs(np.asarray(seen[-1] - to_unit(jnp.asarray(examples.image)))).max()
    assert moved == pytest.approx(EPS * share, abs=1e-6)


def test_standard_training_learns_from_the_images_themselves(state, examples):
    seen = []
    loss = learnt(Standard(), state, examples, seen=seen)
    np.testing.assert_array_equal(seen[0], to_unit(jnp.asarray(examples.image)))
    expected = optax.softmax_cross_entropy_with_integer_labels(loss.logits, examples.label)
    np.testing.assert_array_equal(loss.rows, expected)


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_step_descends_the_loss_on_images_that_are_held_constant(objective, state, examples):
    """No gradient of the weights flows through the attack."""
    real, key = jnp.ones(12, bool), jax.random.key(5)
    keys = [row_keys(jax.random.fold_in(key, 0), examples.index, stream) for stream in (0, 1)]
    step = jax.jit(make_train_step(MODEL, objective, optax.sgd(1.0), 1))
    zero = begun(objective, examples.image)
    made, sums = step(
        state._replace(opt_state=optax.sgd(1.0).init(state.params), perturbation=zero), examples, real, key
    )

    def loss(params):
        def apply(x, noise):
            logits, features = MODEL.apply({"params": params}, jax.lax.stop_gradient(x), train=True, keys=noise)
            return Outputs(logits, features, {})

        network = Learner(eval_logits(MODEL, state), apply, zero)
        x = to_unit(jnp.asarray(examples.image))
        return jnp.mean(objective(network, x, jnp.asarray(examples.label), Keys(*keys), jnp.float32(0)).rows)

    value, slope = jax.value_and_grad(loss)(state.params)
    np.testing.assert_allclose(sums["loss"] / 12, value, rtol=1e-5)
    for old, new, gradient in zip(*map(jax.tree.leaves, (state.params, made.params, slope)), strict=True):
        np.testing.assert_allclose(new, old - gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [AdversarialTraining, TRADES])
def test_adversarial_objectives_need_an_attack(kind):
    with pytest.raises(TypeError, match="attack"):
        kind()


def test_sums_have_the_names_of_the_objective(state, examples):
    assert set(zero_sums(TRADES(ATTACK))) == {"loss", "correct", "count", "divergence"}


def test_dropout_noise_is_that_of_the_row(examples):
    """The two passes of TRADES drop the same units, or dropout would count as divergence."""
    model = ReportCNN(width=8, classes=3)
    state = initial_state(model, Adam()(10), examples.image[0], jax.random.key(1))
    step = jax.jit(make_train_step(model, TRADES(PGD(Linf(1e-6), 1e-6, 1)), Adam()(10), 1))
    _, sums = step(state, examples, jnp.ones(12, bool), jax.random.key(0))
    assert float(sums["divergence"]) == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Standard(temperature=0.0), "temperature must be above 0, got 0.0"),
        (lambda: AdversarialTraining(ATTACK, eps_warmup=1.5), r"must lie in \[0, 1\], got 1.5"),
        (lambda: TRADES(ATTACK, eps_warmup=-0.1), r"must lie in \[0, 1\], got -0.1"),
        (lambda: TRADES(ATTACK, beta=-1.0), "beta must be at least 0, got -1.0"),
        (lambda: TRADES(ATTACK, beta=float("nan")), "beta must be at least 0, got nan"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
