"""Array operations whose gradients are as fast inside a loop on a CPU as outside it."""

from collections.abc import Sequence
from functools import partial, reduce

import jax
import jax.numpy as jnp
from jax import lax

from poisonjax.types import Array

Pads = tuple[tuple[int, int], tuple[int, int]]  # zeros added (above, below), (left, right)
_FEW_CHANNELS = 4  # of an image: a gradient convolution to so few wastes most of its work


def conv(x: Array, kernel: Array, stride: int | tuple[int, int] = 1, padding: str | Sequence = "SAME") -> Array:
    """Convolve x [b h w c] with kernel [i j c f] of the same dtype: [b h' w' f], as lax.conv_general_dilated does.

    padding: 'SAME', 'VALID' or ((above, below), (left, right)). On GPU and TPU this is lax.conv_general_dilated. On a
    CPU, XLA makes its gradients slow inside while, scan and fori_loop, where they leave the fast layout
    (github.com/jax-ml/jax/issues/12868), so they are written out here. Reverse mode only, of any order.
    """
    return _conv(x, kernel, *_geometry(x, kernel, stride, padding))


def _geometry(x, kernel, stride, padding) -> tuple[tuple[int, int], Pads]:
    strides = (stride, stride) if isinstance(stride, int) else tuple(stride)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
    return strides, tuple((low, high) for low, high in padding)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv(x: Array, kernel: Array, strides: tuple[int, int], pads: Pads) -> Array:
    return _by_platform(_cpu_conv, _lax_conv, x, kernel, strides=strides, pads=pads)


def _forward(x, kernel, strides, pads):
    return _conv(x, kernel, strides, pads), (x, kernel)


def _backward(strides, pads, saved, g):
    return _by_platform(_cpu_gradients, _lax_gradients, *saved, g, strides=strides, pads=pads)


_conv.defvjp(_forward, _backward)


def _by_platform(cpu, default, *arrays, **keywords):
    """Choose by the platform that the program is lowered for, not by this machine's; the only place that does."""
    return lax.platform_dependent(*arrays, cpu=partial(cpu, **keywords), default=partial(default, **keywords))


def _lax_conv(x, kernel, strides, pads):
    layout, groups = ("NHWC", "HWIO", "NHWC"), x.shape[-1] // kernel.shape[2]
    return lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=layout, feature_group_count=groups)


def _lax_gradients(x, kernel, g, strides, pads):
    return jax.vjp(partial(_lax_conv, strides=strides, pads=pads), x, kernel)[1](g)


def _cpu_conv(x, kernel, strides, pads):
    if _as_product(x, kernel):
        return _patches_conv(x, kernel, strides, pads)
    if strides == (1, 1) and pads == ((0, 0), (0, 0)):
        # Without padding, XLA in jax 0.10 first copies all patches to new memory; cutting off an added row is cheaper.
        return _lax_conv(x, kernel, strides, ((0, 1), (0, 0)))[:, :-1]
    return _lax_conv(x, kernel, strides, pads)


def _cpu_gradients(x, kernel, g, strides, pads):
    """Input gradient: convolution of g with the flipped kernel. Kernel gradient: convolution of x with g.

    Both are in NHWC/HWIO, the layout that XLA keeps fast inside loops. With a stride they would be dilated, which is
    slow in XLA, so they are matrix products instead.
    """
    if strides != (1, 1) or _as_product(x, kernel):
        return jax.vjp(partial(_patches_conv, strides=strides, pads=pads), x, kernel)[1](g)
    flipped = kernel[::-1, ::-1].swapaxes(2, 3)
    rest = tuple((size - 1 - low, size - 1 - high) for size, (low, high) in zip(kernel.shape, pads, strict=False))
    to_kernel = _lax_conv(x.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3), (1, 1), pads)
    return _conv(g, flipped, (1, 1), rest), to_kernel.transpose(1, 2, 0, 3)


def _as_product(x, kernel) -> bool:
    """True if a matrix product is faster, both for the output and for the gradient of x."""
    return x.shape[-1] <= _FEW_CHANNELS or kernel.shape[:2] == (1, 1)


def _patches_conv(x, kernel, strides, pads):
    """Convolution as matrix products, which stay fast inside loops."""
    if any(size % step for size, step in zip(kernel.shape, strides, strict=False)):
        return _all_patches_conv(x, kernel, strides, pads)
    if x.shape[-1] <= _FEW_CHANNELS:
        return _all_patches_conv(*_space_to_depth(*_blocks(x, kernel, strides, pads)), (1, 1), ((0, 0), (0, 0)))
    return _row_patches_conv(*_blocks(x, kernel, strides, pads))


def _all_patches_conv(x, kernel, strides, pads):
    """The patches of x side by side, as one matrix, times the kernel (im2col)."""
    taps = _taps(x, kernel.shape[:2], strides, pads)
    return _product(jnp.concatenate(taps, -1), kernel.reshape(-1, kernel.shape[-1]))


def _blocks(x, kernel, strides, pads):
    """x in blocks of the size of a stride, [b rows i columns jc], and a kernel of whole blocks, [rows i columns jc f].

    Neighbouring pixels of a block are contiguous in memory, so taps are longer and fewer.
    """
    (b, *_, channels), (i, j), (height, width, _, features) = x.shape, strides, kernel.shape
    sides = zip(x.shape[1:], kernel.shape, strides, pads, strict=False)
    (rows, vertical), (columns, horizontal) = (_whole_blocks(*side) for side in sides)
    x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), vertical, horizontal, (0, 0, 0)))
    kernel = kernel.reshape(height // i, i, width // j, j * channels, features)
    return x.reshape(b, rows, i, columns, j * channels), kernel


def _whole_blocks(pixels, size, step, pad):
    """Number of blocks of `step` pixels that a kernel of this size sees along a side, and the padding to whole ones."""
    low, high = pad
    blocks = (pixels + low + high - size) // step + size // step
    return blocks, (low, blocks * step - low - pixels, 0)


def _space_to_depth(x, kernel):
    """The rows of a block as channels: x [b rows columns ijc], kernel [rows columns ijc f]."""
    x, kernel = x.swapaxes(2, 3), kernel.swapaxes(1, 2)
    return x.reshape(*x.shape[:3], -1), kernel.reshape(*kernel.shape[:2], -1, kernel.shape[-1])


def _row_patches_conv(x, kernel):
    """Patches of one row of blocks times each row of the kernel, then summed (im2col and kn2row)."""
    rows, i, columns, _, features = kernel.shape
    height, width = x.shape[1] - rows + 1, x.shape[3] - columns + 1
    taps = [x[:, :, line, at : at + width] for line in range(i) for at in range(columns)]
    parts = _product(jnp.concatenate(taps, -1), kernel.transpose(1, 2, 3, 0, 4).reshape(-1, rows * features))
    return sum(part[:, row : row + height] for row, part in enumerate(jnp.split(parts, rows, -1)))


@jax.custom_vjp
def _product(x, weights):
    """x [... k] times weights [k f]; jax's own gradient for the weights first copies g [... f] to transpose it."""
    return x @ weights


def _product_forward(x, weights):
    return x @ weights, (x, weights)


def _product_backward(saved, g):
    x, weights = saved
    rows = tuple(range(x.ndim - 1))
    return jnp.tensordot(g, weights, (-1, -1)), jnp.tensordot(x, g, (rows, rows))


_product.defvjp(_product_forward, _product_backward)


def _taps(x, size, strides, pads):
    """The slices of x that each of the rows x columns taps of a kernel sees, in order."""
    (rows, columns), (down, right) = size, strides
    x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0)))
    height, width = (x.shape[1] - rows) // down + 1, (x.shape[2] - columns) // right + 1
    last = (down * (height - 1) + 1, right * (width - 1) + 1)
    return [x[:, i : i + last[0] : down, j : j + last[1] : right] for i in range(rows) for j in range(columns)]


def depthwise_conv(
    x: Array, kernel: Array, stride: int | tuple[int, int] = 1, padding: str | Sequence = "SAME"
) -> Array:
    """Convolve each channel of x [b h w c] with its own kernel, [i j 1 c] of the same dtype: [b h' w' c].

    Otherwise as `conv`. XLA's own gradients are tens to hundreds of times slower in loops on a CPU.
    """
    return _depthwise(x, kernel, *_geometry(x, kernel, stride, padding))


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _depthwise(x: Array, kernel: Array, strides: tuple[int, int], pads: Pads) -> Array:
    return _by_platform(_sum_of_slices, _lax_conv, x, kernel, strides=strides, pads=pads)


def _depthwise_forward(x, kernel, strides, pads):
    return _depthwise(x, kernel, strides, pads), (x, kernel)


def _depthwise_backward(strides, pads, saved, g):
    return _by_platform(_cpu_depthwise_gradients, _lax_gradients, *saved, g, strides=strides, pads=pads)


_depthwise.defvjp(_depthwise_forward, _depthwise_backward)


def _sum_of_slices(x, kernel, strides, pads):
    """Sum, in float32, of a slice of x times the weights of each tap of the kernel."""
    parts = zip(_taps(x, kernel.shape[:2], strides, pads), kernel.reshape(-1, x.shape[-1]), strict=True)
    return sum(part.astype(jnp.float32) * weights for part, weights in parts).astype(x.dtype)


def _cpu_depthwise_gradients(x, kernel, g, strides, pads):
    _, to_kernel = jax.vjp(lambda kernel: _sum_of_slices(x, kernel, strides, pads), kernel)
    sides = zip(x.shape[1:], kernel.shape[:2], g.shape[1:], strides, pads, strict=False)
    edges = [(n - 1 - low, size - 1 + low - (out - 1) * step, step - 1) for size, n, out, step, (low, _) in sides]
    spread = lax.pad(g, jnp.zeros((), g.dtype), ((0, 0, 0), *edges, (0, 0, 0)))
    return _depthwise(spread, kernel[::-1, ::-1], (1, 1), ((0, 0), (0, 0))), *to_kernel(g)


@jax.custom_vjp
def relu(x: Array) -> Array:
    """max(x, 0), like jax.nn.relu, but the gradient keeps the result instead of x. Reverse mode only.

    On a CPU, WongCNN trains faster with it, and the other MNIST networks as fast. The CIFAR-10 networks use
    jax.nn.relu, since MobileNet is slower with this one (jax 0.12).
    """
    return _by_platform(_cpu_relu, jax.nn.relu, x)


def _relu_forward(x):
    y = relu(x)
    return y, y


def _relu_backward(y, g):
    return (jnp.where(y > 0, g, 0),)


relu.defvjp(_relu_forward, _relu_backward)


def _cpu_relu(x):
    """Hide the zero from XLA, which would write a constant out as an array and keep x as well."""
    return jnp.maximum(x, lax.optimization_barrier(jnp.zeros((), x.dtype)))


def max_pool2(x: Array) -> Array:
    """Maximum of each 2x2 block: x [b h w c] -> [b h//2 w//2 c]; an odd last row or column is dropped.

    Pixels that tie for the maximum share its gradient equally (nn.max_pool gives all of it to the first).
    """
    return _max_pool2(x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2])


@jax.custom_vjp
def _max_pool2(x):
    return _by_platform(_max_of_slices, _max_of_blocks, x)


def _pool_forward(x):
    out = _max_pool2(x)
    return out, (x, out)


def _pool_backward(saved, g):
    return (_by_platform(_share_among_slices, _share_among_blocks, *saved, g),)


_max_pool2.defvjp(_pool_forward, _pool_backward)


def _slices(x):
    return [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]


def _max_of_slices(x):
    return reduce(jnp.maximum, _slices(x))


def _max_of_blocks(x):
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).max((2, 4))


def _share_among_slices(x, out, g):
    winners = sum((pixel == out).astype(g.dtype) for pixel in _slices(x))
    return jnp.where(x == _enlarge(out), _enlarge(g / winners), 0)


def _share_among_blocks(x, out, g):
    return jax.vjp(_max_of_blocks, x)[1](g)[0]


def _enlarge(x):
    return x.repeat(2, 1).repeat(2, 2)
