"""The operations compute what lax and flax compute, on every platform, and stay fast inside loops."""

import re
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from poisonjax.models import ops
from poisonjax.models.ops import conv, depthwise_conv, max_pool2, relu

CASES = {  # image [h w c], kernel [i j c f] or, depthwise, [i j 1 c], stride, padding
    "grey image": ((9, 8, 1), (5, 4, 1, 6), 1, "SAME"),
    "colour image, unpadded": ((7, 8, 3), (3, 3, 3, 4), 1, "VALID"),
    "channels": ((6, 7, 6), (5, 4, 6, 7), 1, "SAME"),
    "channels, unpadded": ((7, 6, 6), (3, 3, 6, 5), 1, "VALID"),
    "kernel as large as the image": ((3, 4, 6), (3, 4, 6, 5), 1, "VALID"),
    "lopsided": ((6, 5, 5), (2, 3, 5, 6), 1, ((0, 2), (1, 0))),
    "padded beyond the kernel": ((4, 5, 6), (3, 2, 6, 2), 1, ((4, 3), (0, 5))),
    "one tap": ((5, 4, 6), (1, 1, 6, 3), 1, "SAME"),
    "stride of the small network": ((12, 12, 1), (4, 4, 1, 4), 2, ((1, 1), (1, 1))),
    "stride, odd image": ((9, 7, 6), (3, 3, 6, 5), 2, "SAME"),
    "stride, rows left over": ((8, 11, 5), (3, 3, 5, 6), 3, "VALID"),
    "stride of a shortcut": ((7, 6, 6), (1, 1, 6, 4), 2, "VALID"),
    "its second layer": ((6, 8, 6), (4, 4, 6, 5), 2, ((1, 1), (1, 1))),
    "blocks, odd image": ((9, 11, 6), (4, 6, 6, 5), (2, 3), "SAME"),
    "blocks, rows left over": ((11, 9, 5), (4, 2, 5, 3), 2, "VALID"),
    "blocks, lopsided": ((9, 6, 2), (2, 4, 2, 3), 2, ((0, 3), (2, 0))),
    "blocks of one row": ((8, 7, 6), (3, 4, 6, 5), (1, 2), "SAME"),
    "patches of a transformer": ((8, 8, 5), (4, 4, 5, 6), 4, "VALID"),
    "two strides": ((9, 8, 2), (3, 2, 2, 5), (3, 2), "SAME"),
    "depthwise": ((6, 7, 5), (3, 3, 1, 5), 1, "SAME"),
    "depthwise, unpadded, lopsided": ((6, 7, 3), (4, 3, 1, 3), 1, "VALID"),
    "depthwise, stride": ((8, 6, 6), (3, 3, 1, 6), 2, "SAME"),
    "depthwise, stride, odd image": ((7, 9, 3), (3, 3, 1, 3), 2, "SAME"),
    "depthwise, rows left over": ((8, 11, 5), (3, 2, 1, 5), (3, 4), "VALID"),
    "depthwise, padded beyond the kernel": ((4, 5, 2), (3, 2, 1, 2), 2, ((4, 3), (0, 5))),
    "depthwise, one pixel": ((1, 1, 4), (3, 3, 1, 4), 1, "SAME"),
}


def lax_conv(x, kernel, stride, padding):
    strides = (stride, stride) if isinstance(stride, int) else stride
    layout, groups = ("NHWC", "HWIO", "NHWC"), x.shape[-1] // kernel.shape[2]
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=layout, feature_group_count=groups)


def our_conv(x, kernel, stride, padding):
    return (conv if x.shape[-1] == kernel.shape[2] else depthwise_conv)(x, kernel, stride, padding)


def drawn(shapes, dtype=jnp.float32):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


def result_and_gradients(conv, stride, padding):
    """(x, kernel) -> (output, gradient for x, gradient for kernel), for a loss that weighs every output its own way."""

    def loss(x, kernel):
        y = conv(x, kernel, stride, padding)
        weights = jnp.asarray(np.linspace(-1, 1, y.size).reshape(y.shape), y.dtype)
        return jnp.sum(weights * y**2), y

    def run(x, kernel):
        gradients, y = jax.grad(loss, (0, 1), has_aux=True)(x, kernel)
        return y, *gradients

    return run


def descend(run, x, kernel):
    _, to_x, to_kernel = run(x, kernel)
    return x - 0.01 * to_x, kernel - 0.01 * to_kernel


def optimised(fn, *arguments) -> str:
    return jax.jit(fn).lower(*arguments).compile().as_text()


@pytest.fixture(params=["cpu", "default"])
def platform(request, monkeypatch):
    """Runs a test with what the CPU gets, and with what every other platform gets."""
    monkeypatch.setattr(
        lax,
        "platform_dependent",
        lambda *arrays, cpu, default: {"cpu": cpu, "default": default}[request.param](*arrays),
    )


@pytest.mark.parametrize("image, kernel, stride, padding", CASES.values(), ids=CASES)
def test_convolution_and_gradients_equal_those_of_lax(image, kernel, stride, padding):
    arrays = drawn([(2, *image), kernel])
    ours, theirs = (jax.jit(result_and_gradients(each, stride, padding)) for each in (our_conv, lax_conv))
    chex.assert_trees_all_close(ours(*arrays), theirs(*arrays), atol=1e-4, rtol=1e-4)
    looped = jax.jit(lambda *arrays: lax.fori_loop(0, 2, lambda _, carry: descend(ours, *carry), arrays))(*arrays)
    chex.assert_trees_all_close(looped, descend(theirs, *descend(theirs, *arrays)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "case", ["channels, unpadded", "stride of the small network", "its second layer", "depthwise", "depthwise, stride"]
)
def test_convolution_in_bfloat16(case):
    image, kernel, stride, padding = CASES[case]
    arrays = drawn([(3, *image), kernel], jnp.bfloat16)
    ours = jax.jit(result_and_gradients(our_conv, stride, padding))(*arrays)
    exact = jax.jit(result_and_gradients(lax_conv, stride, padding))(*(array.astype(jnp.float32) for array in arrays))
    assert all(array.dtype == jnp.bfloat16 for array in ours)
    for array, reference in zip(ours, exact, strict=True):
        error = jnp.linalg.norm(array.astype(jnp.float32) - reference) / jnp.linalg.norm(reference)
        assert error < 0.02  # of values and products with 8 bits each


@pytest.mark.parametrize("case", ["channels", "grey image", "its second layer", "depthwise"])
def test_convolution_under_vmap_and_pmap(case):
    image, kernel, stride, padding = CASES[case]
    x, kernel = drawn([(2, 3, *image), kernel])
    run = jax.jit(result_and_gradients(our_conv, stride, padding))
    first, second = run(x[0], kernel), run(x[1], kernel)
    mapped = jax.jit(jax.vmap(run, (0, None)))(x, kernel)
    chex.assert_trees_all_close(mapped, jax.tree.map(lambda *parts: jnp.stack(parts), first, second), atol=1e-4)
    mapped = jax.pmap(run, in_axes=(0, None), devices=jax.devices()[:1])(x[:1], kernel)
    chex.assert_trees_all_close(mapped, jax.tree.map(lambda part: part[None], first), atol=1e-4)


@pytest.mark.parametrize("case", ["channels", "stride of the small network", "its second layer", "depthwise, stride"])
def test_gradient_of_a_gradient(case):
    image, kernel, stride, padding = CASES[case]
    arrays = drawn([(2, *image), kernel])

    def steepness(conv):
        def loss(x, kernel):
            return jnp.sum(conv(x, kernel, stride, padding) ** 3)

        return lambda x, kernel: jnp.sum(jax.grad(loss)(x, kernel) ** 2)

    ours, theirs = (jax.jit(jax.grad(steepness(each), (0, 1)))(*arrays) for each in (our_conv, lax_conv))
    scale = max(float(jnp.abs(leaf).max()) for leaf in theirs)
    chex.assert_trees_all_close(ours, theirs, atol=1e-4 * scale)


def training_loop(stride, padding):
    """Input gradients in a loop, inside a loop over steps that change the kernel, as training has them."""
    run = result_and_gradients(our_conv, stride, padding)

    def step(_, carry):
        x, kernel = carry
        moved = lax.fori_loop(0, 3, lambda _, x: x + 0.1 * jnp.sign(run(x, kernel)[1]), x)
        return x, kernel - 0.1 * run(moved, kernel)[2]

    return lambda x, kernel: lax.fori_loop(0, 3, step, (x, kernel))


@pytest.mark.parametrize(
    "case, count",  # to y, in both loops; without a stride also to x and to the kernel
    [
        ("grey image", 0),
        ("channels", 4),
        ("channels, unpadded", 4),
        ("stride of the small network", 0),
        ("its second layer", 2),
        ("depthwise, stride", 0),
    ],
)
def test_convolutions_in_a_loop_have_the_fast_layout_on_cpu(case, count):
    image, kernel, stride, padding = CASES[case]
    text = optimised(training_loop(stride, padding), *drawn([(3, *image), kernel]))
    convolutions = re.findall(r" convolution\(.*", text)
    assert len(convolutions) == count
    for line in convolutions:
        assert "dim_labels=b01f_01io->b01f" in line and "lhs_dilate" not in line and "reversal" not in line


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize(
    "case", ["grey image", "channels, unpadded", "stride of the small network", "its second layer", "depthwise, stride"]
)
def test_convolution_for_an_accelerator_is_that_of_lax(case, platform):
    image, kernel, stride, padding = CASES[case]
    arrays = drawn([(3, *image), kernel])
    ours, theirs = (
        jax.jit(result_and_gradients(each, stride, padding))
        .trace(*arrays)
        .lower(lowering_platforms=(platform,))
        .as_text()
        for each in (our_conv, lax_conv)
    )
    convolutions = [
        sorted(re.findall(r"dim_numbers = .*window = \{[^}]*\} \{[^}]*\}", text)) for text in (ours, theirs)
    ]
    assert convolutions[0] == convolutions[1] and len(convolutions[0]) == 3
    assert "concatenate" not in ours


def out_and_gradient(x, g):
    """Of the pool, for g [b h//2 w//2 c] coming back."""

    def run(x, g):
        out, pull = jax.vjp(max_pool2, x)
        return out, *pull(g)

    return jax.jit(run)(x, g)


@pytest.mark.parametrize("shape", [(2, 6, 4, 3), (2, 7, 5, 3)])
def test_max_pool_and_gradient_equal_those_of_flax(shape, platform):
    (x,) = drawn([shape])  # no two values are equal
    theirs, pull_theirs = jax.vjp(lambda x: nn.max_pool(x, (2, 2), (2, 2)), x)
    (g,) = drawn([theirs.shape])
    ours, to_x = out_and_gradient(x, g)
    chex.assert_trees_all_equal(ours, theirs)
    chex.assert_trees_all_close(to_x, *pull_theirs(g), rtol=1e-6)


def test_max_pool_shares_a_gradient_equally_among_ties(platform):
    blocks = [[[5, 1], [2, 3]], [[5, 5], [1, 2]], [[5, 5], [1, 5]], [[5, 5], [5, 5]]]
    x = jnp.array(blocks, jnp.float32)[..., None]
    g = jnp.array([3.0, 4.0, 6.0, 8.0]).reshape(4, 1, 1, 1)
    shares = out_and_gradient(x, g)[1][..., 0]
    np.testing.assert_allclose(shares, [[[3, 0], [0, 0]], [[2, 2], [0, 0]], [[2, 2], [0, 2]], [[2, 2], [2, 2]]])


def test_max_pool_loses_no_gradient(platform):
    x, g = drawn([(3, 7, 9, 4), (3, 3, 4, 4)])
    x = nn.relu(x)  # many blocks of zeros
    to_x = np.asarray(out_and_gradient(x, g)[1])
    np.testing.assert_allclose(to_x[:, :6, :8].reshape(3, 3, 2, 4, 2, 4).sum((2, 4)), g, rtol=1e-5)
    assert not to_x[:, 6:].any() and not to_x[:, :, 8:].any()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_relu_and_gradient_equal_those_of_jax(dtype, platform):
    x = jnp.array([-jnp.inf, -2, -0.0, 0, 0.5, 3, jnp.inf, jnp.nan], dtype)
    g = jnp.arange(1, len(x) + 1, dtype=dtype)
    ours, theirs = (jax.jit(lambda x, g, f=f: (f(x), *jax.vjp(f, x)[1](g)))(x, g) for f in (relu, nn.relu))
    chex.assert_trees_all_equal(ours, theirs)


def test_operations_choose_by_platform_in_one_place():
    source = Path(ops.__file__).read_text()
    assert source.count("platform_dependent") == 1 and "default_backend" not in source
