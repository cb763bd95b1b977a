"""A ball projects to its nearest point, moves as steeply as it can and draws uniformly."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from poisonjax.attacks.balls import L0, L1, L2, Ball, Linf, ascent_direction, project

BALLS = [Linf(0.3), L2(2.0), L1(4.0), L1(4.0, share=0.2), L0(4)]
CONVEX = BALLS[:-1]
SHAPE = (4, 3, 2)


def length(ball: Ball, delta) -> np.ndarray:
    """Of each row of [b h w c] in the ball's norm, [b], in double precision."""
    size = np.abs(np.asarray(delta, np.float64))
    if isinstance(ball, L0):
        return (size > 0).any(-1).sum((1, 2))
    rows = size.reshape(len(size), -1)
    return {Linf: rows.max(1), L2: np.sqrt((rows**2).sum(1)), L1: rows.sum(1)}[type(ball)]


def reached(ball: Ball, gradient) -> np.ndarray:
    """The most that <gradient, delta> can be for a delta of length one: the dual norm, [b]."""
    return length({Linf: L1(1), L2: L2(1), L1: Linf(1)}[type(ball)], gradient)


def product(first, second) -> np.ndarray:
    return (np.asarray(first, np.float64) * np.asarray(second, np.float64)).sum((1, 2, 3))


@pytest.fixture(scope="module")
def deltas():
    """Rows from far outside of every ball to well project, with equal sizes and zeros among them."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(8, *SHAPE)) * np.array([100, 10, 3, 1, 1, 1, 0.01, 0])[:, None, None, None]
    rows[4] = np.sign(rows[4])
    rows[5] *= rng.random(SHAPE) < 0.2
    return rows.astype(np.float32)


@pytest.mark.parametrize("ball", CONVEX, ids=str)
def test_projection_is_the_nearest_point(ball, deltas):
    nearest = ball.project(deltas, ball.eps)
    assert np.all(length(ball, nearest) <= ball.eps * (1 + 1e-6))
    # Of a convex set: no point of it lies farther than the nearest one in the direction of what is cut off.
    rest = deltas - np.asarray(nearest, np.float64)
    np.testing.assert_allclose(product(rest, nearest), ball.eps * reached(ball, rest), rtol=1e-4, atol=1e-4)


def test_l0_projection_is_the_nearest_of_all_choices_of_pixels(deltas):
    nearest = np.asarray(L0(3).project(deltas, 3))
    chosen = np.zeros((220, 12, 1))
    for row, pixels in enumerate(itertools.combinations(range(12), 3)):
        chosen[row, list(pixels)] = 1
    rest = (deltas.reshape(-1, 1, 12, 2) * (1 - chosen)) ** 2
    np.testing.assert_allclose(((deltas - nearest) ** 2).sum((1, 2, 3)), rest.sum((2, 3)).min(1), rtol=1e-5)
    assert np.all((nearest == 0) | (nearest == deltas))


def test_l0_keeps_no_more_pixels_when_their_changes_are_equal():
    for radius, kept in [(0, 0), (1, 1), (2.9, 2), (5, 5), (99, 12)]:
        assert length(L0(1), L0(1).project(jnp.ones((1, *SHAPE)), radius)) == kept


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_projection_leaves_what_is_inside_and_nothing_at_radius_zero(ball, deltas):
    once = ball.project(deltas, ball.eps)
    np.testing.assert_allclose(ball.project(once, ball.eps), once, rtol=1e-5, atol=1e-7)
    near = length(ball, deltas) <= ball.eps
    assert near.any() and not near.all()
    np.testing.assert_array_equal(once[near], deltas[near])
    np.testing.assert_array_equal(ball.project(deltas, 0.0), np.zeros_like(deltas))


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_project_is_idempotent_and_in_the_ball_and_the_box(ball, deltas):
    x = np.random.default_rng(1).random(deltas.shape, np.float32)
    once = project(ball, x, x + deltas, ball.eps)
    assert np.all(length(ball, once - x) <= ball.eps * (1 + 1e-5)) and once.min() >= 0 and once.max() <= 1
    np.testing.assert_allclose(project(ball, x, once, ball.eps), once, atol=1e-6)
    np.testing.assert_array_equal(project(ball, x, x + deltas, 0.0), x)


@pytest.mark.parametrize("ball", [Linf(0.3), L2(2.0), L1(4.0)], ids=str)
def test_no_move_of_length_one_is_steeper(ball, deltas):
    move = ball.steepest(deltas)
    np.testing.assert_allclose(length(ball, move), np.where(length(ball, deltas) > 0, 1, 0), rtol=1e-5)
    np.testing.assert_allclose(product(move, deltas), reached(ball, deltas), rtol=1e-5)


def test_l1_shares_its_move_among_the_steepest_coordinates():
    gradient = jnp.array([1.0, -9, 3, 0, 7, -2, 0.5, -8, 4, 1]).reshape(1, 2, 5, 1)
    shared = L1(1.0, share=0.3).steepest(gradient)
    np.testing.assert_allclose(shared.ravel(), np.array([0, -1, 0, 0, 1, 0, 0, -1, 0, 0]) / 3, rtol=1e-6)


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_moves_survive_tiny_gradients(ball):
    gradient = jnp.zeros((2, *SHAPE)).at[0].set(1e-30)
    move = np.asarray(ball.steepest(gradient), np.float64)
    assert np.abs(move[0]).max() > 0.01 and not move[1].any() and np.isfinite(move).all()


@pytest.mark.parametrize(("ball", "moved"), [(L1(1.0, share=0.2), 1), (L0(1), 3)], ids=str)
def test_sparse_moves_skip_saturated_pixels(ball, moved):
    x, gradient = jnp.array([1.0, 0, 0.5, 1, 0]), jnp.array([9.0, -9, 2, -1, 1])
    move = ascent_direction(ball, x.reshape(1, 5, 1, 1), gradient.reshape(1, 5, 1, 1)).ravel()
    assert np.flatnonzero(move).tolist() == [2, 3, 4][:moved]


@pytest.mark.parametrize("ball", CONVEX[:3], ids=str)
def test_draws_are_uniform_in_the_ball(ball):
    noise = np.asarray(ball.sample(jax.random.split(jax.random.key(0), 2000), SHAPE))
    chex.assert_shape(noise, (2000, *SHAPE))
    size, volume = noise.size / 2000, length(ball, noise)
    assert volume.max() <= 1 + 1e-6
    assert stats.kstest(volume**size, "uniform").pvalue > 0.01  # what lies within a radius grows like its volume
    # By symmetry any two coordinates are alike, and each sign is as likely as the other.
    assert stats.ks_2samp(noise[:, 0, 0, 0], -noise[:, 3, 2, 1]).pvalue > 0.01
    assert np.abs(noise.mean(0)).max() < 4 * noise.std() / 2000**0.5


def test_l1_draws_have_the_marginal_of_a_uniform_one():
    noise = np.abs(L1(1.0).sample(jax.random.split(jax.random.key(1), 2000), SHAPE))
    assert stats.kstest((1 - noise[:, 1, 1, 1]) ** 24, "uniform").pvalue > 0.01  # a smaller ball is left beyond it


def test_l0_draws_choose_every_pixel_as_often():
    noise = 4 * np.asarray(L0(4).sample(jax.random.split(jax.random.key(0), 2000), SHAPE))
    assert np.all(length(L0(4), noise) == 4)
    assert np.abs((noise != 0).mean(0) - 1 / 3).max() < 0.05
    assert stats.kstest(noise[noise != 0][::7], "uniform", (-1, 2)).pvalue > 0.01


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_every_image_is_within_the_largest_radius(ball):
    black, white = jnp.zeros((1, *SHAPE)), jnp.ones((1, *SHAPE))
    np.testing.assert_allclose(length(ball, white - black), ball.max_radius(SHAPE), rtol=1e-6)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Linf(8), r"eps must lie in \[0, 1\].*got 8"),
        (lambda: Linf(-0.1), "eps must lie"),
        (lambda: Linf(float("nan")), "eps must lie"),
        (lambda: L2(-1), "not negative"),
        (lambda: L1(-1), "not negative"),
        (lambda: L1(float("nan")), "not negative"),
        (lambda: L1(1.0, share=0.0), r"share .* \(0, 1\], got 0"),
        (lambda: L1(1.0, share=1.1), r"share .* \(0, 1\], got 1.1"),
        (lambda: L0(-1), "whole number"),
        (lambda: L0(2.5), "whole number.*got 2.5"),
        (lambda: L0(float("inf")), "whole number"),
    ],
)
def test_impossible_balls_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_features_of_a_row_are_pixels_of_one_channel(ball, deltas):
    rows, images = deltas.reshape(8, 24), deltas.reshape(8, 24, 1, 1)
    keys = jax.random.split(jax.random.key(2), 3)
    pairs = [
        (ball.project(rows, ball.eps), ball.project(images, ball.eps)),
        (ball.steepest(rows), ball.steepest(images)),
        (ball.sample(keys, (24,)), ball.sample(keys, (24, 1, 1))),
    ]
    for of_rows, of_images in pairs:
        assert of_rows.shape[1:] == (24,)
        np.testing.assert_allclose(of_rows, of_images.reshape(of_rows.shape), rtol=1e-6)
    assert ball.max_radius((24,)) == ball.max_radius((24, 1, 1))
