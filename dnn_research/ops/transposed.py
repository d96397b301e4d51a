"""Transposed convolution with stride 2: what the papers call a convolution with stride 1/2.

Defined as the stock operation: zeros between the pixels, then a convolution. On a CPU, where XLA computes with those
zeros, it is one convolution of 2x2 windows whose outputs are the four pixels that stand where one stood: 16 products
for the 9 that there are, instead of 36.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from dnn_research.ops.convolution import conv
from dnn_research.ops.lowering import by_platform
from dnn_research.ops.stock import LAYOUT


def double(images: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c n"]) -> Float[Array, "b h2 w2 n"]:
    """Stride 1/2 with a 3x3 kernel, padding 1 and output adjustment 1, as Torch counts them.

    The output at 2i is x[i] k[1], at 2i + 1 it is x[i] k[0] + x[i + 1] k[2], likewise across; beyond the border x is 0.

    Args:
        images: [B, H, W, C].
        kernel: [3, 3, C, N], as it is laid over the images with zeros between them. Torch's is turned around.

    Returns:
        [B, 2 H, 2 W, N].
    """
    return by_platform(images, kernel, cpu=_by_windows, stock=_stock)


def _stock(images: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(
        images, kernel, (1, 1), ((1, 2), (1, 2)), lhs_dilation=(2, 2), dimension_numbers=LAYOUT
    )


def _by_windows(images: Array, kernel: Array) -> Array:
    batch, height, width, _ = images.shape
    features = kernel.shape[-1]
    # Taps of the even and of the odd outputs on the pixels i and i + 1, along one axis after the other.
    rows = [jnp.stack([kernel[1], jnp.zeros_like(kernel[1])]), jnp.stack([kernel[0], kernel[2]])]
    phases = [
        phase
        for row in rows
        for phase in (
            jnp.stack([row[:, 1], jnp.zeros_like(row[:, 1])], 1),
            jnp.stack([row[:, 0], row[:, 2]], 1),
        )
    ]
    pixels = conv(images, jnp.concatenate(phases, -1), padding=((0, 1), (0, 1)))
    pixels = pixels.reshape(batch, height, width, 2, 2, features).transpose(0, 1, 3, 2, 4, 5)
    return jax.lax.reshape(pixels, (batch, 2 * height, 2 * width, features))
