"""Convolution whose gradients are fast on CPU too, in loops as well.

The gradients of `lax.conv_general_dilated` are convolutions in permuted layouts. XLA's CPU compiler brings those into
the layout that its fast kernels take, but not in the body of a loop, where a naive kernel runs them instead and a
scan over blocks becomes twenty times slower. On CPU the gradients are therefore written in that layout (NHWC, HWIO,
NHWC) from the start; elsewhere they are the stock ones. The values are the same.

The price of the custom gradient: no forward-mode differentiation.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]

LAYOUT = ("NHWC", "HWIO", "NHWC")


def conv(
    images: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c_group n"],
    *,
    strides: Sequence[int] = (1, 1),
    padding: Sequence[Sequence[int]] = ((0, 0), (0, 0)),
    groups: int = 1,
) -> Float[Array, "b h_out w_out n"]:
    """Convolves images with kernels (cross-correlation, as the whole field calls it).

    Args:
        images: [B, H, W, C].
        kernel: [KH, KW, C / groups, N], of the images' dtype.
        strides: in pixels, (vertical, horizontal).
        padding: zeros around the images, ((top, bottom), (left, right)).
        groups: input and output channels are split into this many parts that do not see each other.

    Returns:
        [B, (H + top + bottom - KH) // stride + 1, ..., N].
    """
    (top, bottom), (left, right) = padding
    return _conv(images, kernel, (strides[0], strides[1]), ((top, bottom), (left, right)), groups)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _conv(images: Array, kernel: Array, strides: Pair, padding: Padding, groups: int) -> Array:
    return _stock(images, kernel, strides, padding, groups)


def _forward(images: Array, kernel: Array, strides: Pair, padding: Padding, groups: int):
    return _stock(images, kernel, strides, padding, groups), (images, kernel)


def _backward(strides: Pair, padding: Padding, groups: int, operands: tuple[Array, Array], gradient: Array):
    static = {"strides": strides, "padding": padding, "groups": groups}
    return lax.platform_dependent(
        *operands,
        gradient,
        cpu=functools.partial(_canonical_gradients, **static),
        default=functools.partial(_stock_gradients, **static),
    )


_conv.defvjp(_forward, _backward)


def _stock(images: Array, kernel: Array, strides: Pair, padding: Padding, groups: int) -> Array:
    return lax.conv_general_dilated(
        images, kernel, strides, padding, dimension_numbers=LAYOUT, feature_group_count=groups
    )


def _stock_gradients(
    images: Array, kernel: Array, gradient: Array, *, strides: Pair, padding: Padding, groups: int
) -> tuple[Array, Array]:
    _, pull_back = jax.vjp(lambda x, k: _stock(x, k, strides, padding, groups), images, kernel)
    return pull_back(gradient)


def _canonical_gradients(
    images: Array, kernel: Array, gradient: Array, *, strides: Pair, padding: Padding, groups: int
) -> tuple[Array, Array]:
    if gradient.size == 0:
        return jnp.zeros_like(images), jnp.zeros_like(kernel)
    return (
        _images_gradient(images.shape, kernel, gradient, strides, padding, groups),
        _kernel_gradient(images, kernel.shape, gradient, strides, padding, groups),
    )


def _images_gradient(
    shape: tuple[int, ...], kernel: Array, gradient: Array, strides: Pair, padding: Padding, groups: int
) -> Array:
    """The gradient, spread to the images' grid by `lhs_dilation`, convolved with the flipped kernel.

    Where the last windows do not reach the border of the images, or padding exceeds the kernel, the padding that
    restores the images' size differs between the sides or is negative; XLA takes both.
    """
    height, width, channels_in_group, features = kernel.shape
    flipped = kernel[::-1, ::-1].reshape(height, width, channels_in_group, groups, features // groups)
    flipped = flipped.transpose(0, 1, 4, 3, 2).reshape(height, width, features // groups, groups * channels_in_group)
    around = []
    for axis in range(2):
        size, window, spread = shape[1 + axis], kernel.shape[axis], _spread(gradient, axis, strides)
        before = window - 1 - padding[axis][0]
        around.append((before, size + window - 1 - spread - before))
    return lax.conv_general_dilated(
        gradient,
        flipped,
        (1, 1),
        around,
        lhs_dilation=strides,
        dimension_numbers=LAYOUT,
        feature_group_count=groups,
    )


def _kernel_gradient(
    images: Array, shape: tuple[int, ...], gradient: Array, strides: Pair, padding: Padding, groups: int
) -> Array:
    """The images convolved with the gradient as a kernel, which `rhs_dilation` spreads to the images' grid.

    Examples are summed over, so they take the place of input channels, and input channels that of examples. Groups
    stay groups.
    """
    examples, height, width, channels = images.shape
    lhs = images.reshape(examples, height, width, groups, channels // groups)
    lhs = lhs.transpose(4, 1, 2, 3, 0).reshape(channels // groups, height, width, groups * examples)
    around = []
    for axis in range(2):
        before = padding[axis][0]
        around.append((before, shape[axis] - 1 + _spread(gradient, axis, strides) - images.shape[1 + axis] - before))
    out = lax.conv_general_dilated(
        lhs,
        gradient.transpose(1, 2, 0, 3),
        (1, 1),
        around,
        rhs_dilation=strides,
        dimension_numbers=LAYOUT,
        feature_group_count=groups,
    )
    return out.transpose(1, 2, 0, 3)


def _spread(gradient: Array, axis: int, strides: Pair) -> int:
    """The length in pixels from the first window's start to the last one's."""
    return (gradient.shape[1 + axis] - 1) * strides[axis] + 1
