"""AlexNet (Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012).

Section 3.5 and figure 2, with the paper's ablations as fields: ReLU against tanh and sigmoid (3.1), two towers against
one (3.2), local response normalization (3.3), overlapping pooling (3.4), dropout (4.2),
a middle layer left out (7). Later builds of the same
network are variants: Caffe's, CaffeNet, and torchvision's one-tower network of "One weird trick" (Krizhevsky 2014).

With `towers=2` the network runs as in 2012: each of two neighbouring devices holds one tower, and activations cross
only before conv3 and in the fully connected layers. Parameters, initial values and checkpoints are those of the grouped
network.

Differs from the paper:
- A 224-pixel image gives 55x55 because the number of windows is rounded up, as in the authors' cuda-convnet: three
  rows and columns of zeros below and to the right. A 227-pixel image needs none.
- Normalization stays within a tower, as it must when the towers exchange nothing before conv3; Caffe's crosses.
- Dropout divides by the share that is kept in training, instead of halving the outputs in the test.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from dnn_research.errors import UserError
from dnn_research.models.initialization import (
    Constant,
    Initializer,
    Normal,
    Operation,
    Uniform,
    he_normal,
    note_operation,
    parameter,
    zeros,
)
from dnn_research.models.layers import (
    ACTIVATIONS,
    Activations,
    Conv,
    Dense,
    DenseOverMaps,
    Dropout,
    LocalResponseNorm,
    ceil_padding,
    check_covers,
    check_option,
    check_rates,
    check_size,
    check_upto,
    check_width_factor,
    flatten,
    max_pool,
    path_name,
    per_channel,
    scaled,
)
from dnn_research.ops.convolution import Padding, Pair

NAMES = (
    *("conv1", "norm1", "pool1", "conv2", "norm2", "pool2", "conv3", "conv4", "conv5", "pool5"),
    *("fc6", "fc7", "fc8"),
)


@dataclasses.dataclass(frozen=True)
class Variant:
    """One build of the network.

    Attributes:
        channels: of conv1 to conv5.
        groups: of conv2, conv4 and conv5.
        lrn: whether there is local response normalization.
        lrn_place: `before_pool` or `after_pool`.
        lrn_k, lrn_scaling: the constant; whether alpha multiplies the `sum` of squares or their `mean`.
        lrn_across_towers: False: normalization sees the maps of its own group.
        dropout_first: dropout before fc6 and fc7 instead of after them.
        round_up: windows that hang over the border count, in conv1 and in the pools; else conv1 is padded by 2.
        bias: what the biases of conv2, conv4, conv5, fc6 and fc7 start from.
        fc_std: of the weights of fc6 and fc7.
    """

    channels: tuple[int, int, int, int, int]
    groups: int = 2
    lrn: bool = True
    lrn_place: str = "before_pool"
    lrn_k: float = 2.0
    lrn_scaling: str = "sum"
    lrn_across_towers: bool = True
    dropout_first: bool = False
    round_up: bool = True
    bias: float = 1.0
    fc_std: float = 0.01


# Channels of                 conv1 conv2 conv3 conv4 conv5; kernels 11/4, 5, 3, 3, 3; maps 55, 27, 13, 13, 13.
VARIANTS: dict[str, Variant] = {
    "paper": Variant((96, 256, 384, 384, 256), lrn_across_towers=False),
    # The one-GPU control of section 3.2: one tower, the last convolution and the fully connected layers of full size.
    "half": Variant((48, 128, 192, 192, 256), groups=1),
    "ungrouped": Variant((96, 256, 384, 384, 256), groups=1),
    "caffe": Variant((96, 256, 384, 384, 256), lrn_k=1.0, lrn_scaling="mean", bias=0.1, fc_std=0.005),
    "caffenet": Variant(
        (96, 256, 384, 384, 256), lrn_place="after_pool", lrn_k=1.0, lrn_scaling="mean", bias=0.1, fc_std=0.005
    ),
    "torchvision": Variant((64, 192, 384, 256, 256), groups=1, lrn=False, dropout_first=True, round_up=False),
}


class AlexNet(nn.Module):
    """The network for 224x224 images (or 227x227), and for 32x32 ones with `stem='cifar'`.

    Fields that are None are as the variant has them.

    Attributes:
        variant: of `VARIANTS`.
        lrn: local response normalization after the ReLU of conv1 and conv2.
        lrn_place: `before_pool` (paper) or `after_pool` (CaffeNet).
        lrn_size, lrn_k, lrn_alpha, lrn_beta, lrn_scaling: its constants, see `LocalResponseNorm`; scaling is `sum`
            (paper) or `mean` (Caffe).
        lrn_across_towers: whether it crosses the border between the two groups.
        overlapping_pooling: 3x3 windows with stride 2; False: 2x2 with stride 2, which gives the same sizes, 27, 13
            and 6, without rounding up.
        left_out: of conv3 and conv4, those that are not there (section 7: any middle layer costs about 2 points); the
            next layer sees the channels that are.
        activation: `relu`, `tanh` or `sigmoid`, after every layer but the last.
        dropout_rate: of fc6 and fc7.
        stem: `imagenet`: conv1 is 11x11 with stride 4; `cifar`: 5x5 with stride 1, so that a 32x32 image ends as 4x4.
        weight_init: `paper`: the variant's: N(0, 0.01^2) and biases of 1 in conv2, conv4, conv5, fc6 and fc7 (Caffe:
            0.1, and 0.005 in fc6 and fc7; torchvision: torch's defaults); `modern`: He's, and zero biases.
        fully_convolutional: fc6 to fc8 as convolutions over the maps, for images of `image_size` and larger; the logits
            are the mean over all positions. The parameters stay the same.
        image_size: with `fully_convolutional`, the size of the images that fc6 fits.
        towers: 2 runs the two groups on two devices.
        tower_axis: set by the training loop: the device axis along which the towers exchange activations. The network
            then takes a tower's parameters, see `tower_axes`.
        num_classes: the number of logits.
        dtype: what is computed in; parameters and logits are float32.
        batch_norm_axis: every network takes it; this one has no batch normalization, so it changes nothing.
        width_factor: multiplies the number of channels of every layer.
    """

    variant: str = "paper"
    lrn: bool | None = None
    lrn_place: str | None = None
    lrn_size: int = 5
    lrn_k: float | None = None
    lrn_alpha: float = 1e-4
    lrn_beta: float = 0.75
    lrn_scaling: str | None = None
    lrn_across_towers: bool | None = None
    overlapping_pooling: bool = True
    left_out: tuple[str, ...] = ()
    activation: str = "relu"
    dropout_rate: float = 0.5
    stem: str = "imagenet"
    weight_init: str = "paper"
    fully_convolutional: bool = False
    image_size: int = 224
    towers: int = 1
    tower_axis: str | None = None
    num_classes: int = 1000
    dtype: DTypeLike = jnp.float32
    batch_norm_axis: str | None = None
    width_factor: float = 1.0

    def __post_init__(self) -> None:
        check_option(self.variant, VARIANTS, "variant")
        check_option(self.lrn_place, (None, "before_pool", "after_pool"), "lrn_place")
        check_option(self.lrn_scaling, (None, "sum", "mean"), "lrn_scaling")
        for layer in self.left_out:
            check_option(layer, ("conv3", "conv4"), "left_out")
        check_option(self.activation, ("relu", "tanh", "sigmoid"), "activation")
        check_option(self.stem, ("imagenet", "cifar"), "stem")
        check_option(self.weight_init, ("paper", "modern"), "weight_init")
        check_option(self.towers, (1, 2), "towers")
        check_width_factor(self.width_factor)
        check_rates(dropout_rate=self.dropout_rate)
        super().__post_init__()
        if self.towers == 2 and self._built.groups != 2:
            raise UserError(f"towers=2 needs a network of two groups; variant '{self.variant}' has one")
        if self.towers == 2 and self.left_out:
            raise UserError("towers=2 take the whole network: set left_out=()")
        if self.towers == 2 and self._built.lrn and self._built.lrn_across_towers:
            raise UserError("towers=2 exchange nothing before conv3: set lrn_across_towers=False, or lrn=False")
        if self.towers == 2 and self.fully_convolutional:
            raise UserError("fully_convolutional=True needs towers=1, which has the same parameters")

    def __call__(self, images: Float[Array, "b h w c"], *, train: bool = False) -> Float[Array, "b n"]:
        return self.features(images, train=train)[self._names[-1]]

    @property
    def tower_axes(self) -> dict[str, int]:
        """Path of a parameter -> the axis along which two towers hold its halves; fc8's bias is in both."""
        halves = {}
        for layer in ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"):
            halves |= {f"{layer}/kernel": -1, f"{layer}/bias": 0}
        return {**halves, "fc8/kernel": 0}

    @nn.compact
    def features(self, images: Float[Array, "b h w c"], *, train: bool = False, upto: str | None = None) -> Activations:
        """Activations by name, in order: conv1, norm1, pool1, conv2, norm2, pool2, conv3, ..., fc8 (the logits).

        Convolutions and fully connected layers are meant after their activation; normalization stands before or after
        its pool, or nowhere, as the network has it. Nothing beyond `upto` is computed. In a tower the maps are its own.
        Fully convolutional, fc6 to fc8 are maps and `pool` the logits.

        Raises:
            UserError: there is no activation `upto`, or the images are too small.
        """
        check_upto(upto, self._names)
        check_size(images, minimum=self._smallest)
        if self.fully_convolutional and (upto is None or "fc6" in self._names[: self._names.index(upto) + 1]):
            check_covers(images, self.image_size, self._last_maps)
        built, activate = self._built, ACTIVATIONS[self.activation]
        channels = [scaled(n, self.width_factor, multiple=2) for n in built.channels]
        hidden = scaled(4096, self.width_factor, multiple=2)
        share = self.towers if self.tower_axis else 1
        one = Constant(built.bias)

        def conv(
            x: Array,
            number: int,
            kernel: int,
            padding: Padding,
            strides: Pair = (1, 1),
            groups: int = 1,
            bias: Constant = zeros,
        ) -> Array:
            """A convolution and its activation; in a tower half of the features, and of two groups its own."""
            kernel_init, bias_init = self._initializers(kernel**2 * x.shape[-1] * share // groups, 0.01, bias)
            layer = Conv(
                channels[number - 1] // share,
                (kernel, kernel),
                strides,
                padding,
                groups=groups // share if groups > 1 else 1,
                kernel_init=kernel_init,
                bias_init=bias_init,
                dtype=self.dtype,
                name=f"conv{number}",
            )
            return activate(layer(x))

        def conv1(x: Array) -> Array:
            if self.stem == "cifar":
                return conv(x, 1, 5, ((2, 2), (2, 2)))
            return conv(x, 1, 11, ceil_padding(x, (11, 11), (4, 4)) if built.round_up else ((2, 2), (2, 2)), (4, 4))

        def norm(x: Array, name: str) -> Array:
            return LocalResponseNorm(
                self.lrn_size,
                built.lrn_k,
                self.lrn_alpha,
                self.lrn_beta,
                mean=built.lrn_scaling == "mean",
                groups=1 if built.lrn_across_towers else max(1, built.groups // share),
                name=name,
            )(x)

        def pool(x: Array, name: str) -> Array:
            if not self.overlapping_pooling:
                return max_pool(x, window_shape=(2, 2), strides=(2, 2), name=name)
            padding = ceil_padding(x, (3, 3), (2, 2)) if built.round_up else ((0, 0), (0, 0))
            return max_pool(x, window_shape=(3, 3), strides=(2, 2), padding=padding, name=name)

        def fc(x: Array, name: str) -> Array:
            """fc6 or fc7: it sees everything; a tower computes half of the units."""
            x = self._gathered(x)
            x = flatten(x) if x.ndim == 4 and not self.fully_convolutional else x
            if built.dropout_first or name == "fc7":
                x = Dropout(self.dropout_rate, name=f"dropout_{name}")(x, train=train)
            if self.fully_convolutional:
                window = self._last_maps(self.image_size) if name == "fc6" else 1
                kernel_init, bias_init = self._initializers(window**2 * x.shape[-1], built.fc_std, one)
                return activate(DenseOverMaps(hidden, window, kernel_init, bias_init, self.dtype, name=name)(x))
            kernel_init, bias_init = self._initializers(x.shape[-1], built.fc_std, one)
            return activate(Dense(hidden // share, True, kernel_init, bias_init, self.dtype, name=name)(x))

        def fc8(x: Array) -> Array:
            if not built.dropout_first:
                # Drawn for all units: a tower takes its half of the mask.
                mask = Dropout(self.dropout_rate, name="dropout_fc8")(
                    jnp.ones((*x.shape[:-1], hidden), x.dtype), train=train
                )
                x *= self._own_part(mask)
            kernel_init, bias_init = self._initializers(hidden, 0.01, zeros)
            if self.fully_convolutional:
                maps = DenseOverMaps(self.num_classes, 1, kernel_init, bias_init, self.dtype, name="fc8")(x)
                return maps.astype(jnp.float32)
            add = self._sum_over_towers if self.tower_axis else None
            return Head(self.num_classes, kernel_init, bias_init, add, self.dtype, name="fc8")(x).astype(jnp.float32)

        same = ((1, 1), (1, 1))
        # Output sizes: 55x55, 27x27 (pool1), 13x13 (pool2), 6x6 (pool5), 4096, 4096
        layers = {
            "conv1": conv1,
            "norm1": lambda x: norm(x, "norm1"),
            "pool1": lambda x: pool(x, "pool1"),
            "conv2": lambda x: conv(x, 2, 5, ((2, 2), (2, 2)), groups=built.groups, bias=one),
            "norm2": lambda x: norm(x, "norm2"),
            "pool2": lambda x: pool(x, "pool2"),
            "conv3": lambda x: conv(self._gathered(x), 3, 3, same),
            "conv4": lambda x: conv(x, 4, 3, same, groups=built.groups, bias=one),
            "conv5": lambda x: conv(x, 5, 3, same, groups=built.groups, bias=one),
            "pool5": lambda x: pool(x, "pool5"),
            "fc6": lambda x: fc(x, "fc6"),
            "fc7": lambda x: fc(x, "fc7"),
            "fc8": fc8,
            "pool": lambda x: x.mean((1, 2)),
        }
        out: Activations = {}
        x = images
        for name in self._names:
            out[name] = x = layers[name](x)
            if name == upto:
                break
        return out

    @property
    def _built(self) -> Variant:
        """The variant with this network's own choices."""
        own: dict[str, Any] = {
            "lrn": self.lrn,
            "lrn_place": self.lrn_place,
            "lrn_k": self.lrn_k,
            "lrn_scaling": self.lrn_scaling,
            "lrn_across_towers": self.lrn_across_towers,
        }
        return dataclasses.replace(VARIANTS[self.variant], **{k: v for k, v in own.items() if v is not None})

    @property
    def _names(self) -> list[str]:
        """The activations in the order in which they are computed."""
        names = [n for n in NAMES if n not in self.left_out and (self._built.lrn or not n.startswith("norm"))]
        if self.fully_convolutional:
            names.append("pool")
        if self._built.lrn and self._built.lrn_place == "after_pool":
            for number in (1, 2):
                at = names.index(f"norm{number}")
                names[at : at + 2] = f"pool{number}", f"norm{number}"
        return names

    @property
    def _smallest(self) -> int:
        """The smallest image that leaves a pixel after every layer."""
        if self.stem == "cifar":
            return 15 if self.overlapping_pooling and not self._built.round_up else 8
        if self._built.round_up:
            return 11 if self.overlapping_pooling else 36
        return 63 if self.overlapping_pooling else 35

    def _last_maps(self, size: int) -> int:
        """Height and width of pool5 for an image of that size."""
        if self.stem == "imagenet":
            size = -(-(size - 11) // 4) + 1 if self._built.round_up else (size + 4 - 11) // 4 + 1
        for _ in ("pool1", "pool2", "pool5"):
            if not self.overlapping_pooling:
                size //= 2
            else:
                size = -(-max(size - 3, 0) // 2) + 1 if self._built.round_up else (size - 3) // 2 + 1
        return size

    def _initializers(self, fan_in: int, std: float, bias: Constant) -> tuple[Initializer, Initializer]:
        """For a layer's kernel and bias."""
        if self.weight_init == "modern":
            return he_normal, zeros
        if self.variant == "torchvision":
            return Uniform(1 / math.sqrt(fan_in)), Uniform(1 / math.sqrt(fan_in))
        return Normal(std), bias

    def _groups(self) -> list[list[int]]:
        """The devices that share a copy of the network."""
        devices = lax.axis_size(self.tower_axis)
        return [list(range(first, first + self.towers)) for first in range(0, devices, self.towers)]

    def _gathered(self, x: Array) -> Array:
        """The channels of all towers."""
        if self.tower_axis is None:
            return x
        return lax.all_gather(x, self.tower_axis, axis=x.ndim - 1, tiled=True, axis_index_groups=self._groups())

    def _sum_over_towers(self, x: Array) -> Array:
        return lax.psum(x, self.tower_axis, axis_index_groups=self._groups())

    def _own_part(self, x: Float[Array, "*b n"]) -> Float[Array, "*b m"]:
        """This tower's part of the units."""
        if self.tower_axis is None:
            return x
        width = x.shape[-1] // self.towers
        return lax.dynamic_slice_in_dim(x, lax.axis_index(self.tower_axis) % self.towers * width, width, axis=-1)


class Head(nn.Module):
    """fc8: kernel [C, features], bias [features]. `add` sums what the towers make of their inputs, before the bias."""

    features: int
    kernel_init: Initializer
    bias_init: Initializer
    add: Callable[[Array], Array] | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, inputs: Float[Array, "b c"]) -> Float[Array, "b n"]:
        shape = (inputs.shape[-1], self.features)
        outputs = inputs.astype(self.dtype) @ parameter(self, "kernel", self.kernel_init, shape).astype(self.dtype)
        note_operation(Operation(path_name(self), "fc", inputs.shape[1:], outputs.shape[1:], macs=math.prod(shape)))
        if self.add is not None:
            outputs = self.add(outputs)
        return outputs + per_channel(
            parameter(self, "bias", self.bias_init, (self.features,)).astype(self.dtype), outputs
        )
