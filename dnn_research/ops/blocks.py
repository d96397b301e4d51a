"""A strided convolution of few channels, as one with stride 1 over blocks of pixels ("space to depth").

The s x s pixels of a block become channels, and the kernel is rearranged likewise, with zeros where it does not fill
its last blocks. First layers of three channels leave most of a vector unit idle; so they have 12 or 48.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dnn_research.ops.stock import Geometry
from dnn_research.ops.windows import Shape, count, pad

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Equal strides along both axes, no groups. `choose` says how the convolution of blocks is done."""

    geometry: Geometry
    choose: Callable[[Shape, Shape, Geometry], Any]

    def convolve(self, images: Array, kernel: Array) -> Array:
        blocks, small = self._blocks(images, kernel.shape), self._small(kernel)
        return self._inner(blocks.shape, small.shape).convolve(blocks, small)

    def images_gradient(self, shape: Shape, kernel: Array, gradient: Array) -> Array:
        make = jax.linear_transpose(
            lambda x: self._blocks(x, kernel.shape), jax.ShapeDtypeStruct(shape, gradient.dtype)
        )
        blocks, small = self._blocks_shape(shape, kernel.shape), self._small(kernel)
        return make(self._inner(blocks, small.shape).images_gradient(blocks, small, gradient))[0]

    def kernel_gradient(self, images: Array, shape: Shape, gradient: Array) -> Array:
        make = jax.linear_transpose(self._small, jax.ShapeDtypeStruct(shape, gradient.dtype))
        blocks, small = self._blocks(images, shape), self._small_shape(shape)
        return make(self._inner(blocks.shape, small).kernel_gradient(blocks, small, gradient))[0]

    @property
    def _side(self) -> int:
        return self.geometry.strides[0]

    def _inner(self, blocks: Shape, small: Shape) -> Any:
        return self.choose(blocks, small, Geometry())

    def _counts(self, shape: Shape, kernel: Shape) -> list[int]:
        """Blocks down and across that the windows go over."""
        windows = count(shape, (kernel[0], kernel[1]), self.geometry.strides, self.geometry.padding)
        return [number - 1 + -(-length // self._side) for number, length in zip(windows, kernel[:2], strict=True)]

    def _blocks_shape(self, shape: Shape, kernel: Shape) -> Shape:
        return (shape[0], *self._counts(shape, kernel), self._side**2 * shape[3])

    def _blocks(self, images: Array, kernel: Shape) -> Array:
        examples, height, width, channels = images.shape
        side, (down, across) = self._side, self._counts(images.shape, kernel)
        (top, _), (left, _) = self.geometry.padding
        x = pad(images, ((top, down * side - height - top), (left, across * side - width - left)))
        x = x.reshape(examples, down, side, across, side * channels)
        return x.transpose(0, 1, 3, 2, 4).reshape(examples, down, across, side**2 * channels)

    def _small_shape(self, kernel: Shape) -> Shape:
        down, across = (-(-length // self._side) for length in kernel[:2])
        return (down, across, self._side**2 * kernel[2], kernel[3])

    def _small(self, kernel: Array) -> Array:
        """[KH, KW, C, N] -> [KH / s, KW / s, s * s * C, N]."""
        side, small = self._side, self._small_shape(kernel.shape)
        down, across = small[:2]
        missing = [(0, count * side - length) for count, length in zip(small[:2], kernel.shape[:2], strict=True)]
        k = jnp.pad(kernel, (*missing, (0, 0), (0, 0)))
        k = k.reshape(down, side, across, side * kernel.shape[2], kernel.shape[3])
        return k.transpose(0, 2, 1, 3, 4).reshape(small)
