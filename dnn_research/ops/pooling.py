"""Pooling by the maximum, whose gradient is fast on CPU too.

XLA's CPU compiler finds the place of each maximum again in the backward pass, in scalar loops. Here the forward pass
of training keeps it in a byte, and the gradient is put back by shifted comparisons: forward and backward of 16 images
of 112x112 with 64 channels, 3x3 with stride 2, took 51 ms instead of 276 on two cores.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from dnn_research.ops.lowering import by_platform
from dnn_research.ops.windows import Padding, Pair, count, pad, put_back, views

NO_PADDING: Padding = ((0, 0), (0, 0))


def max_pool(
    images: Float[Array, "b h w c"], window: Pair, strides: Pair, padding: Padding = NO_PADDING
) -> Float[Array, "b h_out w_out c"]:
    """The maximum of each window; padding counts as minus infinity.

    Of equal maxima in a window the first one, row by row, has the gradient.
    """
    return _max_pool(images, window, strides, padding)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _max_pool(images: Array, window: Pair, strides: Pair, padding: Padding) -> Array:
    return _stock(images, window, strides, padding)


def _forward(images: Array, window: Pair, strides: Pair, padding: Padding) -> tuple[Array, tuple[Array, Array]]:
    outputs, where = by_platform(
        images,
        cpu=lambda x: _maximum(x, window, strides, padding),
        stock=lambda x: _stock_and_nowhere(x, window, strides, padding),
    )
    # What a platform's gradient has no use for, XLA drops.
    return outputs, (images, where)


def _backward(
    window: Pair, strides: Pair, padding: Padding, kept: tuple[Array, Array], gradient: Array
) -> tuple[Array]:
    def from_place(images: Array, where: Array, gradient: Array) -> Array:
        # A window that is not there has place 0, and nothing to give.
        return put_back(
            lambda place, shift: jnp.where(shift(where) == place, shift(gradient), 0),
            images.shape,
            window,
            strides,
            padding,
            gradient.dtype,
        )

    def stock(images: Array, where: Array, gradient: Array) -> Array:
        return jax.vjp(lambda x: _stock(x, window, strides, padding), images)[1](gradient)[0]

    return (by_platform(*kept, gradient, cpu=from_place, stock=stock),)


_max_pool.defvjp(_forward, _backward)


def _stock(images: Array, window: Pair, strides: Pair, padding: Padding) -> Array:
    return lax.reduce_window(images, -jnp.inf, lax.max, (1, *window, 1), (1, *strides, 1), ((0, 0), *padding, (0, 0)))


def _stock_and_nowhere(images: Array, window: Pair, strides: Pair, padding: Padding) -> tuple[Array, Array]:
    outputs = _stock(images, window, strides, padding)
    return outputs, jnp.zeros(outputs.shape, _places_dtype(window))


def _maximum(images: Array, window: Pair, strides: Pair, padding: Padding) -> tuple[Array, Array]:
    """The maxima and their places in the windows."""
    counts = count(images.shape, window, strides, padding)
    first, *others = views(pad(images, padding, -np.inf), window, strides, counts)
    largest, where = first, jnp.zeros(first.shape, _places_dtype(window))
    for place, pixels in enumerate(others, start=1):
        where = jnp.where(pixels > largest, jnp.asarray(place, where.dtype), where)
        largest = jnp.maximum(largest, pixels)
    return largest, where


def _places_dtype(window: Pair) -> type[np.unsignedinteger]:
    return np.uint8 if math.prod(window) <= 256 else np.uint32
