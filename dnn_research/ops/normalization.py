"""Batch normalization with a gradient in closed form, and local response normalization.

The gradient that JAX derives for batch normalization keeps the centred images beside the images. The closed form needs
the images alone, in two passes over them.

XLA's CPU compiler sums over neighbouring channels in scalar loops, forward and backward; on CPU local response
normalization is therefore a product with a matrix of ones near the diagonal: more arithmetic in less time.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from dnn_research.ops.lowering import by_platform


def batch_norm(
    images: Float[Array, "*b c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    *,
    epsilon: float,
    axis_name: str | None = None,
) -> tuple[Float[Array, "*b c"], Float[Array, " c"], Float[Array, " c"]]:
    """Normalizes by the mean and the biased variance over all axes but the last.

    Args:
        images: float32.
        scale: of the normalized images.
        bias: added to them.
        epsilon: added to the variance.
        axis_name: of the devices whose examples are taken together; None: each device's own.

    Returns:
        The normalized images, mean and variance; gradients of the latter two are not passed on.
    """
    return _batch_norm(images, scale, bias, epsilon, axis_name)


def instance_norm(
    images: Float[Array, "b h w c"], scale: Float[Array, "b c"], bias: Float[Array, "b c"], *, epsilon: float
) -> Float[Array, "b h w c"]:
    """Normalizes each map of each image by its own mean and biased variance; gradient as `batch_norm`'s.

    Args:
        images: float32.
        scale: of the normalized maps, for each image.
        bias: added to them.
        epsilon: added to the variance.
    """
    return jax.vmap(lambda image, s, b: _batch_norm(image, s, b, epsilon, None)[0])(images, scale, bias)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _batch_norm(
    images: Array, scale: Array, bias: Array, epsilon: float, axis_name: str | None
) -> tuple[Array, Array, Array]:
    axes = tuple(range(images.ndim - 1))
    mean, mean_square = _mean_over_devices((images.mean(axes), jnp.square(images).mean(axes)), axis_name)
    var = jnp.maximum(mean_square - jnp.square(mean), 0.0)
    return normalize(images, mean, var, scale, bias, epsilon), mean, var


def normalize(images: Array, mean: Array, var: Array, scale: Array, bias: Array, epsilon: float) -> Array:
    """(x - mean) / sqrt(var + epsilon) * scale + bias, along the last axis."""
    factor = lax.rsqrt(var + epsilon) * scale
    return (images - _last(mean, images)) * _last(factor, images) + _last(bias, images)


def _batch_norm_forward(
    images: Array, scale: Array, bias: Array, epsilon: float, axis_name: str | None
) -> tuple[tuple[Array, Array, Array], tuple[Array, ...]]:
    outputs = _batch_norm(images, scale, bias, epsilon, axis_name)
    return outputs, (images, scale, outputs[1], outputs[2])


def _batch_norm_backward(
    epsilon: float, axis_name: str | None, kept: tuple[Array, ...], gradients: tuple[Array, Array, Array]
) -> tuple[Array, Array, Array]:
    """Ioffe and Szegedy 2015, section 3: scale / sigma (g - mean(g) - x_hat mean(g x_hat))."""
    images, scale, mean, var = kept
    # XLA would find what the forward pass subtracts here again, and keep it as another array of the images' size.
    mean = lax.optimization_barrier(mean)
    gradient = gradients[0]
    axes = tuple(range(images.ndim - 1))
    inverse = lax.rsqrt(var + epsilon)
    of_bias = gradient.sum(axes)
    of_scale = (gradient * (images - _last(mean, images))).sum(axes) * inverse
    examples = images.size // images.shape[-1]
    shift, slope = _mean_over_devices((of_bias / examples, of_scale / examples), axis_name)
    # For the same reason the terms of an image are gathered in one factor and one constant.
    factor = scale * inverse
    of_images = gradient * _last(factor, images) - images * _last(factor * slope * inverse, images)
    of_images += _last(factor * (slope * inverse * mean - shift), images)
    return of_images, of_scale, of_bias


_batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)


def _mean_over_devices(pair: tuple[Array, Array], axis_name: str | None) -> Array | tuple[Array, Array]:
    return pair if axis_name is None else lax.pmean(jnp.stack(pair), axis_name)


def _last(vector: Array, like: Array) -> Array:
    """A vector [C] with as many axes as `like` [..., C]."""
    return vector.reshape((1,) * (like.ndim - 1) + vector.shape)


def local_response_norm(
    images: Float[Array, "*b c"], *, size: int, k: float, alpha: float, beta: float, groups: int = 1
) -> Float[Array, "*b c"]:
    """b_i = a_i (k + alpha sum_j a_j^2)^-beta over the `size` channels around i, fewer at the ends.

    An even `size` has one channel more after i than before. The channels of different `groups` do not see each other.
    """
    return _normalized(images, size, k, alpha, beta, groups)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4, 5))
def _normalized(images: Array, size: int, k: float, alpha: float, beta: float, groups: int) -> Array:
    return images * _power(_scale(images, size, k, alpha, groups), -beta)


def _forward(images: Array, size: int, k: float, alpha: float, beta: float, groups: int) -> tuple[Array, Array]:
    return _normalized(images, size, k, alpha, beta, groups), images


def _backward(
    size: int, k: float, alpha: float, beta: float, groups: int, images: Array, gradient: Array
) -> tuple[Array]:
    """With s the scale: g_i s_i^-beta - 2 alpha beta a_i sum_j g_j a_j s_j^(-beta - 1), over the j that see i."""
    scale = _scale(images, size, k, alpha, groups)
    shrunk = gradient * _power(scale, -beta)
    seen = _neighbours(shrunk * images / scale, size, groups, backward=True)
    return (shrunk - (2 * alpha * beta) * images * seen,)


_normalized.defvjp(_forward, _backward)


def _scale(images: Array, size: int, k: float, alpha: float, groups: int) -> Array:
    return k + alpha * _neighbours(jnp.square(images), size, groups, backward=False)


def _power(scale: Array, exponent: float) -> Array:
    """Roots instead of a logarithm and an exponential for the papers' three quarters."""
    if exponent == -0.75:
        root = lax.rsqrt(scale)
        return root * jnp.sqrt(root)
    return scale**exponent


def _neighbours(values: Array, size: int, groups: int, *, backward: bool) -> Array:
    """Sums over the channels that each channel sees; `backward`: over those that see it."""
    before = (size - 1) // 2
    after = size - 1 - before
    around = (after, before) if backward else (before, after)
    channels = values.shape[-1] // groups
    apart = values.reshape(*values.shape[:-1], groups, channels)

    def stock(apart: Array) -> Array:
        rank = apart.ndim - 1
        window = (*(1,) * rank, size)
        return lax.reduce_window(apart, 0.0, lax.add, window, (1,) * (rank + 1), (*((0, 0),) * rank, around))

    def product(apart: Array) -> Array:
        index = np.arange(channels)
        away = index[:, None] - index  # of a channel that is seen from the one that sees it
        band = ((away >= -around[0]) & (away <= around[1])).astype(np.float32)
        return jnp.tensordot(apart, band, 1)

    return by_platform(apart, cpu=product, stock=stock).reshape(values.shape)
