"""The stock convolution, and its gradients as convolutions in the layout that XLA's CPU compiler is fast in.

The gradients of `lax.conv_general_dilated` are convolutions in permuted layouts. XLA's CPU compiler brings those into
the layout that its fast kernels take, but not in the body of a loop, where a naive kernel runs them instead and a
scan over blocks becomes twenty times slower. Here they are written in that layout (NHWC, HWIO, NHWC) from the start.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax

from dnn_research.ops.windows import Padding, Pair, Shape

Array = jax.Array

LAYOUT = ("NHWC", "HWIO", "NHWC")


@dataclasses.dataclass(frozen=True)
class Geometry:
    """How a kernel goes over images: its strides, zeros around them, groups of channels that do not see each other."""

    strides: Pair = (1, 1)
    padding: Padding = ((0, 0), (0, 0))
    groups: int = 1


@dataclasses.dataclass(frozen=True)
class Stock:
    """The stock convolution and its gradients in the canonical layout; see `Formulation` in convolution.py."""

    geometry: Geometry

    def convolve(self, images: Array, kernel: Array) -> Array:
        return lax.conv_general_dilated(
            images,
            kernel,
            self.geometry.strides,
            self.geometry.padding,
            dimension_numbers=LAYOUT,
            feature_group_count=self.geometry.groups,
        )

    def images_gradient(self, shape: Shape, kernel: Array, gradient: Array) -> Array:
        """The gradient, spread to the images' grid by `lhs_dilation`, convolved with the flipped kernel.

        Where the last windows do not reach the border of the images, or padding exceeds the kernel, the padding that
        restores the images' size differs between the sides or is negative; XLA takes both.
        """
        if gradient.size == 0:
            return jnp.zeros(shape, gradient.dtype)
        around = []
        for axis in range(2):
            size, window, spread = shape[1 + axis], kernel.shape[axis], self._spread(gradient, axis)
            before = window - 1 - self.geometry.padding[axis][0]
            around.append((before, size + window - 1 - spread - before))
        return lax.conv_general_dilated(
            gradient,
            flipped(kernel, self.geometry.groups),
            (1, 1),
            around,
            lhs_dilation=self.geometry.strides,
            dimension_numbers=LAYOUT,
            feature_group_count=self.geometry.groups,
        )

    def kernel_gradient(self, images: Array, shape: Shape, gradient: Array) -> Array:
        """The images convolved with the gradient as a kernel, which `rhs_dilation` spreads to the images' grid.

        Examples are summed over, so they take the place of input channels, and input channels that of examples.
        Groups stay groups.
        """
        if gradient.size == 0:
            return jnp.zeros(shape, gradient.dtype)
        groups = self.geometry.groups
        examples, height, width, channels = images.shape
        lhs = images.reshape(examples, height, width, groups, channels // groups)
        lhs = lhs.transpose(4, 1, 2, 3, 0).reshape(channels // groups, height, width, groups * examples)
        around = []
        for axis in range(2):
            before = self.geometry.padding[axis][0]
            spread = self._spread(gradient, axis)
            around.append((before, shape[axis] - 1 + spread - images.shape[1 + axis] - before))
        out = lax.conv_general_dilated(
            lhs,
            gradient.transpose(1, 2, 0, 3),
            (1, 1),
            around,
            rhs_dilation=self.geometry.strides,
            dimension_numbers=LAYOUT,
            feature_group_count=groups,
        )
        return out.transpose(1, 2, 0, 3)

    def _spread(self, gradient: Array, axis: int) -> int:
        """The length in pixels from the first window's start to the last one's."""
        return (gradient.shape[1 + axis] - 1) * self.geometry.strides[axis] + 1


def gradients(images: Array, kernel: Array, gradient: Array, geometry: Geometry) -> tuple[Array, Array]:
    """What JAX derives: the gradients of images and kernel."""
    _, pull_back = jax.vjp(Stock(geometry).convolve, images, kernel)
    return pull_back(gradient)


def flipped(kernel: Array, groups: int = 1) -> Array:
    """[KH, KW, C / groups, N] -> [KH, KW, N / groups, C], turned around: the kernel of the images' gradient."""
    height, width, channels, features = kernel.shape
    turned = kernel[::-1, ::-1].reshape(height, width, channels, groups, features // groups)
    return turned.transpose(0, 1, 4, 3, 2).reshape(height, width, features // groups, groups * channels)
