"""MobileNet (Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision", 2017).

Table 1: a full convolution, then thirteen pairs of a depthwise 3x3 and a pointwise 1x1 convolution, batch normalization
and ReLU after each, the mean of the maps and a fully connected layer. The width multiplier is `width`, the resolution
multiplier is the size of the images.

Differs from the paper, which leaves the padding and the constants of batch normalization open (`lineage`):
- Table 1 prints stride 2 for the last depthwise convolution, on 7x7 maps that stay 7x7: it is 1 in every release.
- The released networks (tf-slim, Keras) have ReLU6 and dropout of 0.001, the paper ReLU and none.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from dnn_research.errors import UserError
from dnn_research.models.initialization import Initializer, TruncatedNormal, he_normal
from dnn_research.models.layers import (
    ACTIVATIONS,
    Activations,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    check_option,
    check_rates,
    check_size,
    check_upto,
    global_average_pool,
)
from dnn_research.ops.convolution import Pair

# Table 1: the stride of each depthwise convolution and the channels of the pointwise one after it.
# output  112x112     56x56                 28x28                 14x14                                           7x7
PAIRS = (
    (1, 64),
    *((2, 128), (1, 128)),
    *((2, 256), (1, 256)),
    *((2, 512), (1, 512), (1, 512), (1, 512), (1, 512), (1, 512)),
    *((2, 1024), (1, 1024)),
)
# Table 1's five equal pairs at 14x14 with 512 channels, which the shallow network of section 4.1 leaves out.
SHALLOW = (*PAIRS[:6], *PAIRS[11:])

# Padding of a 3x3 convolution with stride 2 along a side of even and of odd length, and batch normalization's epsilon
# and decay. `paper`: as TensorFlow pads by itself; `keras`: below and to the right; `torch`: on all sides.
LINEAGES: dict[str, tuple[Pair, Pair, float, float]] = {
    "paper": ((0, 1), (1, 1), 1e-3, 0.9997),
    "keras": ((0, 1), (0, 1), 1e-3, 0.99),
    "torch": ((1, 1), (1, 1), 1e-5, 0.9),
}


class MobileNet(nn.Module):
    """The network for 224x224 images (any size from 32 on).

    Attributes:
        width: the width multiplier alpha: every layer has int(alpha * channels), at least 8.
        separable: False puts a full 3x3 convolution in the place of each pair (section 4.1, table 4).
        shallow: leaves out five pairs of 512 channels (table 5).
        activation: `relu` (paper) or `relu6` (released networks).
        lineage: `paper` (tf-slim's, by the authors: TensorFlow's padding, epsilon 1e-3, decay 0.9997), `keras` or
            `torch`: see `LINEAGES`.
        dropout_rate: before the fully connected layer.
        stem: `imagenet`, or `cifar` for 32x32 images: conv0 and dw2 have stride 1, so that these end as 4x4.
        weight_init: `paper`: tf-slim's, N(0, 0.09^2) cut off at two standard deviations; `modern`: He's.
        num_classes: the number of logits.
        dtype: what is computed in; parameters, statistics and logits are float32.
        batch_norm_axis: the device axis to share batch statistics over; None: each device's own examples.
    """

    width: float = 1.0
    separable: bool = True
    shallow: bool = False
    activation: str = "relu"
    lineage: str = "paper"
    dropout_rate: float = 0.0
    stem: str = "imagenet"
    weight_init: str = "paper"
    num_classes: int = 1000
    dtype: DTypeLike = jnp.float32
    batch_norm_axis: str | None = None

    def __post_init__(self) -> None:
        check_option(self.activation, ("relu", "relu6"), "activation")
        check_option(self.lineage, LINEAGES, "lineage")
        check_option(self.stem, ("imagenet", "cifar"), "stem")
        check_option(self.weight_init, ("paper", "modern"), "weight_init")
        check_rates(dropout_rate=self.dropout_rate)
        if not self.width > 0:
            raise UserError(f"width must be positive, not {self.width}")
        super().__post_init__()

    def __call__(self, images: Float[Array, "b h w c"], *, train: bool = False) -> Float[Array, "b n"]:
        return self.features(images, train=train)["fc"]

    @property
    def names(self) -> list[str]:
        """The activations in order: conv0, dw1, pw1, dw2, ..., pool, fc; without separation conv0, conv1, ...."""
        pairs = range(1, len(self._pairs) + 1)
        layers = [name for n in pairs for name in ((f"dw{n}", f"pw{n}") if self.separable else (f"conv{n}",))]
        return ["conv0", *layers, "pool", "fc"]

    @nn.compact
    def features(self, images: Float[Array, "b h w c"], *, train: bool = False, upto: str | None = None) -> Activations:
        """Activations by name, in the order of `names`; convolutions after normalization and ReLU; `fc`: the logits.

        Nothing beyond `upto` is computed.

        Raises:
            UserError: there is no activation `upto`, or the images are too small.
        """
        check_upto(upto, self.names)
        check_size(images, minimum=8 if self.stem == "cifar" else 32)
        out: Activations = {}
        x = images
        for name in self.names:
            number = int(name[2:]) if name[:2] in ("dw", "pw") else int(name[4:]) if name.startswith("conv") else 0
            stride, channels = self._pairs[number - 1] if number else (2, 32)
            if self.stem == "cifar" and number in (0, 2):
                stride = 1
            if name == "pool":
                x = global_average_pool(x, name="pool")
            elif name == "fc":
                x = self._head(x, train=train)
            elif name.startswith("dw"):
                x = self._conv(x, name, x.shape[-1], 3, stride, groups=x.shape[-1], train=train)
            elif name.startswith("pw"):
                x = self._conv(x, name, self._scaled(channels), 1, 1, train=train)
            else:
                x = self._conv(x, name, self._scaled(channels), 3, stride, train=train)
            out[name] = x
            if name == upto:
                break
        return out

    @property
    def _pairs(self) -> tuple[tuple[int, int], ...]:
        return SHALLOW if self.shallow else PAIRS

    def _scaled(self, channels: int) -> int:
        return max(8, int(channels * self.width))

    def _conv(
        self, x: Array, name: str, features: int, kernel: int, stride: int, *, groups: int = 1, train: bool
    ) -> Array:
        """A convolution with its normalization and activation."""
        even, odd, epsilon, decay = LINEAGES[self.lineage]
        height, width = x.shape[1:3]
        strided = (odd if height % 2 else even, odd if width % 2 else even)
        around = (kernel // 2, kernel // 2)
        layer = Conv(
            features,
            (kernel, kernel),
            (stride, stride),
            strided if stride == 2 else (around, around),
            groups=groups,
            use_bias=False,
            kernel_init=self._draw,
            dtype=self.dtype,
            name=name,
        )
        norm = BatchNorm(decay, epsilon, axis_name=self.batch_norm_axis, dtype=self.dtype, name=f"{name}_bn")
        return ACTIVATIONS[self.activation](norm(layer(x), train=train))

    def _head(self, x: Array, *, train: bool) -> Array:
        x = Dropout(self.dropout_rate, name="dropout")(x, train=train)
        return Dense(self.num_classes, kernel_init=self._draw, dtype=self.dtype, name="fc")(x).astype(jnp.float32)

    @property
    def _draw(self) -> Initializer:
        return TruncatedNormal(0.09) if self.weight_init == "paper" else he_normal
