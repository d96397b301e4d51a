"""The layers that the networks are made of.

Thin modules of our own instead of `flax.linen`'s: convolution through `ops.convolution`, explicit padding, statistics
and parameters always in float32, dropout that does not depend on the number of devices, and leaves that
`initialization.py` can draw one by one. `dtype` is what a layer computes in.
"""

import contextlib
import contextvars
import math
from collections.abc import Iterator, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from dnn_research.errors import UserError
from dnn_research.models.initialization import (
    Initializer,
    Operation,
    he_normal,
    note_operation,
    ones,
    parameter,
    statistic,
    zeros,
)
from dnn_research.ops.convolution import Padding, conv

Activations = dict[str, Array]


def path_name(module: nn.Module) -> str:
    """Where a module's variables stand: 'stage2/block1/conv1'."""
    return "/".join(module.path)


def per_channel(vector: Float[Array, " c"], like: Float[Array, "*b c"]) -> Float[Array, "*ones c"]:
    """A vector [C] with as many axes as `like` [..., C]."""
    return vector.reshape((1,) * (like.ndim - 1) + vector.shape)


class Conv(nn.Module):
    """2-D convolution: kernel [KH, KW, C / groups, features], bias [features]."""

    features: int
    kernel_size: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: Padding = ((0, 0), (0, 0))
    groups: int = 1
    use_bias: bool = True
    kernel_init: Initializer = he_normal
    bias_init: Initializer = zeros
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"]) -> Float[Array, "b h_out w_out n"]:
        shape = (*self.kernel_size, images.shape[-1] // self.groups, self.features)
        kernel = parameter(self, "kernel", self.kernel_init, shape).astype(self.dtype)
        outputs = conv(
            images.astype(self.dtype), kernel, strides=self.strides, padding=self.padding, groups=self.groups
        )
        note_operation(
            Operation(
                path_name(self),
                "conv" if self.groups == 1 else f"conv, {self.groups} groups",
                images.shape[1:],
                outputs.shape[1:],
                self.kernel_size,
                self.strides,
                self.padding,
                math.prod(shape) * math.prod(outputs.shape[1:3]),
            )
        )
        if self.use_bias:
            outputs += per_channel(
                parameter(self, "bias", self.bias_init, (self.features,)).astype(self.dtype), outputs
            )
        return outputs


class Dense(nn.Module):
    """Fully connected layer: kernel [C, features], bias [features]."""

    features: int
    use_bias: bool = True
    kernel_init: Initializer = he_normal
    bias_init: Initializer = zeros
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, inputs: Float[Array, "b c"]) -> Float[Array, "b n"]:
        shape = (inputs.shape[-1], self.features)
        kernel = parameter(self, "kernel", self.kernel_init, shape).astype(self.dtype)
        outputs = inputs.astype(self.dtype) @ kernel
        note_operation(Operation(path_name(self), "fc", inputs.shape[1:], outputs.shape[1:], macs=math.prod(shape)))
        if self.use_bias:
            outputs += per_channel(
                parameter(self, "bias", self.bias_init, (self.features,)).astype(self.dtype), outputs
            )
        return outputs


class BatchNorm(nn.Module):
    """Batch normalization (Ioffe and Szegedy 2015) over all axes but the last.

    With `axis_name`, E[x] and E[x^2] are averaged over the devices of that axis: the statistics of the global batch.
    Without it a device normalizes by its own examples. The running variance of such a run, averaged over the devices,
    is a mean of local variances: it leaves out the variance between the devices' means, and so lies below the global
    batch's variance, the more so the fewer examples a device holds.

    Running statistics (`batch_stats`: `mean`, `var`, both float32): new = decay * old + (1 - decay) * batch. `decay`
    is what Flax calls `momentum`; torch's `momentum` is 1 - decay. The variance is the biased one; torch keeps the
    unbiased one.
    """

    decay: float = 0.9
    epsilon: float = 1e-5
    axis_name: str | None = None
    scale_init: Initializer = ones
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, inputs: Float[Array, "*b c"], *, train: bool) -> Float[Array, "*b c"]:
        channels = (inputs.shape[-1],)
        scale = parameter(self, "scale", self.scale_init, channels)
        bias = parameter(self, "bias", zeros, channels)
        running_mean = statistic(self, "mean", zeros, channels)
        running_var = statistic(self, "var", ones, channels)
        note_operation(Operation(path_name(self), "batch norm", inputs.shape[1:], inputs.shape[1:]))
        x = inputs.astype(jnp.float32)
        if train:
            axes = tuple(range(x.ndim - 1))
            moments = jnp.stack([x.mean(axes), jnp.square(x).mean(axes)])
            # The axis exists only inside the parallel step, not where a network is initialized.
            if self.axis_name is not None and not self.is_initializing():
                moments = lax.pmean(moments, self.axis_name)
            mean = moments[0]
            var = jnp.maximum(moments[1] - jnp.square(mean), 0.0)
            if not self.is_initializing():
                running_mean.value = self.decay * running_mean.value + (1 - self.decay) * mean
                running_var.value = self.decay * running_var.value + (1 - self.decay) * var
        else:
            mean, var = running_mean.value, running_var.value
        factor = lax.rsqrt(var + self.epsilon) * scale
        x = (x - per_channel(mean, x)) * per_channel(factor, x) + per_channel(bias, x)
        return x.astype(self.dtype)


_positions: contextvars.ContextVar[Array | None] = contextvars.ContextVar("positions", default=None)


@contextlib.contextmanager
def example_positions(positions: Int[Array, " b"]) -> Iterator[None]:
    """While a network is traced: where in the global batch its examples stand. Without it they are 0, 1, 2, ..."""
    token = _positions.set(positions)
    try:
        yield
    finally:
        _positions.reset(token)


class Dropout(nn.Module):
    """Dropout with a key for each example, so that masks do not depend on how many devices share the batch.

    The mask of an example is a function of (key 'dropout' of the step, layer, position in the global batch); the
    step's key must be the same on all devices, and `example_positions` says where the examples stand. What stays is
    divided by 1 - rate.
    """

    rate: float

    @nn.compact
    def __call__(self, inputs: Float[Array, "b *rest"], *, train: bool) -> Float[Array, "b *rest"]:
        note_operation(Operation(path_name(self), f"dropout {self.rate:g}", inputs.shape[1:], inputs.shape[1:]))
        if not train or self.rate == 0:
            return inputs
        key = self.make_rng("dropout")
        positions = _positions.get()
        if positions is None:
            positions = jnp.arange(inputs.shape[0])

        def mask(position: Int[Array, ""]) -> Bool[Array, "*rest"]:
            return jax.random.bernoulli(jax.random.fold_in(key, position), 1 - self.rate, inputs.shape[1:])

        return jnp.where(jax.vmap(mask)(positions), inputs / (1 - self.rate), jnp.zeros_like(inputs))


def max_pool(
    images: Float[Array, "b h w c"],
    *,
    window_shape: tuple[int, int],
    strides: tuple[int, int],
    padding: Padding = ((0, 0), (0, 0)),
    name: str,
) -> Float[Array, "b h_out w_out c"]:
    """The maximum of each window; padding counts as minus infinity. `name` stands in summaries."""
    # By keyword: jax2onnx takes over flax's pooling functions and refuses positional arguments.
    outputs = nn.max_pool(images, window_shape=window_shape, strides=strides, padding=padding)
    note_operation(Operation(name, "max pool", images.shape[1:], outputs.shape[1:], window_shape, strides, padding))
    return outputs


def global_average_pool(images: Float[Array, "b h w c"], *, name: str) -> Float[Array, "b c"]:
    """The mean over all positions, summed in float32. `name` stands in summaries."""
    outputs = images.mean((1, 2))
    note_operation(Operation(name, "global average pool", images.shape[1:], outputs.shape[1:], images.shape[1:3]))
    return outputs


def check_upto(upto: str | None, names: Sequence[str]) -> None:
    """Raises UserError unless `upto` is None or the name of an activation."""
    if upto is not None and upto not in names:
        raise UserError(f"there is no activation '{upto}'; there are {', '.join(names)}")
