"""Network in Network (Lin, Chen, Yan, "Network in Network", ICLR 2014).

Blocks of a spatial convolution and two 1x1 convolutions ("mlpconv"; the author's layers are named cccp), and the mean
of each class's map instead of fully connected layers. The paper names no layer sizes: the author's cuda-convnet
definitions do, and the Caffe zoo's for ImageNet, which is not in the paper.

Differs from the paper's and the author's:
- Preprocessing (global contrast normalization and whitening) is the data's affair.
- Dropout divides by the share that is kept in training.
Later ports average in pool2 and pad pool1; the author's pools take the maximum, unpadded and rounding up.
"""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from dnn_research.errors import UserError
from dnn_research.models.initialization import Initializer, Normal, he_normal
from dnn_research.models.layers import (
    Activations,
    Conv,
    Dense,
    Dropout,
    ceil_padding,
    check_option,
    check_rates,
    check_size,
    check_upto,
    check_width_factor,
    flatten,
    global_average_pool,
    max_pool,
    scaled,
)
from dnn_research.ops.convolution import Padding


@dataclasses.dataclass(frozen=True)
class Block:
    """A spatial convolution (width, kernel, stride, padding) and the widths of its two 1x1; None: the classes."""

    width: int
    kernel: int
    cccp: tuple[int, int | None]
    stride: int = 1
    padding: int = 0


@dataclasses.dataclass(frozen=True)
class Variant:
    """Blocks with a 3x3 pool of stride 2 between them.

    Attributes:
        blocks: in order.
        dropout_after: the pools that dropout follows.
        std: of the initial weights; `stds` names the layers that have another.
    """

    blocks: tuple[Block, ...]
    dropout_after: tuple[int, ...]
    std: float = 0.05
    stds: tuple[tuple[str, float], ...] = ()


_CIFAR = (
    Block(192, 5, (160, 96), padding=2),
    Block(192, 5, (192, 192), padding=2),
    Block(192, 3, (192, None), padding=1),
)
# The author's definitions. Output sizes of the blocks: CIFAR and SVHN 32x32, 16x16, 8x8; MNIST 28x28, 14x14, 7x7;
# ImageNet 54x54, 27x27, 13x13, 6x6 (224 pixels).
VARIANTS: dict[str, Variant] = {
    "cifar10": Variant(_CIFAR, (1, 2)),
    "cifar100": Variant(_CIFAR, (1, 2), stds=(("conv1", 0.001), ("cccp1", 0.01), ("cccp2", 0.01))),
    "svhn": Variant(
        (
            Block(128, 5, (96, 64), padding=2),
            Block(320, 5, (256, 128), padding=2),
            Block(384, 5, (256, None), padding=2),
        ),
        (1, 2),
    ),
    "mnist": Variant(
        (
            Block(96, 5, (64, 48), padding=2),
            Block(128, 5, (96, 48), padding=2),
            Block(128, 5, (96, None), padding=2),
        ),
        (1, 2),
    ),
    "imagenet": Variant(
        (
            Block(96, 11, (96, 96), stride=4),
            Block(256, 5, (256, 256), padding=2),
            Block(384, 3, (384, 384), padding=1),
            Block(1024, 3, (1024, None), padding=1),
        ),
        (3,),
        stds=(("conv1", 0.01), ("conv3", 0.01), ("cccp8", 0.01)),
    ),
}


class NIN(nn.Module):
    """The networks of the author's definitions.

    Attributes:
        variant: of `VARIANTS`.
        mlpconv: False leaves the 1x1 convolutions out: each block is its spatial convolution with as many features as
            the block would put out, so that what follows fits (the last one gives the class maps).
        head: `gap`: the mean of each class's map; `fc`: a fully connected layer on the flattened last maps.
        dropout_rate: after the pools that the variant names.
        fc_dropout_rate: before the fully connected head.
        weight_init: `paper`: the author's normal distributions, zero biases; `modern`: He's.
        num_classes: the number of logits, and of the last maps.
        dtype: what is computed in; parameters and logits are float32.
        batch_norm_axis: every network takes it; this one has no batch normalization, so it changes nothing.
        width_factor: multiplies the number of channels of every layer but the class maps.
    """

    variant: str = "cifar10"
    mlpconv: bool = True
    head: str = "gap"
    dropout_rate: float = 0.5
    fc_dropout_rate: float = 0.0
    weight_init: str = "paper"
    num_classes: int = 10
    dtype: DTypeLike = jnp.float32
    batch_norm_axis: str | None = None
    width_factor: float = 1.0

    def __post_init__(self) -> None:
        check_option(self.variant, VARIANTS, "variant")
        check_option(self.head, ("gap", "fc"), "head")
        check_option(self.weight_init, ("paper", "modern"), "weight_init")
        check_width_factor(self.width_factor)
        check_rates(dropout_rate=self.dropout_rate, fc_dropout_rate=self.fc_dropout_rate)
        if self.head == "gap" and self.fc_dropout_rate:
            raise UserError("fc_dropout_rate is of the head 'fc'; set it to 0 or model.head to fc")
        super().__post_init__()

    def __call__(self, images: Float[Array, "b h w c"], *, train: bool = False) -> Float[Array, "b n"]:
        return self.features(images, train=train)[self.head]

    @property
    def names(self) -> list[str]:
        """The activations in order: conv1, cccp1, cccp2, pool1, conv2, ..., gap or fc."""
        names = []
        blocks = VARIANTS[self.variant].blocks
        for number in range(1, len(blocks) + 1):
            cccp = [f"cccp{2 * number - 1}", f"cccp{2 * number}"] if self.mlpconv else []
            names += [f"conv{number}", *cccp, *([f"pool{number}"] if number < len(blocks) else [])]
        return [*names, self.head]

    @nn.compact
    def features(self, images: Float[Array, "b h w c"], *, train: bool = False, upto: str | None = None) -> Activations:
        """Activations by name, in the order of `names`, all after their ReLU; the last is the logits.

        The last 1x1 convolution has its ReLU too, before the mean, as the author's has. Nothing beyond `upto` is
        computed.

        Raises:
            UserError: there is no activation `upto`, or the images are too small.
        """
        check_upto(upto, self.names)
        check_size(images, minimum=11 if self.variant == "imagenet" else 2)
        blocks = VARIANTS[self.variant].blocks
        out: Activations = {}
        x = images
        for name in self.names:
            if name in ("gap", "fc"):
                x = self._head(x, train=train)
            elif name.startswith("pool"):
                padding = ceil_padding(x, (3, 3), (2, 2))
                x = max_pool(x, window_shape=(3, 3), strides=(2, 2), padding=padding, name=name)
            elif name.startswith("conv"):
                number = int(name.removeprefix("conv"))
                if number - 1 in VARIANTS[self.variant].dropout_after:
                    x = Dropout(self.dropout_rate, name=f"dropout{number - 1}")(x, train=train)
                block = blocks[number - 1]
                width = block.width if self.mlpconv else block.cccp[-1]
                around = (block.padding, block.padding)
                x = self._conv(x, name, width, block.kernel, block.stride, (around, around))
            else:
                number = int(name.removeprefix("cccp"))
                x = self._conv(x, name, blocks[(number - 1) // 2].cccp[(number - 1) % 2])
            out[name] = x
            if name == upto:
                break
        return out

    def _head(self, x: Array, *, train: bool) -> Array:
        if self.head == "gap":
            return global_average_pool(x, name="gap").astype(jnp.float32)
        x = Dropout(self.fc_dropout_rate, name="dropout_fc")(flatten(x), train=train)
        return Dense(self.num_classes, kernel_init=self._draw("fc"), dtype=self.dtype, name="fc")(x).astype(jnp.float32)

    def _draw(self, name: str) -> Initializer:
        variant = VARIANTS[self.variant]
        return Normal(dict(variant.stds).get(name, variant.std)) if self.weight_init == "paper" else he_normal

    def _conv(
        self,
        x: Array,
        name: str,
        width: int | None,
        kernel: int = 1,
        stride: int = 1,
        padding: Padding = ((0, 0), (0, 0)),
    ) -> Array:
        """A convolution and its ReLU; a width of None is that of the class maps."""
        features = self.num_classes if width is None else scaled(width, self.width_factor)
        draw, strides = self._draw(name), (stride, stride)
        return nn.relu(
            Conv(features, (kernel, kernel), strides, padding, kernel_init=draw, dtype=self.dtype, name=name)(x)
        )
