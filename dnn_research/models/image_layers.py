"""The layers that networks from images to images have beside those of `layers.py`.

`initial` draws as Torch's layers do, U(+-1 / sqrt(fan_in)) for kernels and biases: what the published networks started
from. The papers name no distribution.
"""

import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from dnn_research.models.initialization import (
    Initializer,
    Operation,
    Shape,
    Uniform,
    note_operation,
    ones,
    parameter,
    zeros,
)
from dnn_research.models.layers import Conv, path_name, per_channel
from dnn_research.ops.convolution import Padding
from dnn_research.ops.normalization import instance_norm, normalize
from dnn_research.ops.transposed import double

# Of mean and variance that an instance normalization is to use instead of its images' own.
GIVEN = "instance_stats"


@dataclasses.dataclass(frozen=True)
class ByFanIn:
    """U(-b, b) with b = 1 / sqrt(fan_in)."""

    def __call__(self, key: jax.Array, shape: Shape, dtype: Any) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -1, 1) / math.sqrt(math.prod(shape[:-1]))


by_fan_in = ByFanIn()


def convolution(
    features: int, kernel: int, channels: int, *, stride: int, padding: Padding, dtype: DTypeLike, name: str
) -> Conv:
    """A square convolution of `channels` maps with Torch's initial values."""
    return Conv(
        features, (kernel, kernel), (stride, stride), padding, kernel_init=by_fan_in,
        bias_init=_bias(kernel, channels), dtype=dtype, name=name,
    )  # fmt: skip


def _bias(kernel: int, channels: int) -> Initializer:
    return Uniform(1 / math.sqrt(kernel * kernel * channels))


class TransposedConv(nn.Module):
    """3x3 convolution with stride 1/2: kernel [3, 3, C, features], bias [features]; see `ops.transposed`."""

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 n"]:
        channels = images.shape[-1]
        kernel = parameter(self, "kernel", by_fan_in, (3, 3, channels, self.features)).astype(self.dtype)
        bias = parameter(self, "bias", _bias(3, channels), (self.features,)).astype(self.dtype)
        outputs = double(images.astype(self.dtype), kernel)
        around = ((1, 1), (1, 1))
        note_operation(
            Operation(path_name(self), "transposed conv", images.shape[1:], outputs.shape[1:], (3, 3), (2, 2), around)
        )
        return outputs + per_channel(bias, outputs)


class InstanceNorm(nn.Module):
    """Instance normalization (Ulyanov, Vedaldi, Lempitsky 2016, arXiv:1607.08022): each map of each image by itself.

    With several styles there is a row of scales and offsets for each, and an image takes a mixture of the rows
    (conditional instance normalization: Dumoulin, Shlens, Kudlur 2017, arXiv:1610.07629). Mean and variance are the
    image's, in training and after; variables `mean` and `var` [C] in the collection `instance_stats` take their place,
    so that a part of a picture can be normalized by the statistics of the whole.
    """

    styles: int = 1
    epsilon: float = 1e-5
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "b h w c"], mixture: Float[Array, "b s"] | None = None
    ) -> Float[Array, "b h w c"]:
        batch, channels = inputs.shape[0], inputs.shape[-1]
        shape = (channels,) if self.styles == 1 else (self.styles, channels)
        scale, bias = parameter(self, "scale", ones, shape), parameter(self, "bias", zeros, shape)
        note_operation(Operation(path_name(self), "instance norm", inputs.shape[1:], inputs.shape[1:]))
        scale, bias = (self._mixed(rows, mixture, batch) for rows in (scale, bias))
        x = inputs.astype(jnp.float32)
        if self.has_variable(GIVEN, "mean"):
            mean, var = self.get_variable(GIVEN, "mean"), self.get_variable(GIVEN, "var")
            x = jax.vmap(lambda image, s, b: normalize(image, mean, var, s, b, self.epsilon))(x, scale, bias)
        else:
            x = instance_norm(x, scale, bias, epsilon=self.epsilon)
        return x.astype(self.dtype)

    def _mixed(self, rows: Array, mixture: Array | None, batch: int) -> Array:
        """What each image takes of the styles' rows: [B, C]."""
        if mixture is None or self.styles == 1:
            first = rows.reshape(self.styles, -1)[:1]
            return jnp.broadcast_to(first, (batch, first.shape[1]))
        return (mixture[:, :, None] * rows[None]).sum(1)


def reflect(images: Float[Array, "b h w c"], pixels: int) -> Float[Array, "b h_out w_out c"]:
    """Mirrors the images at their outermost pixels, which are not repeated: so many rows and columns on each side."""
    around = (pixels, pixels)
    return jnp.pad(images, ((0, 0), around, around, (0, 0)), mode="reflect") if pixels else images


def enlarge(images: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Repeats every pixel twice in both directions (nearest neighbour)."""
    batch, height, width, channels = images.shape
    wide = jnp.broadcast_to(images[:, :, None, :, None], (batch, height, 2, width, 2, channels))
    return wide.reshape(batch, 2 * height, 2 * width, channels)
