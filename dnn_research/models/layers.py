"""The layers that the networks are made of.

Thin modules of our own instead of `flax.linen`'s: convolution through `ops.convolution`, explicit padding, statistics
and parameters always in float32, dropout that does not depend on the number of devices, and leaves that
`initialization.py` can draw one by one. `dtype` is what a layer computes in.
"""

import contextlib
import contextvars
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
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
from dnn_research.ops import pooling
from dnn_research.ops.convolution import Padding, conv
from dnn_research.ops.dense import dense
from dnn_research.ops.normalization import batch_norm, local_response_norm, normalize

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
                "conv",
                images.shape[1:],
                outputs.shape[1:],
                self.kernel_size,
                self.strides,
                self.padding,
                groups=self.groups,
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
        outputs = dense(inputs.astype(self.dtype), kernel)
        note_operation(Operation(path_name(self), "fc", inputs.shape[1:], outputs.shape[1:]))
        if self.use_bias:
            outputs += per_channel(
                parameter(self, "bias", self.bias_init, (self.features,)).astype(self.dtype), outputs
            )
        return outputs


class DenseOverMaps(nn.Module):
    """A fully connected layer of `window` x `window` maps, applied at every position.

    Its kernel is that of `Dense` on the flattened window, [window * window * C, features]; bias [features].
    """

    features: int
    window: int
    kernel_init: Initializer = he_normal
    bias_init: Initializer = zeros
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, maps: Float[Array, "b h w c"]) -> Float[Array, "b h_out w_out n"]:
        rows = self.window**2 * maps.shape[-1]
        kernel = parameter(self, "kernel", self.kernel_init, (rows, self.features)).astype(self.dtype)
        outputs = conv(maps.astype(self.dtype), kernel.reshape(self.window, self.window, maps.shape[-1], self.features))
        note_operation(
            Operation(
                path_name(self),
                "conv",
                maps.shape[1:],
                outputs.shape[1:],
                (self.window, self.window),
                (1, 1),
                ((0, 0), (0, 0)),
                kernel.size * math.prod(outputs.shape[1:3]),
            )
        )
        bias = parameter(self, "bias", self.bias_init, (self.features,)).astype(self.dtype)
        return outputs + per_channel(bias, outputs)


_frozen: contextvars.ContextVar[Callable[[str], bool] | None] = contextvars.ContextVar("frozen", default=None)


@contextlib.contextmanager
def frozen_layers(frozen: Callable[[str], bool] | None) -> Iterator[None]:
    """While a network is traced for training: path of a parameter -> whether it keeps its value; None: none does.

    Batch normalization whose scale is frozen uses its running statistics and leaves them as they are.
    """
    token = _frozen.set(frozen)
    try:
        yield
    finally:
        _frozen.reset(token)


def layers_are_frozen() -> bool:
    """Whether `frozen_layers` holds any."""
    return _frozen.get() is not None


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
        frozen = _frozen.get()
        if train and not (frozen is not None and frozen(f"{path_name(self)}/scale")):
            # The axis exists only inside the parallel step, not where a network is initialized.
            axis_name = None if self.is_initializing() else self.axis_name
            x, mean, var = batch_norm(x, scale, bias, epsilon=self.epsilon, axis_name=axis_name)
            if not self.is_initializing():
                running_mean.value = self.decay * running_mean.value + (1 - self.decay) * mean
                running_var.value = self.decay * running_var.value + (1 - self.decay) * var
        else:
            x = normalize(x, running_mean.value, running_var.value, scale, bias, self.epsilon)
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
    outputs = pooling.max_pool(images, window_shape, strides, padding)
    operation = Operation(name, "max pool", images.shape[1:], outputs.shape[1:], window_shape, strides, padding)
    note_operation(operation, outputs)
    return outputs


def average_pool(
    images: Float[Array, "b h w c"],
    *,
    window_shape: tuple[int, int],
    strides: tuple[int, int],
    padding: Padding = ((0, 0), (0, 0)),
    name: str,
) -> Float[Array, "b h_out w_out c"]:
    """The mean of each window; padding counts as zeros. `name` stands in summaries."""
    # By keyword: jax2onnx takes over flax's pooling functions and refuses positional arguments.
    outputs = nn.avg_pool(images, window_shape=window_shape, strides=strides, padding=padding)
    operation = Operation(name, "average pool", images.shape[1:], outputs.shape[1:], window_shape, strides, padding)
    note_operation(operation, outputs)
    return outputs


def ceil_padding(
    images: Float[Array, "b h w c"], window_shape: tuple[int, int], strides: tuple[int, int], before: int = 0
) -> Padding:
    """The padding that makes a pool's output size round up, as Caffe's and cuda-convnet's pools do.

    `before` pixels go above and to the left, and as many below and to the right or more, until the last window is
    whole. As in Caffe, a window that would start beyond the images and their `before` pixels is left out.
    """
    pairs = []
    for size, window, stride in zip(images.shape[1:3], window_shape, strides, strict=True):
        windows = -(-max(size + 2 * before - window, 0) // stride) + 1
        if before and (windows - 1) * stride >= size + before:
            windows -= 1
        pairs.append((before, (windows - 1) * stride + window - size - before))
    return (pairs[0], pairs[1])


class LocalResponseNorm(nn.Module):
    """Local response normalization across channels (Krizhevsky, Sutskever, Hinton 2012, section 3.3).

    b_i = a_i / (k + alpha sum_j a_j^2)^beta over the `size` channels around i, fewer at the ends. The paper's alpha
    multiplies the sum; Caffe, torch and cuda-convnet2's parser divide it by `size` first (`mean=True`). With `groups`,
    the channels are split into as many parts that do not see each other: the maps of one of AlexNet's two GPUs.
    Computed in float32.
    """

    size: int = 5
    k: float = 2.0
    alpha: float = 1e-4
    beta: float = 0.75
    mean: bool = False
    groups: int = 1

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        note_operation(Operation(path_name(self), f"LRN, {self.size} channels", images.shape[1:], images.shape[1:]))
        alpha = self.alpha / self.size if self.mean else self.alpha
        normalized = local_response_norm(
            images.astype(jnp.float32), size=self.size, k=self.k, alpha=alpha, beta=self.beta, groups=self.groups
        )
        return normalized.astype(images.dtype)


def flatten(images: Float[Array, "b h w c"]) -> Float[Array, "b hwc"]:
    """[B, H, W, C] -> [B, H * W * C], channels last: the rows of the first fully connected kernel are in this order."""
    return images.reshape(images.shape[0], -1)


def relu6(x: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """min(max(x, 0), 6)."""
    return jnp.clip(x, 0, 6)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": nn.relu,
    "relu6": relu6,
    "tanh": jnp.tanh,
    "sigmoid": nn.sigmoid,
}


def scaled(width: int, factor: float, *, multiple: int = 1) -> int:
    """`width` channels times `factor`, rounded to a multiple of `multiple` and at least that."""
    return max(multiple, round(width * factor / multiple) * multiple)


def check_option(value: object, known: Iterable[object], field: str) -> None:
    """Raises UserError unless a field has one of its known values."""
    options = list(known)
    if value not in options:
        raise UserError(f"{field} is '{value}'; it can be {', '.join(str(option) for option in options)}")


def check_size(images: Float[Array, "b h w c"], *, minimum: int) -> None:
    """Raises UserError for images that have no pixel left at the end of the network."""
    height, width = images.shape[1:3]
    if min(height, width) < minimum:
        raise UserError(f"images of {height}x{width} are too small for this network; take at least {minimum}x{minimum}")


def check_covers(images: Float[Array, "b h w c"], image_size: int, maps: Callable[[int], int]) -> None:
    """Raises UserError for images whose last maps are smaller than fc6, as a convolution, is large.

    Args:
        image_size: of the images that fc6 fits.
        maps: from the side of an image to the side of its last maps.
    """
    height, width = images.shape[1:3]
    if maps(min(height, width)) < maps(image_size):
        raise UserError(
            f"images of {height}x{width} are smaller than the {image_size} pixels that fc6 fits; set model.image_size "
            "to the size that the network was trained with, or take larger images"
        )


def check_width_factor(factor: float) -> None:
    """Raises UserError unless a width factor is positive."""
    if not factor > 0:
        raise UserError(f"width_factor must be positive, not {factor}")


def check_rates(**rates: float | None) -> None:
    """Raises UserError unless every rate of dropout, by the name of its field, is None or 0 or more and less than 1."""
    for field, rate in rates.items():
        if rate is not None and not 0 <= rate < 1:
            raise UserError(f"{field} must be 0 or more and less than 1, not {rate}")


def global_average_pool(images: Float[Array, "b h w c"], *, name: str) -> Float[Array, "b c"]:
    """The mean over all positions, summed in float32. `name` stands in summaries."""
    outputs = images.mean((1, 2))
    operation = Operation(name, "global average pool", images.shape[1:], outputs.shape[1:], images.shape[1:3])
    note_operation(operation, outputs)
    return outputs


def check_upto(upto: str | None, names: Sequence[str]) -> None:
    """Raises UserError unless `upto` is None or the name of an activation."""
    if upto is not None and upto not in names:
        raise UserError(f"there is no activation '{upto}'; there are {', '.join(names)}")
