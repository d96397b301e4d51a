"""A kernel's gradient as one matrix product of the images' patches and the gradient, a few images at a time."""

import jax
import jax.numpy as jnp

from dnn_research.ops.chunks import fewest_examples, summed
from dnn_research.ops.stock import Geometry
from dnn_research.ops.windows import Shape, pad, views

Array = jax.Array

# Positions that a product sums over at least.
POSITIONS = 196


def kernel_gradient(images: Array, shape: Shape, gradient: Array, geometry: Geometry) -> Array:
    """[B, H, W, C], [B, H_out, W_out, N] -> [KH, KW, C, N], of shape `shape`; without groups."""
    counts = gradient.shape[1], gradient.shape[2]
    rows = shape[0] * shape[1] * shape[2]

    def run(pair: tuple[Array, Array]) -> Array:
        images, gradient = pair
        seen = list(views(pad(images, geometry.padding), (shape[0], shape[1]), geometry.strides, counts))
        patches = jnp.concatenate(seen, -1).reshape(-1, rows)
        return patches.T @ gradient.reshape(-1, shape[3])

    at_once = fewest_examples(images.shape[0], of_each=counts[0] * counts[1], wanted=max(POSITIONS, shape[3]))
    return summed(run, (images, gradient), at_once).reshape(shape)
