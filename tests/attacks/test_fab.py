"""FAB projects exactly, and ends as close to an image as its authors' code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from poisonjax.attacks.fab import FAB, length, projection
from tests.attacks.references import from_torch, to_torch, torch_module, victim

NORMS = ("Linf", "L2")


@pytest.fixture(scope="module")
def net():
    return victim(images=16)


def planes(rows, shape, reach, scale=0.0, seed=0):
    """Points of the box, some of their pixels at its faces, and planes at `reach` of the way to the farthest corner."""
    rng = np.random.default_rng(seed)
    x = rng.random((rows, *shape)).astype(np.float32)
    x.reshape(rows, -1)[:, :2] = [0, 1]
    normal = (rng.normal(size=x.shape) * 10 ** rng.uniform(-scale, scale, (rows, 1, 1, 1))).astype(np.float32)
    normal.reshape(rows, -1)[:, 2] = 0
    sign = rng.choice([-1, 1], rows)
    corner = np.where(normal * sign[:, None, None, None] > 0, 1 - x, -x)
    return x, normal, (reach * (normal * corner).sum((1, 2, 3))).astype(np.float32)


def by_scipy(norm, x, normal, gap):
    """The same projection of one point, by a general solver."""
    box = list(zip(-x, 1 - x, strict=True))
    if norm == "Linf":  # minimise s with -s <= delta <= s
        eye, one = np.eye(len(x)), np.ones((len(x), 1))
        below = np.block([[eye, -one], [-eye, -one]])
        plane = np.append(normal, 0)[None]
        cost = np.append(np.zeros(len(x)), 1)
        return optimize.linprog(cost, below, np.zeros(2 * len(x)), plane, [gap], [*box, (0, None)]).x[:-1]
    plane = {"type": "eq", "fun": lambda d: d @ normal - gap, "jac": lambda d: normal}
    start = gap * normal / (normal @ normal)
    settings = {"jac": lambda d: 2 * d, "bounds": box, "constraints": plane, "tol": 1e-12}
    return optimize.minimize(lambda d: d @ d, start, **settings).x


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("reach", [0.05, 0.5, 0.95])
def test_projection_is_the_nearest_point_of_plane_and_box(norm, reach):
    x, normal, gap = planes(12, (2, 4, 1), reach)
    ours = np.asarray(projection(norm, x, normal, gap), np.float64)
    assert (x + ours).min() >= -1e-6 and (x + ours).max() <= 1 + 1e-6
    np.testing.assert_allclose((ours * normal).sum((1, 2, 3)), gap, rtol=1e-4)
    nearest = [
        by_scipy(norm, *(part.ravel().astype(float) for part in row)) for row in zip(x, normal, gap, strict=True)
    ]
    lengths = length(norm, np.reshape(nearest, x.shape))
    np.testing.assert_allclose(length(norm, ours), lengths, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("reach", [0.0, 0.02, 0.6, 1.2])
def test_projection_is_that_of_the_authors(norm, reach):
    """At every scale of the gradient, and for planes that miss the box too."""
    theirs = pytest.importorskip("pyautoattack.fab_projections", reason="the authors' code is not installed")
    torch = pytest.importorskip("torch")
    x, normal, gap = planes(32, (8, 8, 1), reach, scale=3.0)
    flat = [torch.tensor(part.reshape(32, -1), dtype=torch.float64) for part in (x, normal)]
    of = {"Linf": theirs.projection_linf, "L2": theirs.projection_l2}[norm]
    expected = of(*flat, torch.tensor(gap) + (flat[0] * flat[1]).sum(1)).numpy()
    ours = projection(norm, x, normal, gap)
    np.testing.assert_allclose(np.reshape(ours, expected.shape), expected, atol=2e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_projection_survives_gradients_that_vanish(norm):
    x, normal, gap = planes(4, (2, 4, 1), 0.3)
    tiny = np.float32(1e-30)
    np.testing.assert_allclose(
        projection(norm, x, tiny * normal, tiny * gap), projection(norm, x, normal, gap), atol=1e-5
    )
    np.testing.assert_array_equal(projection(norm, x, 0 * normal, gap), 0 * x)
    np.testing.assert_array_equal(projection(norm, x, normal, 0 * gap), 0 * x)


def run(net, attack):
    return jax.jit(lambda x, y: attack(net.logits_fn, x, y, jax.random.key(0)))(net.x, net.y)


@pytest.mark.parametrize("norm", NORMS)
def test_distances_of_the_authors_code(net, norm):
    """Row by row within 1 %, but for one row in eight: it draws nothing at random, but takes other turns when rounding
    decides. The images are adversarial beyond rounding, as theirs need not be."""
    fab = pytest.importorskip("pyautoattack.fab_pt", reason="the authors' code is in requirements-dev.txt")
    torch = pytest.importorskip("torch")
    steps, targets, y = 20, 3, torch.tensor(np.array(net.y)).long()
    theirs = fab.FABAttack_PT(torch_module(net.params), norm=norm, n_iter=steps, targeted=True, device="cpu")
    found = []
    for theirs.target_class in range(2, targets + 2):
        with torch.no_grad():
            x_adv = jnp.asarray(from_torch(theirs.attack_single_run(to_torch(net.x), y, is_targeted=True)))
        distance = length(norm, x_adv - net.x)
        found.append(jnp.where(distance > 0, distance, jnp.inf))
    x_adv = run(net, FAB(norm, steps, targets))
    assert np.all(np.argmax(net.logits_fn(x_adv), -1) != net.y)
    ratio = np.asarray(length(norm, x_adv - net.x) / np.min(found, 0))
    assert np.mean(np.abs(ratio - 1) > 0.01) <= 1 / 8, ratio
    assert np.median(np.abs(ratio - 1)) < 1e-5


@pytest.mark.parametrize("norm", NORMS)
def test_eps_stops_at_the_first_image_within_it(net, norm):
    closest = run(net, FAB(norm, 10, 2))
    distance = np.asarray(length(norm, closest - net.x))
    eps = float(np.median(distance))
    x_adv = run(net, FAB(norm, 10, 2, eps=eps))
    kept = np.asarray(length(norm, x_adv - net.x))
    near = distance <= eps
    assert near.any() and not near.all()
    np.testing.assert_array_equal(x_adv[~near], net.x[~near])
    assert np.all((kept[near] > 0) & (kept[near] <= eps)) and np.all(kept[near] >= distance[near] - 1e-6)


def test_restarts_only_come_nearer(net):
    once, twice = (length("L2", run(net, FAB("L2", 5, 2, restarts)) - net.x) for restarts in (1, 3))
    assert np.all(twice <= once + 1e-6) and np.any(twice < once - 1e-4)


def test_rows_without_an_adversarial_image_are_returned_unchanged(net):
    """A network that always says 0, whatever the gradient says; labels that are wrong from the start as well."""

    def stubborn(x):
        logits = net.logits_fn(x)
        return logits.at[:, 0].add(1e6)

    for y in (jnp.zeros_like(net.y), jnp.ones_like(net.y)):
        x_adv = jax.jit(lambda y: FAB("Linf", 3, 2)(stubborn, net.x, y, jax.random.key(0)))(y)
        np.testing.assert_array_equal(x_adv, net.x)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FAB("L1"), "norm must be Linf or L2, got 'L1'"),
        (lambda: FAB(steps=0), "steps must be at least 1"),
        (lambda: FAB(targets=0), "targets must be at least 1"),
        (lambda: FAB(restarts=0), "restarts must be at least 1"),
        (lambda: FAB(alpha_max=1.5), r"alpha_max .* \[0, 1\], got 1.5"),
        (lambda: FAB(beta=-0.1), "beta is a fraction"),
        (lambda: FAB(eta=0.9), "eta must be at least 1"),
        (lambda: FAB(eps=-0.1), "eps must not be negative"),
    ],
)
def test_impossible_settings_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
