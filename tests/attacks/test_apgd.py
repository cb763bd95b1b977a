"""Auto-PGD takes the steps of its authors' code, from the same start, on every loss and ball."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poisonjax.attacks import L2, CrossEntropy, Linf, Margin
from poisonjax.attacks.apgd import APGD, TargetedAPGD, _evaluation, likeliest
from poisonjax.attacks.losses import DLR, targeted_dlr
from poisonjax.types import LogitsFn
from tests.attacks.references import from_torch, robust_accuracy, to_torch, torch_module, victim

autopgd = pytest.importorskip("pyautoattack.autopgd_base", reason="the authors' code is in requirements-dev.txt")
torch = pytest.importorskip("torch", reason="the authors' code needs PyTorch")

ROWS, SHAPE, CLASSES = 16, (8, 8, 1), 6
BALLS = [Linf(0.03), L2(0.15)]


def kind(ball):
    return type(ball).__name__


def labels(y):
    return torch.tensor(np.array(y)).long()


class Net(NamedTuple):
    """A smooth network of fixed random weights in JAX and in PyTorch, with images that it classifies as labelled."""

    logits_fn: LogitsFn
    module: Callable
    x: jax.Array
    y: jax.Array


@pytest.fixture
def double():
    """Both frameworks in double precision, so that a hundred steps do not blow rounding up."""
    torch.set_default_dtype(torch.float64)
    with jax.enable_x64(True):
        yield
    torch.set_default_dtype(torch.float32)


def smooth_net():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(64, 24)) / 5, rng.normal(size=(24, CLASSES))
    x = jnp.asarray(rng.random((ROWS, *SHAPE)))

    def logits_fn(x):
        return jnp.tanh((x.reshape(len(x), -1) - 0.5) @ first) @ second

    def module(x):
        return torch.tanh((x.flatten(1) - 0.5) @ torch.tensor(first)) @ torch.tensor(second)

    return Net(logits_fn, module, x, jnp.argmax(logits_fn(x), -1))


def starts(ball, x):
    noise = ball.sample(jax.random.split(jax.random.key(5), len(x)), x.shape[1:])
    return jnp.clip(x + ball.eps * noise, 0, 1)


def their_run(net, name, ball, target):
    """The best points [b h w c], their losses [b], and the points of all steps, [steps + 1 b h w c]."""
    seen = []

    def model(x):
        seen.append(from_torch(x))
        return net.module(x)

    of = {"n_iter": 100, "norm": kind(ball), "eps": ball.eps, "device": "cpu"}
    targeted = name == "dlr-targeted"
    attack = autopgd.APGDAttack_targeted(model, **of) if targeted else autopgd.APGDAttack(model, loss=name, **of)
    attack.init_hyperparam(to_torch(net.x))
    attack.y_target = labels(target)
    best, _, loss, _ = attack.attack_single_run(to_torch(net.x), labels(net.y), x_init=to_torch(starts(ball, net.x)))
    return from_torch(best), loss.numpy(), np.stack(seen)


def our_run(net, loss, ball):
    """loss: of logits alone."""
    evaluate, none = _evaluation(net.logits_fn, loss, net.y), jnp.zeros(ROWS, bool)
    climb = lambda start: APGD(ball)._climb(evaluate, net.x, start, none, ball.eps)  # noqa: E731
    return jax.jit(climb)(starts(ball, net.x))


@pytest.mark.parametrize("ball", BALLS, ids=kind)
@pytest.mark.parametrize("name", ["ce", "dlr", "dlr-targeted"])
def test_a_run_is_that_of_the_authors(name, ball, double):
    """From the same start: the best of 101 points is the same only if all the steps before it are. Where a point is
    misclassified ours ends, and theirs goes on."""
    net = smooth_net()
    target = likeliest(net.logits_fn(net.x), 2)[:, 1]
    losses = {
        "ce": lambda logits: CrossEntropy()(logits, net.y),
        "dlr": lambda logits: DLR()(logits, net.y),
        "dlr-targeted": lambda logits: targeted_dlr(logits, net.y, target),
    }
    best, loss, points = their_run(net, name, ball, target)
    ours = our_run(net, losses[name], ball)
    wrong = np.stack([np.argmax(net.logits_fn(jnp.asarray(point)), -1) != net.y for point in points])
    fooled, first = wrong.any(0), points[wrong.argmax(0), np.arange(ROWS)]
    assert min(fooled.sum(), (~fooled).sum()) >= 4
    np.testing.assert_array_equal(ours.wrong, fooled)
    np.testing.assert_allclose(ours.x, np.where(fooled[:, None, None, None], first, best), atol=1e-4)
    np.testing.assert_allclose(ours.loss[~fooled], loss[~fooled], atol=1e-4)


def test_checkpoints_of_the_paper():
    at = np.flatnonzero(APGD(Linf(0.1), steps=100)._windows())
    np.testing.assert_array_equal(at, [22, 41, 57, 70, 80, 87, 93, 99])  # section 3.1: p_j with .22, .03 and .06
    for steps in (1, 2, 9, 30):
        windows = APGD(Linf(0.1), steps=steps)._windows()
        assert windows.sum() <= steps and len(windows) == steps + 1


@pytest.mark.parametrize(("name", "ball"), [("ce", Linf(0.07)), ("dlr-targeted", L2(1.0))])
def test_robust_accuracy_of_the_authors_code(name, ball):
    """Within one image of 32: the starts are drawn by different generators, and in L2 in the ball, not on its edge."""
    net, steps, targets = victim(), 20, 3
    if name == "ce":
        theirs = autopgd.APGDAttack(torch_module(net.params), steps, kind(ball), eps=ball.eps, loss="ce")
        ours = APGD(ball, steps)
    else:
        names = {"eps": ball.eps, "n_target_classes": targets}
        theirs = autopgd.APGDAttack_targeted(torch_module(net.params), steps, kind(ball), **names)
        ours = TargetedAPGD(ball, steps, targets=targets)
    reached = robust_accuracy(net.logits_fn, from_torch(theirs.perturb(to_torch(net.x), labels(net.y))), net.y)
    x_adv = jax.jit(lambda x, y: ours(net.logits_fn, x, y, jax.random.key(0)))(net.x, net.y)
    assert 0.05 < reached < 0.95
    assert robust_accuracy(net.logits_fn, x_adv, net.y) <= reached + 1 / 32


def test_restarts_begin_elsewhere_and_only_for_rows_that_need_them():
    """A pixel that is misclassified at 0 only, and a ridge at a half: half of the starts are on the wrong side."""

    def logits_fn(x):
        pixel = x[:, 0, 0, 0]
        return jnp.stack([jnp.zeros(len(x)), jnp.where(pixel < 0.5, 1 - 4 * pixel, pixel - 1.2)], -1)

    def run(restarts):
        attack, x = APGD(Linf(0.5), steps=3, restarts=restarts), jnp.full((ROWS, 1, 1, 1), 0.5)
        return attack(logits_fn, x, jnp.zeros(ROWS, int), jax.random.key(0))

    one, many = run(1), run(12)
    fooled = logits_fn(one)[:, 1] > 0
    assert 3 < fooled.sum() < ROWS - 3 and jnp.all(logits_fn(many)[:, 1] > 0)
    np.testing.assert_array_equal(many[fooled], one[fooled])


def test_best_loss_does_not_stop_at_a_success():
    net = smooth_net()

    def run(best_loss):
        attack = APGD(Linf(0.05), steps=10, best_loss=best_loss)
        x_adv = jax.jit(lambda x, y: attack(net.logits_fn, x, y, jax.random.key(0)))(net.x, net.y)
        return CrossEntropy()(net.logits_fn(x_adv), net.y), jnp.argmax(net.logits_fn(x_adv), -1) != net.y

    (first, fooled), (highest, _) = run(False), run(True)
    further = (highest - first)[fooled]
    assert len(further) >= 4 and jnp.all(further > -1e-5) and jnp.mean(further > 0.01) > 0.5
    np.testing.assert_allclose(highest[~fooled], first[~fooled], atol=1e-5)


def test_targets_are_the_likeliest_wrong_classes():
    logits = jnp.array([[1.0, 5.0, 3.0, 2.0]])
    np.testing.assert_array_equal(likeliest(logits, 2), [[2, 3]])
    np.testing.assert_array_equal(likeliest(logits, 9), [[2, 3, 0]])


def test_dlr_ignores_shift_and_scale_and_has_the_sign_of_the_margin():
    logits = jax.random.normal(jax.random.key(0), (50, 6))
    y, target = jnp.arange(50) % 6, (jnp.arange(50) + 1) % 6
    for loss in (DLR(), lambda logits, y: targeted_dlr(logits, y, target)):
        np.testing.assert_allclose(loss(logits, y), loss(7 * logits - 3, y), rtol=1e-3)
    np.testing.assert_array_equal(DLR()(logits, y) > 0, Margin()(logits, y) > 0)


def test_dlr_by_hand():
    logits, y = jnp.array([[4.0, 1.0, 3.0, 0.0], [4.0, 1.0, 3.0, 0.0]]), jnp.array([0, 1])
    np.testing.assert_allclose(DLR()(logits, y), [(3 - 4) / (4 - 1), (4 - 1) / (4 - 1)], rtol=1e-6)
    theirs = targeted_dlr(logits, y, jnp.array([2, 3]))
    np.testing.assert_allclose(theirs, [(3 - 4) / (4 - 0.5), (0 - 1) / (4 - 0.5)], rtol=1e-6)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: APGD(Linf(0.1), steps=0), "steps must be at least 1, got 0"),
        (lambda: APGD(Linf(0.1), rho=1.5), r"rho .* \[0, 1\], got 1.5"),
        (lambda: APGD(Linf(0.1), restarts=0), "restarts must be at least 1"),
        (lambda: TargetedAPGD(Linf(0.1), steps=0), "steps must be"),
        (lambda: TargetedAPGD(Linf(0.1), targets=0), "targets must be at least 1"),
        (lambda: DLR()(jnp.zeros((1, 2)), jnp.array([0])), "at least 3 classes, got 2"),
        (lambda: targeted_dlr(jnp.zeros((1, 3)), *2 * [jnp.array([0])]), "at least 4 classes, got 3"),
    ],
)
def test_impossible_settings_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
