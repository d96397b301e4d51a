"""Deep residual networks (He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016).

`ResNet` is Table 1 (ImageNet) with its plain counterparts, `CifarResNet` section 4.2 (6n + 2 layers) with its plain
ones. Shortcuts are identities; where dimensions change, option A subsamples and appends zero channels, B projects by
a 1x1 convolution; C projects everywhere. Convolutions have no bias, batch normalization follows each, ReLU follows
that and the addition.

Differs from the paper:
- pool1 pads by 1 on each side, as fb.resnet.torch and torchvision do. The authors' released Caffe definition pads
  nothing and rounds up, which for even sizes is TensorFlow's 'SAME': the same 56x56, other values.
- The running statistics are moving averages; the authors' released ones were computed after training.
- `stride_in='3x3'` (torchvision, "v1.5") and `zero_init_last` are later practice, off by default.

Scanning or rematerializing blocks changes how a network runs, not what it is: variables, initial values and results
stay.
"""

import functools
from collections.abc import Iterable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from dnn_research.errors import UserError
from dnn_research.models.initialization import ones, zeros
from dnn_research.models.layers import (
    Activations,
    BatchNorm,
    Conv,
    Dense,
    check_option,
    check_size,
    check_upto,
    check_width_factor,
    global_average_pool,
    max_pool,
    scaled,
)
from dnn_research.models.stage import Maker, Stage

# Table 1 of the paper: the number of blocks in conv2_x, conv3_x, conv4_x, conv5_x (here stage2 to stage5).
# depth         conv2_x  conv3_x  conv4_x  conv5_x
BASIC = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
}
BOTTLENECK = {
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
# width         64       128      256      512     of the 3x3 convolutions; bottlenecks put out four times as many
# channels output size   56x56    28x28    14x14    7x7     for 224x224 images
WIDTHS = (64, 128, 256, 512)

# Section 4.2: 2n layers on each of three maps.
# output size   32x32    16x16    8x8
CIFAR_WIDTHS = (16, 32, 64)

DEPTHS = BASIC | BOTTLENECK
SHORTCUTS = ("A", "B", "C")
STRIDE_IN = ("1x1", "3x3")


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and the shortcut over them (figure 5, left); `residual=False` leaves the shortcut out."""

    width: int
    strides: tuple[int, int]
    conv: Maker
    norm: Maker
    shortcut: str
    residual: bool = True
    zero_init_last: bool = False

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h_out w_out n"]:
        last_scale = zeros if self.zero_init_last else ones
        x = self.conv(self.width, (3, 3), self.strides, padding=((1, 1), (1, 1)), name="conv1")(images)
        x = nn.relu(self.norm(name="bn1")(x, train=train))
        x = self.conv(self.width, (3, 3), padding=((1, 1), (1, 1)), name="conv2")(x)
        x = self.norm(scale_init=last_scale, name="bn2")(x, train=train)
        if self.residual:
            x += _shortcut(self, images, self.width, train=train)
        return nn.relu(x)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, the last to four times the width, and the shortcut over them (figure 5, right)."""

    width: int
    strides: tuple[int, int]
    conv: Maker
    norm: Maker
    shortcut: str
    stride_in: str = "1x1"
    zero_init_last: bool = False

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h_out w_out n"]:
        last_scale = zeros if self.zero_init_last else ones
        first, middle = (self.strides, (1, 1)) if self.stride_in == "1x1" else ((1, 1), self.strides)
        x = self.conv(self.width, (1, 1), first, name="conv1")(images)
        x = nn.relu(self.norm(name="bn1")(x, train=train))
        x = self.conv(self.width, (3, 3), middle, padding=((1, 1), (1, 1)), name="conv2")(x)
        x = nn.relu(self.norm(name="bn2")(x, train=train))
        x = self.conv(4 * self.width, (1, 1), name="conv3")(x)
        x = self.norm(scale_init=last_scale, name="bn3")(x, train=train)
        return nn.relu(x + _shortcut(self, images, 4 * self.width, train=train))


def _shortcut(block: BasicBlock | Bottleneck, images: Array, features: int, *, train: bool) -> Array:
    """The images as the addition needs them: [B, H / stride, W / stride, features]."""
    channels = images.shape[-1]
    changes = block.strides != (1, 1) or channels != features
    if block.shortcut == "C" or (block.shortcut == "B" and changes):
        x = block.conv(features, (1, 1), block.strides, name="shortcut_conv")(images)
        return block.norm(name="shortcut_bn")(x, train=train)
    if changes:
        # Option A as in fb.resnet.torch: every second pixel, and the zeros after the channels that there are.
        x = images[:, :: block.strides[0], :: block.strides[1]]
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, features - channels)))
    return images


class ResNet(nn.Module):
    """The networks of Table 1 for 224x224 images (any size from 32 on), residual or plain.

    Attributes:
        depth: 18, 34 (basic blocks), 50, 101 or 152 (bottlenecks).
        residual: False makes the plain network, which the paper has for basic blocks.
        shortcut: 'A', 'B' or 'C'.
        stride_in: which convolution of a bottleneck strides, '1x1' (paper) or '3x3' ("v1.5"); basic blocks have no
            choice.
        zero_init_last: starts each block's last scale at zero, so that blocks begin as their shortcuts.
        num_classes: the number of logits.
        dtype: what is computed in; parameters, statistics and logits are float32.
        batch_norm_axis: the device axis to share batch statistics over; None: each device's own examples.
        width_factor: multiplies the number of channels of every layer.
        scan_blocks, remat_blocks: how stages run, see `Stage`.
    """

    depth: int = 50
    residual: bool = True
    shortcut: str = "B"
    stride_in: str = "1x1"
    zero_init_last: bool = False
    num_classes: int = 1000
    dtype: DTypeLike = jnp.float32
    batch_norm_axis: str | None = None
    width_factor: float = 1.0
    scan_blocks: bool = True
    remat_blocks: bool = False

    def __post_init__(self) -> None:
        if self.depth not in DEPTHS:
            raise UserError(f"resnet has no depth {self.depth}; it has {_listed(DEPTHS)}")
        if not self.residual and self.depth not in BASIC:
            raise UserError(f"plain networks have basic blocks: depth {_listed(BASIC)}, not {self.depth}")
        check_option(self.stride_in, STRIDE_IN, "stride_in")
        _check_options(self)
        super().__post_init__()

    def __call__(self, images: Float[Array, "b h w c"], *, train: bool = False) -> Float[Array, "b n"]:
        return self._activations(images, train=train)["fc"]

    def features(self, images: Float[Array, "b h w c"], *, train: bool = False, upto: str | None = None) -> Activations:
        """Activations by name, in order: conv1, pool1, stage2/block1, ..., pool, fc (the logits).

        `conv1` is meant after its batch normalization and ReLU. Nothing beyond `upto` is computed.

        Raises:
            UserError: there is no activation `upto`, or the images are too small.
        """
        return self._activations(images, train=train, upto=upto, keep_blocks=True)

    @property
    def stages(self) -> dict[str, int]:
        """The number of blocks of each stage, by its name."""
        lengths = DEPTHS[self.depth]
        return {f"stage{number}": length for number, length in enumerate(lengths, start=2)}

    @nn.compact
    def _activations(
        self, images: Array, *, train: bool, upto: str | None = None, keep_blocks: bool = False
    ) -> Activations:
        check_upto(upto, ["conv1", "pool1", *_block_names(self.stages), "pool", "fc"])
        check_size(images, minimum=32)
        conv = functools.partial(Conv, use_bias=False, dtype=self.dtype)
        norm = functools.partial(BatchNorm, axis_name=self.batch_norm_axis, dtype=self.dtype)
        block = {"conv": conv, "norm": norm, "shortcut": self.shortcut, "zero_init_last": self.zero_init_last}
        if self.depth in BASIC:
            make_block = functools.partial(BasicBlock, residual=self.residual, **block)
        else:
            make_block = functools.partial(Bottleneck, stride_in=self.stride_in, **block)

        out: Activations = {}
        # 112x112
        x = conv(scaled(64, self.width_factor), (7, 7), (2, 2), padding=((3, 3), (3, 3)), name="conv1")(images)
        out["conv1"] = x = nn.relu(norm(name="bn1")(x, train=train))
        if upto == "conv1":
            return out
        # 56x56
        x = max_pool(x, window_shape=(3, 3), strides=(2, 2), padding=((1, 1), (1, 1)), name="pool1")
        out["pool1"] = x
        if upto == "pool1":
            return out
        x, blocks = _run_stages(self, make_block, WIDTHS, x, train=train, upto=upto, keep=keep_blocks)
        out |= blocks
        if upto in blocks:
            return out
        # 1x1
        out["pool"] = x = global_average_pool(x, name="pool")
        if upto != "pool":
            out["fc"] = Dense(self.num_classes, dtype=self.dtype, name="fc")(x).astype(jnp.float32)
        return out


class CifarResNet(nn.Module):
    """The networks of section 4.2 for 32x32 images (any size from 8 on), residual or plain, 6n + 2 layers deep.

    Attributes: as `ResNet`'s, where `depth` is 20, 32, 44, 56, 110, 1202 or any other 6n + 2.
    """

    depth: int = 20
    residual: bool = True
    shortcut: str = "A"
    zero_init_last: bool = False
    num_classes: int = 10
    dtype: DTypeLike = jnp.float32
    batch_norm_axis: str | None = None
    width_factor: float = 1.0
    scan_blocks: bool = True
    remat_blocks: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.depth, int) or self.depth < 8 or self.depth % 6 != 2:
            raise UserError(f"resnet_cifar has no depth {self.depth}; it has 6n + 2: 20, 32, 44, 56, 110, 1202, ...")
        _check_options(self)
        super().__post_init__()

    def __call__(self, images: Float[Array, "b h w c"], *, train: bool = False) -> Float[Array, "b n"]:
        return self._activations(images, train=train)["fc"]

    def features(self, images: Float[Array, "b h w c"], *, train: bool = False, upto: str | None = None) -> Activations:
        """Activations by name, in order: conv1, stage1/block1, ..., pool, fc (the logits); see `ResNet.features`."""
        return self._activations(images, train=train, upto=upto, keep_blocks=True)

    @property
    def stages(self) -> dict[str, int]:
        """The number of blocks of each stage, by its name."""
        return {f"stage{number}": (self.depth - 2) // 6 for number in (1, 2, 3)}

    @nn.compact
    def _activations(
        self, images: Array, *, train: bool, upto: str | None = None, keep_blocks: bool = False
    ) -> Activations:
        check_upto(upto, ["conv1", *_block_names(self.stages), "pool", "fc"])
        check_size(images, minimum=8)
        conv = functools.partial(Conv, use_bias=False, dtype=self.dtype)
        norm = functools.partial(BatchNorm, axis_name=self.batch_norm_axis, dtype=self.dtype)
        make_block = functools.partial(
            BasicBlock,
            conv=conv,
            norm=norm,
            shortcut=self.shortcut,
            residual=self.residual,
            zero_init_last=self.zero_init_last,
        )

        out: Activations = {}
        # 32x32
        x = conv(scaled(16, self.width_factor), (3, 3), padding=((1, 1), (1, 1)), name="conv1")(images)
        out["conv1"] = x = nn.relu(norm(name="bn1")(x, train=train))
        if upto == "conv1":
            return out
        x, blocks = _run_stages(self, make_block, CIFAR_WIDTHS, x, train=train, upto=upto, keep=keep_blocks)
        out |= blocks
        if upto in blocks:
            return out
        # 1x1
        out["pool"] = x = global_average_pool(x, name="pool")
        if upto != "pool":
            out["fc"] = Dense(self.num_classes, dtype=self.dtype, name="fc")(x).astype(jnp.float32)
        return out


def _run_stages(
    model: ResNet | CifarResNet,
    make_block: Maker,
    widths: tuple[int, ...],
    x: Array,
    *,
    train: bool,
    upto: str | None,
    keep: bool,
) -> tuple[Array, Activations]:
    """Runs the model's stages, or as far as `upto`; all but the first halve height and width."""
    kept: Activations = {}
    for number, ((name, length), width) in enumerate(zip(model.stages.items(), widths, strict=True)):
        stage = Stage(
            functools.partial(make_block, scaled(width, model.width_factor)),
            length,
            strides=(1, 1) if number == 0 else (2, 2),
            scan_blocks=model.scan_blocks,
            remat_blocks=model.remat_blocks,
            name=name,
        )
        last = int(upto.removeprefix(f"{name}/block")) if upto is not None and upto.startswith(f"{name}/") else None
        x, blocks = stage(x, train=train, upto=last, keep=keep)
        kept |= {f"{name}/{block}": activation for block, activation in blocks.items()}
        if last is not None:
            break
    return x, kept


def _block_names(stages: dict[str, int]) -> list[str]:
    return [f"{stage}/block{number}" for stage, length in stages.items() for number in range(1, length + 1)]


def _listed(names: Iterable[Any]) -> str:
    return ", ".join(str(name) for name in names)


def _check_options(model: ResNet | CifarResNet) -> None:
    check_option(model.shortcut, SHORTCUTS, "shortcut")
    check_width_factor(model.width_factor)
    if model.zero_init_last and not model.residual:
        raise UserError(
            "zero_init_last=True would make a plain network put out zeros; set it to False or residual to True"
        )
