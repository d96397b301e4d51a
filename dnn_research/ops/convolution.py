"""Convolution with one definition, `stock.convolve`, and the formulation that is fast where it runs.

On GPUs and TPUs the stock operation and its gradients stand. XLA's CPU compiler runs many of these convolutions at a
tenth of the machine's speed, above all their gradients; there each shape gets the formulation that was measured to be
fast for it (`_Plan`). Values and gradients are the same to rounding.

The price of the custom gradient: no forward-mode differentiation.
"""

import functools
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dnn_research.ops import patches, planes, runs, stock, winograd
from dnn_research.ops.blocks import Blocks
from dnn_research.ops.depthwise import Depthwise
from dnn_research.ops.lowering import by_platform
from dnn_research.ops.pointwise import Pointwise
from dnn_research.ops.stock import Geometry, Stock
from dnn_research.ops.windows import Padding, Pair, Shape, count, pad
from dnn_research.ops.winograd import Winograd

__all__ = ["Padding", "Pair", "conv"]

# Channels, those in and those out, up to which neighbours are taken together.
RUN_CHANNELS = 12
# Channels of a block, the fewest and the most, with which a strided first layer is done in blocks.
BLOCK_CHANNELS = (32, 64)
# Channels up to which patches are gathered from planes.
PLANE_CHANNELS = 4
# So many times fewer features than channels, and patches are those of the outputs' gradient.
FEWER_FEATURES = 2
# The fewest examples and the largest maps for which the stock gradient of the kernel is the fastest.
STOCK_EXAMPLES, STOCK_POSITIONS = 16, 56**2
# The fewest channels, and the most positions for each feature, with which the images' gradient is that of patches.
PATCH_CHANNELS, PATCH_POSITIONS = 192, 4


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
    return _conv(images, kernel, Geometry((strides[0], strides[1]), ((top, bottom), (left, right)), groups))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv(images: Array, kernel: Array, geometry: Geometry) -> Array:
    fast = choose(images.shape, kernel.shape, geometry)
    return by_platform(images, kernel, cpu=functools.partial(_convolve, fast), stock=Stock(geometry).convolve)


def _forward(images: Array, kernel: Array, geometry: Geometry) -> tuple[Array, tuple[Array, Array]]:
    return _conv(images, kernel, geometry), (images, kernel)


def _backward(geometry: Geometry, operands: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    shape, kernel_shape = (operand.shape for operand in operands)
    fast = choose(shape, kernel_shape, geometry)
    # Two choices, so that the images' gradient, which the first layer has no use for, can be left out.
    of_images = by_platform(
        *operands,
        gradient,
        cpu=lambda images, kernel, g: _images_gradient(fast, shape, kernel, g),
        stock=lambda images, kernel, g: stock.gradients(images, kernel, g, geometry)[0],
    )
    of_kernel = by_platform(
        *operands,
        gradient,
        cpu=lambda images, kernel, g: _kernel_gradient(fast, kernel_shape, images, g),
        stock=lambda images, kernel, g: stock.gradients(images, kernel, g, geometry)[1],
    )
    return of_images, of_kernel


_conv.defvjp(_forward, _backward)


# ----------------------------------------------------------------------------------------------------------- on a CPU


@runtime_checkable
class Formulation(Protocol):
    """A way to compute a convolution and its gradients; all give what `Stock` gives, to rounding.

    Equal ones, with equal hashes, compute the same: what one of them does is traced once for all layers of a shape.
    """

    def convolve(self, images: Array, kernel: Array) -> Array:
        """[B, H, W, C], [KH, KW, C / groups, N] -> [B, H_out, W_out, N]."""
        ...

    def images_gradient(self, shape: Shape, kernel: Array, gradient: Array) -> Array:
        """The gradient of images of this shape, from that of the outputs."""
        ...

    def kernel_gradient(self, images: Array, shape: Shape, gradient: Array) -> Array:
        """The gradient of a kernel of this shape, from that of the outputs."""
        ...


@functools.partial(jax.jit, static_argnums=(0,), inline=True)
def _convolve(fast: Formulation, images: Array, kernel: Array) -> Array:
    return fast.convolve(images, kernel)


@functools.partial(jax.jit, static_argnums=(0, 1), inline=True)
def _images_gradient(fast: Formulation, shape: Shape, kernel: Array, gradient: Array) -> Array:
    return fast.images_gradient(shape, kernel, gradient)


@functools.partial(jax.jit, static_argnums=(0, 1), inline=True)
def _kernel_gradient(fast: Formulation, shape: Shape, images: Array, gradient: Array) -> Array:
    return fast.kernel_gradient(images, shape, gradient)


def choose(shape: Shape, kernel: Shape, geometry: Geometry) -> Formulation:
    """The formulation that is fast on a CPU for images and a kernel of these shapes."""
    examples, _, _, channels = shape
    taps, features = kernel[0], kernel[3]
    height, width = count(shape, (kernel[0], kernel[1]), geometry.strides, geometry.padding)
    if min(examples, height, width) < 1 or any(side < 0 for pair in geometry.padding for side in pair):
        return Stock(geometry)
    if geometry.groups == channels == features:
        return Depthwise(geometry)
    if geometry.groups > 1:
        return Groups(geometry)
    if kernel[:2] == (1, 1) and geometry.padding == ((0, 0), (0, 0)):
        return Pointwise(geometry.strides)
    square = taps == kernel[1]
    if geometry.strides == (1, 1) and square:
        size = winograd.tile_size(height, width, taps, examples, min(channels, features))
        if size is not None and all(side < taps for pair in geometry.padding for side in pair):
            return Winograd(geometry.padding, size)
    if channels + features <= RUN_CHANNELS and runs.fit(shape, kernel, geometry):
        return Narrow(geometry)
    down, across = geometry.strides
    if down == across > 1 and BLOCK_CHANNELS[0] <= down**2 * channels <= BLOCK_CHANNELS[1] and min(kernel[:2]) > down:
        return Blocks(geometry, choose)
    return Plain(geometry)


class Plain(Stock):
    """The stock convolution, with faster gradients of the kernel where maps are large or the batch is small.

    The stock gradient of the kernel has examples for channels and maps for kernels. On two cores, 64 channels in and
    out: 151 GFLOP/s with 16 images of 56x56, 10 with 8 of 224x224. That of the images turns the kernel around first:
    with 512 channels in and out and one image of 7x7 4.6 ms, by patches 0.8.
    """

    def images_gradient(self, shape: Shape, kernel: Array, gradient: Array) -> Array:
        positions, features = gradient.size // gradient.shape[-1], gradient.shape[-1]
        if shape[3] >= PATCH_CHANNELS and positions <= PATCH_POSITIONS * features:
            return patches.images_gradient(shape, kernel, gradient, self.geometry)
        return super().images_gradient(shape, kernel, gradient)

    def kernel_gradient(self, images: Array, shape: Shape, gradient: Array) -> Array:
        examples, height, width, _ = gradient.shape
        if examples >= STOCK_EXAMPLES and height * width <= STOCK_POSITIONS:
            return super().kernel_gradient(images, shape, gradient)
        if self.geometry.strides == (1, 1) and shape[3] * FEWER_FEATURES <= shape[2]:
            return self._gathered_of_gradient(images, shape, gradient)
        return _gathered(images, shape, gradient, self.geometry)

    def _gathered_of_gradient(self, images: Array, shape: Shape, gradient: Array) -> Array:
        """With patches of the gradient, which has fewer channels: images and gradient in each other's place.

        The last layer of a transform network, 9x9 from 16 channels to 3, four images of 136x136 on two cores: 34 ms
        instead of 224.
        """
        around = ((shape[0] - 1, shape[0] - 1), (shape[1] - 1, shape[1] - 1))
        turned = (*shape[:2], shape[3], shape[2])
        made = _gathered(gradient, turned, pad(images, self.geometry.padding), Geometry((1, 1), around))
        return made[::-1, ::-1].swapaxes(2, 3)


class Narrow(Plain):
    """Few channels, in runs of neighbours; the kernel's gradient gains nothing by them."""

    def convolve(self, images: Array, kernel: Array) -> Array:
        return runs.convolve(images, kernel, self.geometry)

    def images_gradient(self, shape: Shape, kernel: Array, gradient: Array) -> Array:
        return runs.images_gradient(shape, kernel, gradient, self.geometry)


def _gathered(images: Array, shape: Shape, gradient: Array, geometry: Geometry) -> Array:
    """The gradient of a kernel of this shape by patches of the images."""
    gathered = planes if shape[2] <= PLANE_CHANNELS else patches
    return gathered.kernel_gradient(images, shape, gradient, geometry)


class Groups(Stock):
    """Each group as a convolution of its own."""

    def convolve(self, images: Array, kernel: Array) -> Array:
        parts = zip(self._split(images), self._split(kernel), strict=True)
        return jnp.concatenate([self._alone(x.shape, k.shape).convolve(x, k) for x, k in parts], -1)

    def images_gradient(self, shape: Shape, kernel: Array, gradient: Array) -> Array:
        part = (*shape[:3], shape[3] // self.geometry.groups)
        parts = zip(self._split(kernel), self._split(gradient), strict=True)
        return jnp.concatenate([self._alone(part, k.shape).images_gradient(part, k, g) for k, g in parts], -1)

    def kernel_gradient(self, images: Array, shape: Shape, gradient: Array) -> Array:
        part = (*shape[:3], shape[3] // self.geometry.groups)
        parts = zip(self._split(images), self._split(gradient), strict=True)
        return jnp.concatenate([self._alone(x.shape, part).kernel_gradient(x, part, g) for x, g in parts], -1)

    def _split(self, array: Array) -> list[Array]:
        return jnp.split(array, self.geometry.groups, -1)

    def _alone(self, shape: Shape, kernel: Shape) -> Formulation:
        return choose(shape, kernel, Geometry(self.geometry.strides, self.geometry.padding))
