"""Perceptual losses: features, styles as Gram matrices, total variation, each for every image by itself.

Normalizations:
- `paper`: Johnson, Alahi, Fei-Fei 2016 (arXiv:1603.08155), section 3.2: features 1 / (C H W) of the squared
  difference, Gram matrices F^T F / (C H W), the squared Frobenius norm of their difference.
- `released`: the authors' code: of the Gram matrices' difference the mean over C^2 instead of the sum; total variation
  one half of the sum over all but the last row and column. (The code's gradient of the total variation is summed over
  the batch where the other losses are averaged: its weight is batch size times ours.)
- `gatys`: Gatys, Ecker, Bethge 2016: features 1/2 of the squared difference, Gram matrices F^T F, 1 / (4 N^2 M^2) of
  their squared difference for N maps of M positions. A style image of another size than the result counts by its
  matrix over its own number of positions.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

NORMALIZATIONS = ("paper", "released", "gatys")


def content_loss(
    made: Float[Array, "b h w c"], target: Float[Array, "b h w c"], normalization: str
) -> Float[Array, " b"]:
    """Feature reconstruction: the squared distance of two pictures' activations."""
    squares = jnp.square(made - target).sum((1, 2, 3))
    return squares / 2 if normalization == "gatys" else squares / (made.shape[1] * made.shape[2] * made.shape[3])


def gram(features: Float[Array, "b h w c"], normalization: str) -> Float[Array, "b c c"]:
    """The Gram matrix of the maps: sums of products over all positions, divided by C H W; for `gatys` by H W."""
    batch, height, width, channels = features.shape
    maps = features.astype(jnp.float32).reshape(batch, height * width, channels)
    products = jnp.einsum("bpc,bpd->bcd", maps, maps, precision=jax.lax.Precision.HIGHEST)
    return products / (height * width * (1 if normalization == "gatys" else channels))


def style_loss(made: Float[Array, "b c c"], target: Float[Array, "b c c"], normalization: str) -> Float[Array, " b"]:
    """The distance of two pictures' Gram matrices, as `gram` gives them."""
    squares = jnp.square(made - target).sum((1, 2))
    channels = made.shape[1]
    return squares / {"paper": 1, "released": channels**2, "gatys": 4 * channels**2}[normalization]


def total_variation(pixels: Float[Array, "b h w c"], normalization: str) -> Float[Array, " b"]:
    """The squared differences of neighbouring pixels, summed."""
    down, across = pixels[:, 1:] - pixels[:, :-1], pixels[:, :, 1:] - pixels[:, :, :-1]
    if normalization == "released":
        squares = jnp.square(down[:, :, :-1]) + jnp.square(across[:, :-1])
        return squares.sum((1, 2, 3)) / 2
    return jnp.square(down).sum((1, 2, 3)) + jnp.square(across).sum((1, 2, 3))
