"""Square Attack looks only at logits, proposes what the paper proposes, and fools what the authors' code fools."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poisonjax.attacks import L2, Linf, Margin
from poisonjax.attacks.square import Square, _bump, _bumped, _recoloured, _stripes, _tiles
from tests.attacks.references import from_torch, robust_accuracy, to_torch, torch_module, victim

SHAPE = (9, 7, 2)


@pytest.fixture(scope="module")
def official():
    return pytest.importorskip("pyautoattack.square", reason="the authors' code is in requirements-dev.txt")


@pytest.fixture(scope="module")
def image():
    return jnp.asarray(np.random.default_rng(0).uniform(0.3, 0.7, SHAPE), jnp.float32)


def blind(x):
    """Logits of four classes whose gradient is an error."""

    @jax.custom_vjp
    def logits(x):
        return x.reshape(len(x), 4, -1).mean(-1)

    def no_gradient(*_):
        raise AssertionError("a score-based attack asked for a gradient")

    logits.defvjp(no_gradient, no_gradient)
    return logits(x)


@pytest.mark.parametrize("ball", [Linf(0.1), L2(0.5)])
def test_no_gradient_is_taken(ball):
    x = jax.random.uniform(jax.random.key(1), (6, 8, 8, 1), minval=0.3, maxval=0.7)
    y = jnp.argmax(blind(x), -1)
    x_adv = jax.jit(lambda key: Square(ball, queries=60)(blind, x, y, key))(jax.random.key(0))
    assert np.all(Margin()(blind(x_adv), y) > Margin()(blind(x), y))
    with pytest.raises(AssertionError, match="asked for a gradient"):
        jax.grad(lambda x: blind(x).sum())(x)


@pytest.mark.parametrize(("adversarial", "ball"), [(False, L2(1.2)), (True, Linf(0.25))])
def test_robust_accuracy_of_the_authors_code(official, adversarial, ball):
    """Within two images of 32, a standard deviation of the difference between two random searches, averaged over
    three seeds."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    net, module = victim(adversarial), torch_module(victim(adversarial).params)
    settings = {"norm": type(ball).__name__, "n_queries": 200, "eps": ball.eps, "resc_schedule": False}
    theirs, ours = [], []
    attack = jax.jit(lambda key: Square(ball, 200)(net.logits_fn, net.x, net.y, key))
    for seed in range(3):
        searched = official.SquareAttack(module, seed=seed, device="cpu", **settings)
        with torch.no_grad():
            x_adv = searched.perturb(to_torch(net.x), torch.tensor(np.array(net.y)).long())
        theirs.append(robust_accuracy(net.logits_fn, from_torch(x_adv), net.y))
        ours.append(robust_accuracy(net.logits_fn, attack(jax.random.key(seed)), net.y))
    assert 0.1 < np.mean(theirs) < 0.98
    assert np.mean(ours) <= np.mean(theirs) + 2 / 32


@pytest.mark.parametrize("side", [1, 3, 5, 8, 13])
def test_bumps_are_those_of_the_authors(official, side):
    attack = official.SquareAttack(None, norm="L2", eps=1.0, device="cpu")
    theirs = [attack.eta(side).numpy() for _ in range(16)]  # turned or not, at random
    for turned in (False, True):
        ours = np.asarray(_bump(np.arange(13)[:, None], np.arange(13)[None], side, turned))
        assert min(np.abs(ours[:side, :side] - bump).max() for bump in theirs) < 1e-6
        assert not ours[side:].any() and not ours[:, side:].any()


@pytest.mark.parametrize("ball", [Linf(0.1), L2(0.5)])
def test_sizes_are_those_of_the_authors(official, ball):
    """From the first to the last halving of the area, at 28 x 28 pixels."""
    theirs = official.SquareAttack(None, norm=type(ball).__name__, eps=0.1, p_init=0.8, resc_schedule=False)
    sides = jax.jit(lambda squares: Square(ball)._side(squares, (28, 28)))
    for squares in (0, 10, 11, 50, 51, 201, 501, 1001, 2001, 4001, 6001, 8000, 8001, 9999):
        side = round((theirs.p_selection(squares) * 28 * 28) ** 0.5)
        expected = max(side, 1) if isinstance(ball, Linf) else max(side, 3) // 2 * 2 + 1
        assert int(sides(squares)) == expected


def test_linf_starts_with_stripes_and_changes_squares(image):
    start = _stripes(jax.random.key(0), image, 0.1)
    moved = np.asarray(start - image)
    np.testing.assert_allclose(np.abs(moved), 0.1, atol=1e-6)
    np.testing.assert_allclose(moved, np.broadcast_to(moved[:1], SHAPE), atol=1e-6)
    corners = set()
    for seed in range(60):
        changed = np.asarray(_recoloured(jax.random.key(seed), image, image, 0.1, 3) - image)
        rows, columns = (np.flatnonzero(np.any(changed != 0, axes)) for axes in ((1, 2), (0, 2)))
        assert (np.diff(rows) == 1).all() and (np.diff(columns) == 1).all() and len(rows) == len(columns) == 3
        square = changed[rows[0] : rows[0] + 3, columns[0] : columns[0] + 3]
        np.testing.assert_allclose(np.abs(square), 0.1, atol=1e-6)
        np.testing.assert_allclose(square, np.broadcast_to(square[:1, :1], square.shape), atol=1e-6)
        corners.add((int(rows[0]), int(columns[0])))
    reached = np.array(sorted(corners))
    assert reached.min(0).tolist() == [0, 0] and reached.max(0).tolist() == [6, 4] and len(corners) > 15


def test_l2_uses_the_whole_budget_and_moves_it_between_squares(image):
    start = _tiles(jax.random.key(0), image, 0.5)
    assert np.linalg.norm(start - image) == pytest.approx(0.5, rel=1e-5)
    changed = np.asarray(_bumped(jax.random.key(1), image, start, 0.5, 3))
    assert np.linalg.norm(changed - image) == pytest.approx(0.5, rel=1e-5)
    touched = np.any(np.abs(changed - np.asarray(start)) > 1e-6, -1)
    assert 9 <= touched.sum() <= 18
    emptied = np.all(np.abs(changed - np.asarray(image)) < 1e-7, -1) & np.any(np.asarray(start != image), -1)
    assert 1 <= emptied.sum() <= 9


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Square(Linf(0.1), queries=0), "queries must be at least 1"),
        (lambda: Square(Linf(0.1), p_init=0.0), r"p_init .* \(0, 1\], got 0.0"),
        (lambda: Square(L2(0.1), p_init=1.1), "p_init"),
    ],
)
def test_impossible_settings_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
