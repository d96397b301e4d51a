"""A convolution's gradients as matrix products over patches of the images."""

import jax
import jax.numpy as jnp

from dnn_research.ops.chunks import fewest_examples, summed
from dnn_research.ops.products import by_transposed
from dnn_research.ops.stock import Geometry
from dnn_research.ops.windows import Shape, pad, put_back, views

Array = jax.Array

# Positions that a product sums over at least.
POSITIONS = 196


def kernel_gradient(images: Array, shape: Shape, gradient: Array, geometry: Geometry) -> Array:
    """[B, H, W, C], [B, H_out, W_out, N] -> [KH, KW, C, N], of shape `shape`; without groups.

    A few images at a time.
    """
    counts = gradient.shape[1], gradient.shape[2]
    rows = shape[0] * shape[1] * shape[2]

    def run(pair: tuple[Array, Array]) -> Array:
        images, gradient = pair
        seen = list(views(pad(images, geometry.padding), (shape[0], shape[1]), geometry.strides, counts))
        patches = jnp.concatenate(seen, -1).reshape(-1, rows)
        return patches.T @ gradient.reshape(-1, shape[3])

    at_once = fewest_examples(images.shape[0], of_each=counts[0] * counts[1], wanted=max(POSITIONS, shape[3]))
    return summed(run, (images, gradient), at_once).reshape(shape)


def images_gradient(shape: Shape, kernel: Array, gradient: Array, geometry: Geometry) -> Array:
    """The gradient of patches, added up where they overlap: [B, H, W, C], of shape `shape`; without groups.

    The kernel [KH, KW, C, N] is read as it lies where it is larger than the maps; the stock gradient turns it around
    first, which takes longer than all else there.
    """
    height, width, channels, features = kernel.shape
    product = by_transposed(gradient, kernel.reshape(-1, features))
    of_patches = product.reshape(*gradient.shape[:3], height * width, channels)
    return put_back(
        lambda place, shift: shift(of_patches[:, :, :, place]),
        shape,
        (height, width),
        geometry.strides,
        geometry.padding,
        gradient.dtype,
    )
