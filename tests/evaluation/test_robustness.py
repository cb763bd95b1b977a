"""evaluate: what is accepted and refused, what the result says, and what is kept."""

import contextlib
import functools
import gc
import json
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from jax.tree_util import Partial

from poisonjax.attacks import FAB, L2, PGD, AutoAttack, Linf, fgsm
from poisonjax.evaluation import attack_run
from poisonjax.evaluation.attack_run import Stage
from poisonjax.evaluation.robustness import checked_examples, evaluate
from poisonjax.evaluation.victim import REJECTED, Victim, function_victim
from poisonjax.types import Cost
from tests.attacks.references import victim

KEY = jax.random.key(0)
ATTACK = PGD(Linf(0.1), step=0.02, steps=10)
# Without a sign, which rounding errors, and so processors and sizes of batches, turn over where a gradient is near 0.
SMOOTH = PGD(L2(1.0), step=0.2, steps=10)
SMALL_AUTOATTACK = AutoAttack(Linf(0.001), steps=2, targets=2, queries=5)


@pytest.fixture(scope="module")
def result():
    net = victim()
    return evaluate(net.logits_fn, net.x, net.y, ATTACK, KEY, 32)


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_batch_size_changes_nothing(batch):
    net = victim()
    some = evaluate(net.logits_fn, net.x[:9], net.y[:9], SMOOTH, KEY, batch)
    whole = evaluate(net.logits_fn, net.x, net.y, SMOOTH, KEY, 32)
    np.testing.assert_allclose(some.x_adv, whole.x_adv[:9], atol=1e-4)
    assert some.robust_accuracy == np.mean(whole.predictions[:9] == net.y[:9])


def test_result_is_what_the_attack_does(result):
    net = victim()
    left = np.argmax(net.logits_fn(result.x_adv), -1) == net.y
    assert result.robust_accuracy == left.mean() and 0 < left.sum() < 32 and result.clean_accuracy == 1
    np.testing.assert_array_equal(result.predictions == net.y, left)
    assert result.median_linf == pytest.approx(0.1, rel=1e-4) and result.median_l2 > 0.1
    assert result.cost == Cost(10, 0) and result.stages == {} and result.audit == ()
    assert result.images_per_second is None  # a single batch, which compiles


def test_json_holds_counts(result):
    numbers = json.loads(json.dumps(result.to_json(), allow_nan=False))
    left = round(32 * result.robust_accuracy)
    assert numbers == {
        "robust": [left, 32],
        "clean": [32, 32],
        "median_l2": result.median_l2,
        "median_linf": result.median_linf,
        "gradients": 10,
        "queries": 0,
        "images_per_second": None,
        "stages": {},
        "audit": [],
    }


def test_result_prints_as_an_aligned_table(result):
    title, *rows = repr(result).splitlines()
    assert title == "PGD in Linf(eps=0.1)"
    cells = dict(row.split("  ", 1) for row in rows)
    assert cells["clean accuracy"].split() == ["100.0", "%", "[89.3,", "100.0]", "32/32"]  # Wilson's interval
    assert f"{round(32 * result.robust_accuracy)}/32" in cells["robust accuracy"]
    assert cells["images per second"].strip() == "–"
    starts = {len(row) - len(row.split("  ", 1)[1].lstrip()) for row in rows}
    assert len(starts) == 1


def test_stages_and_warnings_are_printed():
    logits_fn, x, y = linear((6, 5, 1), classes=4)
    ensemble = evaluate(logits_fn, x, y, SMALL_AUTOATTACK, KEY, 2)
    assert [line.split()[:2] for line in repr(ensemble).splitlines()[2:6]] == [
        ["after", name] for name in ensemble.stages
    ]
    flat = evaluate(lambda x: logits_fn(jnp.round(x)), x, np.zeros(5, int), ATTACK, KEY)
    assert len(flat.audit) == 1 and f"warning              {flat.audit[0]}" in repr(flat)


def test_bytes_are_the_images_they_stand_for():
    net = victim()
    raw = np.round(np.asarray(net.x) * 255).astype(np.uint8)
    one, two = (evaluate(net.logits_fn, x, net.y, SMOOTH, KEY) for x in (raw, raw.astype(np.float64) / 255))
    np.testing.assert_allclose(one.x_adv, two.x_adv, atol=1e-4)


def linear(shape, classes=3):
    """A linear network for images of a shape, images, and the labels that it gives them."""
    rng = np.random.default_rng(0)
    weights = jnp.asarray(rng.normal(size=(int(np.prod(shape)), classes)), jnp.float32)
    x = rng.random((5, *shape), np.float32)
    y = np.argmax(x.reshape(5, -1) @ np.asarray(weights), -1)
    return (lambda images: images.reshape(len(images), -1) @ weights), x, y


@pytest.mark.parametrize("shape", [(6, 5, 1), (6, 5, 3), (30,)])
def test_images_of_any_shape_and_no_room_to_move(shape):
    logits_fn, x, y = linear(shape)
    moved = evaluate(logits_fn, x, y, PGD(Linf(0.3), 0.1, 5), KEY, 2)
    assert moved.robust_accuracy < moved.clean_accuracy == 1
    still = evaluate(logits_fn, x, y, PGD(Linf(0.0), 0.1, 5), KEY, 2)
    np.testing.assert_array_equal(still.x_adv, x)
    assert still.robust_accuracy == 1 and still.median_l2 is None


LOGITS, X, Y = linear((4, 4, 1))
REFUSED = {
    "no batch": (
        LOGITS,
        X[0],
        Y,
        "y must be 4 labels, one per image of x [n ...], got shape [5] for x of shape [4",
    ),
    "no images": (LOGITS, X[:0], Y[:0], "x must be images of shape [n ...], got shape [0, 4, 4, 1]"),
    "numbers of 0 to 255": (LOGITS, X * 255, Y, "x must be uint8 or lie in [0, 1], got values from"),
    "numbers of -1 to 1": (LOGITS, X * 2 - 1, Y, "x must be uint8 or lie in [0, 1], got values from -"),
    "nan images": (LOGITS, np.where(X > 0.5, np.nan, X), Y, "x must be uint8 or lie in [0, 1], got values from nan"),
    "whole numbers": (LOGITS, X.astype(np.int32), Y, "x must be uint8 or floating, got int32"),
    "float labels": (LOGITS, X, Y.astype(float), "y must be whole numbers, got float64"),
    "one-hot labels": (LOGITS, X, np.eye(3, dtype=int)[Y], "y must be 5 labels, one per image of x [n ...], got shape"),
    "few labels": (LOGITS, X, Y[:4], "y must be 5 labels, one per image of x [n ...], got shape [4]"),
    "negative label": (LOGITS, X, Y - 3, "y must be labels from 0, got -"),
    "large label": (LOGITS, X, Y + 3, "y must be labels from 0 to 2, got "),
    "probabilities": (lambda x: jax.nn.softmax(LOGITS(x)), X, Y, "must give logits, before the softmax, got prob"),
    "nan logits": (lambda x: jnp.log(LOGITS(x) - 1e3), X, Y, "must give numbers, got NaN or infinity for 5 of 5"),
    "one number an image": (lambda x: LOGITS(x)[:, 0], X, Y, "must give logits of shape [b k], got [1] for 1 image"),
    "no array": (lambda x: (LOGITS(x), x), X, Y, "must give logits of shape [b k], got tuple for 1 image"),
    "other images": (LOGITS, X[:, :3], Y, "the network cannot take images of shape [3, 4, 1]: "),
    "no network": (None, X, Y, "network must be a function images -> logits or a Victim, got NoneType"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_invalid_input_raises_one_line(case):
    logits_fn, x, y, message = REFUSED[case]
    with pytest.raises(ValueError) as caught:
        evaluate(logits_fn, x, y, ATTACK, KEY)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"key": 0}, "key must be a JAX random key, as jax.random.key(0), got 0"),
        ({"key": jax.random.split(KEY, 5)}, r"key must be a single key, got [5] of them"),
        ({"attack": "pgd"}, "attack must be an Attack, as PGD(Linf(8/255)), got 'pgd'"),
    ],
)
def test_invalid_settings_raise_one_line(changed, message):
    with pytest.raises(ValueError) as caught:
        evaluate(LOGITS, X, Y, **{"attack": ATTACK, "key": KEY} | changed)
    assert str(caught.value) == message


def test_legacy_keys_are_the_keys_of_today():
    one, two = (evaluate(LOGITS, X, Y, ATTACK, key) for key in (jax.random.PRNGKey(0), KEY))
    np.testing.assert_array_equal(one.x_adv, two.x_adv)


def test_logits_that_only_look_like_probabilities_pass():
    """One row that sums to 1 is chance; and rows of sum 1 may be negative."""
    shifted = lambda x: LOGITS(x) + (1 - LOGITS(x).sum(-1, keepdims=True)) / 3  # noqa: E731
    evaluate(shifted, X, Y, PGD(Linf(0.1), 0.1, 1), KEY)


# Networks.


class Normalised(nnx.Module):
    """An nnx network with state of its own."""

    def __init__(self, rngs: nnx.Rngs):
        self.norm, self.dense = nnx.BatchNorm(16, rngs=rngs), nnx.Linear(16, 3, rngs=rngs)

    def __call__(self, x):
        return self.dense(self.norm(x.reshape(len(x), -1)))


class Unhashable:
    """A callable that is compared by its weights, as some frameworks' are."""

    __hash__ = None

    def __call__(self, x):
        return LOGITS(x)


def test_networks_of_any_kind_are_functions():
    model = linen.Dense(3)
    variables = model.init(KEY, jnp.ones((1, 16)))
    closure = lambda x: model.apply(variables, x.reshape(len(x), -1))  # noqa: E731
    bound = functools.partial(lambda variables, x: model.apply(variables, x.reshape(len(x), -1)), variables)
    module = Normalised(nnx.Rngs(0))
    module.eval()
    for network in (closure, bound, module, Unhashable(), jax.jit(LOGITS)):
        y = np.argmax(network(X), -1)
        assert evaluate(network, X, y, PGD(Linf(0.3)), KEY).robust_accuracy < 1


def test_a_network_in_training_mode_is_refused():
    with pytest.raises(ValueError, match=r"the network must be in evaluation mode \(model.eval\(\) of nnx\): Cannot"):
        evaluate(Normalised(nnx.Rngs(0)), X, Y, ATTACK, KEY)


def test_a_victim_is_its_logits_and_may_reject():
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(16, 3)), jnp.float32)
    outputs = Partial(lambda weights, x: (x.reshape(len(x), -1) @ weights, None), weights)
    plain, same = (evaluate(network, X, Y, ATTACK, KEY) for network in (Victim(outputs), lambda x: outputs(x)[0]))
    np.testing.assert_allclose(plain.x_adv, same.x_adv, atol=1e-6)
    bright = Victim(outputs, Partial(lambda x: x.mean((1, 2, 3))), 0.5)
    guarded = evaluate(bright, X, Y, ATTACK, KEY)
    refused = guarded.x_adv.mean((1, 2, 3)) > 0.5
    np.testing.assert_array_equal(guarded.predictions, np.where(refused, REJECTED, plain.predictions))
    np.testing.assert_array_equal(guarded.clean_predictions == REJECTED, X.mean((1, 2, 3)) > 0.5)
    assert 0 < refused.sum() < 5 and f"rejected             {refused.sum()}/5" in repr(guarded)


# Programs, stages and progress.


def counted(logits_fn):
    """The network, and a list that grows whenever it is traced."""
    traces = []

    def network(x):
        traces.append(1)
        return logits_fn(x)

    return network, traces


def test_the_same_function_is_compiled_once():
    network, traces = counted(LOGITS)
    evaluate(network, X, Y, ATTACK, KEY)
    first = len(traces)
    evaluate(network, X, Y, ATTACK, jax.random.key(1))
    assert len(traces) == first + 1  # its shapes are looked at again


def test_a_stage_is_compiled_once_whatever_is_left():
    logits_fn, x, y = linear((6, 5, 1), classes=4)
    counts = []
    for rows in (2, 5):
        network, traces = counted(logits_fn)
        attack_run.run(function_victim(network), checked_examples(x[:rows], y[:rows]), SMALL_AUTOATTACK, KEY, 2)
        counts.append(len(traces))
    assert counts[0] == counts[1]


def test_networks_are_freed_with_their_programs(monkeypatch):
    """Whatever jax keeps of a compiled program, it is not the weights that the network closes over."""
    for name in ("_classified", "_outputs"):
        monkeypatch.setattr(attack_run, name, getattr(attack_run, name).__wrapped__)  # without the cache of programs

    def evaluated(seed):
        weights = jax.random.normal(jax.random.key(seed), (16, 3))
        network = lambda x: x.reshape(len(x), -1) @ weights  # noqa: E731
        evaluate(network, X, Y, fgsm(Linf(0.1)), KEY, 2)
        return weakref.ref(network)

    references = [evaluated(seed) for seed in range(3)]
    gc.collect()
    assert not any(reference() for reference in references)


def test_progress_reports_every_image_of_every_stage():
    logits_fn, x, y = linear((6, 5, 1), classes=4)
    reported = {}

    @contextlib.contextmanager
    def progress(stage, images):
        done = []
        yield done.append
        reported[stage] = images, sum(done)

    for attack in (PGD(Linf(0.001), 0.001, 2), SMALL_AUTOATTACK):
        evaluate(logits_fn, x, y, attack, KEY, 2, progress=progress)
    assert reported.pop("") == (5, 5)
    assert reported == dict.fromkeys(["apgd_ce", "apgd_t", "fab_t", "square"], (6, 6))  # full batches of those left


def test_a_cached_stage_is_not_computed_again():
    logits_fn, x, y = linear((6, 5, 1), classes=4)
    store: dict[str, Stage] = {}

    def cache(name, make):
        return store.setdefault(name, None) or store.update({name: make()}) or store[name]

    first = evaluate(logits_fn, x, y, SMALL_AUTOATTACK, KEY, 2, cache=cache)
    again = evaluate(logits_fn, x, y, SMALL_AUTOATTACK, KEY, 2, cache=lambda name, make: store[name])
    assert list(store) == list(first.stages) and again.to_json() == first.to_json()


def test_minimum_norm_attacks_have_no_ball_in_the_title():
    assert repr(evaluate(LOGITS, X, Y, FAB("L2", 2, 2), KEY)).startswith("FAB\nclean accuracy")
