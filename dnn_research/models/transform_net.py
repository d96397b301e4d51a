"""Networks from images to images: style transfer and super-resolution (Johnson, Alahi, Fei-Fei, ECCV 2016).

"Perceptual Losses for Real-Time Style Transfer and Super-Resolution", arXiv:1603.08155, tables 1 and 2 of its
supplement. A convolution is followed by normalization and ReLU; a residual block is two of them without the last ReLU,
and none after the sum (Gross and Wilber). Both networks give pixels, 0..255.

Variants of the transform network: `paper`; `released`, the authors' code (jcjohnson/fast-neural-style), whose published
models have `width_factor` 0.5; `pytorch`, pytorch/examples' fast_neural_style.

Differs from the paper:
- Normalization starts with scale 1; Torch's layers draw it from U(0, 1).
- The paper scales the tanh to 0..255, here 127.5 (1 + tanh); the authors' code takes 150 tanh beside the mean colour.
- The supplement's table 2 was read in re-implementations only.
"""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from dnn_research.errors import UserError
from dnn_research.models.image_layers import InstanceNorm, TransposedConv, convolution, enlarge, reflect
from dnn_research.models.layers import Activations, BatchNorm, check_option, check_upto, check_width_factor, scaled

# Table 1, for 256x256 images: name, kernel, stride, channels.
#             output    output without the border's padding
DOWN = (
    ("c9s1", 9, 1, 32),  # 336x336   256x256
    ("d1", 3, 2, 64),  #   168x168   128x128
    ("d2", 3, 2, 128),  #   84x84     64x64
)
RESIDUAL_BLOCKS = 5  # 80, 76, 72, 68, 64: unpadded, so each takes two pixels from each side
UP = (("u1", 64), ("u2", 32))  # 128x128, 256x256: 3x3, stride 1/2
OUT = 9  # 256x256: a 9x9 convolution to RGB and a scaled tanh

# Five blocks take two pixels from each side, each of them four pixels of the image.
BORDER = RESIDUAL_BLOCKS * 2 * 4

# Table 2, super-resolution by 4 or 8 to 288x288: a 9x9 convolution, four residual blocks, log2 of the factor
# convolutions with stride 1/2, a 9x9 convolution; 64 channels throughout.
SR_CHANNELS, SR_BLOCKS = 64, 4
FACTORS = (2, 4, 8)


@dataclasses.dataclass(frozen=True)
class Variant:
    """What implementations differ in.

    Attributes:
        border: mirrored rows and columns on each side of the image, which unpadded residual blocks take away again.
        padding: `zeros` or `reflect`, of the convolutions that keep the size or halve it.
        norm: `batch` or `instance`.
        upsampling: `transposed`, or `nearest`: every pixel repeated twice, then a convolution.
        output: pixels are `center` + `scale` times `tanh` or, `linear`, the last convolution itself.
        scale: in units of 0..255.
        center: of R, G and B, in units of 0..255.
    """

    border: int
    padding: str
    norm: str
    upsampling: str
    output: str
    scale: float
    center: tuple[float, float, float]


IMAGENET_MEAN = (123.68, 116.779, 103.939)
VARIANTS: dict[str, Variant] = {
    "paper": Variant(BORDER, "zeros", "batch", "transposed", "tanh", 127.5, (127.5, 127.5, 127.5)),
    "released": Variant(BORDER, "zeros", "instance", "transposed", "tanh", 150.0, IMAGENET_MEAN),
    "pytorch": Variant(0, "reflect", "instance", "nearest", "linear", 1.0, (0.0, 0.0, 0.0)),
}
NORMS = ("batch", "instance")
SR_NORMS = (*NORMS, "none")
UPSAMPLINGS = ("transposed", "nearest")


@dataclasses.dataclass(frozen=True)
class Parts:
    """What the layers of one network have in common; see the networks' attributes."""

    norm: str
    padding: str
    upsampling: str
    styles: int
    dtype: DTypeLike
    batch_norm_axis: str | None

    def conv(self, x: Array, features: int, kernel: int, *, stride: int = 1, padded: bool = True, name: str) -> Array:
        """A convolution inside the module that calls it."""
        around = kernel // 2 if padded else 0
        if self.padding == "reflect":
            x, around = reflect(x, around), 0
        pair = (around, around)
        layer = convolution(
            features, kernel, x.shape[-1], stride=stride, padding=(pair, pair), dtype=self.dtype, name=name
        )
        return layer(x)

    def up(self, x: Array, features: int, name: str) -> Array:
        """A 3x3 convolution with stride 1/2 inside the module that calls it."""
        if self.upsampling == "nearest":
            return self.conv(enlarge(x), features, 3, name=name)
        return TransposedConv(features, dtype=self.dtype, name=name)(x)

    def normalize(self, x: Array, mixture: Array | None, *, train: bool, name: str) -> Array:
        """Normalization inside the module that calls it."""
        if self.norm == "none":
            return x
        if self.norm == "batch":
            return BatchNorm(axis_name=self.batch_norm_axis, dtype=self.dtype, name=name)(x, train=train)
        return InstanceNorm(self.styles, dtype=self.dtype, name=name)(x, mixture)


@dataclasses.dataclass(frozen=True)
class Normalization:
    """Where a normalization stands.

    Attributes:
        block: its block's name.
        name: its own in the block.
        conv: the convolution before it.
        stride: pixels of the image from one position to the next.
        crop: positions that unpadded convolutions have taken from each side.
    """

    block: str
    name: str
    conv: str
    stride: int
    crop: int


class ConvBlock(nn.Module):
    """Convolution, normalization, ReLU; a `kernel` of None is a 3x3 convolution with stride 1/2."""

    parts: Parts
    features: int
    kernel: int | None
    stride: int = 1

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], mixture: Float[Array, "b s"] | None, *, train: bool
    ) -> Float[Array, "b h_out w_out n"]:
        if self.kernel is None:
            x = self.parts.up(x, self.features, "conv")
        else:
            x = self.parts.conv(x, self.features, self.kernel, stride=self.stride, name="conv")
        return nn.relu(self.parts.normalize(x, mixture, train=train, name="norm"))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions; where they are unpadded, the shortcut loses two pixels on each side as they do."""

    parts: Parts
    padded: bool

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], mixture: Float[Array, "b s"] | None, *, train: bool
    ) -> Float[Array, "b h_out w_out c"]:
        shortcut = x if self.padded else x[:, 2:-2, 2:-2]
        x = self.parts.conv(x, x.shape[-1], 3, padded=self.padded, name="conv1")
        x = nn.relu(self.parts.normalize(x, mixture, train=train, name="norm1"))
        x = self.parts.conv(x, x.shape[-1], 3, padded=self.padded, name="conv2")
        return shortcut + self.parts.normalize(x, mixture, train=train, name="norm2")


class TransformNet(nn.Module):
    """The image transform network of table 1.

    Attributes:
        variant: of `VARIANTS`.
        norm: `batch` or `instance`; None: the variant's.
        upsampling: `transposed` or `nearest`; None: the variant's.
        styles: so many styles in one network, told apart by the scales and offsets of instance normalization.
        border: mirrored pixels on each side; None: the variant's. 0 for a part of a picture that has them already: the
            result is that much smaller on each side.
        dtype: what is computed in; parameters, statistics and the pixels are float32.
        batch_norm_axis: the device axis to share batch statistics over; None: each device's own examples.
        width_factor: multiplies the number of channels of every layer but the last.
    """

    variant: str = "paper"
    norm: str | None = None
    upsampling: str | None = None
    styles: int = 1
    border: int | None = None
    dtype: DTypeLike = jnp.float32
    batch_norm_axis: str | None = None
    width_factor: float = 1.0

    def __post_init__(self) -> None:
        check_option(self.variant, VARIANTS, "variant")
        check_option(self.norm, (*NORMS, None), "norm")
        check_option(self.upsampling, (*UPSAMPLINGS, None), "upsampling")
        check_option(self.border, dict.fromkeys((None, 0, self.lineage.border)), "border")
        check_width_factor(self.width_factor)
        if self.styles < 1:
            raise UserError(f"styles is {self.styles}; a network has 1 or more")
        if self.styles > 1 and self.parts.norm == "batch":
            raise UserError(f"styles={self.styles} needs instance normalization: set model.norm to instance")
        super().__post_init__()

    @property
    def lineage(self) -> Variant:
        """The row of `VARIANTS`."""
        return VARIANTS[self.variant]

    @property
    def parts(self) -> Parts:
        """What the layers have in common."""
        return Parts(
            self.norm or self.lineage.norm, self.lineage.padding, self.upsampling or self.lineage.upsampling,
            self.styles, self.dtype, self.batch_norm_axis,
        )  # fmt: skip

    @property
    def names(self) -> list[str]:
        """The activations in order."""
        blocks = [f"res{number}" for number in range(1, RESIDUAL_BLOCKS + 1)]
        return [*(name for name, *_ in DOWN), *blocks, *(name for name, _ in UP), "pixels"]

    @property
    def normalizations(self) -> list[Normalization]:
        """In the order in which they run."""
        found, stride, crop = [], 1, 0
        for name in self.names[:-1]:
            if name.startswith("res"):
                for number in (1, 2):
                    crop += 1 if self.lineage.border else 0
                    found.append(Normalization(name, f"norm{number}", f"conv{number}", stride, crop))
            elif LAYERS[name][0] is None:
                stride, crop = stride // 2, crop * 2
                found.append(Normalization(name, "norm", "conv", stride, crop))
            else:
                stride *= LAYERS[name][1]
                found.append(Normalization(name, "norm", "conv", stride, crop))
        return found

    def __call__(
        self, images: Float[Array, "b h w 3"], *, train: bool = False, mixture: Float[Array, "b s"] | None = None
    ) -> Float[Array, "b h_out w_out 3"]:
        return self.features(images, train=train, mixture=mixture)["pixels"]

    @nn.compact
    def features(
        self,
        images: Float[Array, "b h w 3"],
        *,
        train: bool = False,
        upto: str | None = None,
        mixture: Float[Array, "b s"] | None = None,
    ) -> Activations:
        """Activations by name, in the order of `names`; `pixels`, the last, are those of the result, 0..255.

        Args:
            images: normalized; height and width are multiples of 4.
            train: batch normalization by the batch's statistics.
            upto: nothing beyond it is computed.
            mixture: the weight of each style, for each image; None: the first style.

        Raises:
            UserError: there is no activation `upto`, or the size is no multiple of 4.
        """
        check_upto(upto, self.names)
        check_multiple(images, 4)
        parts, out = self.parts, Activations()
        border = self.lineage.border if self.border is None else self.border
        padded = not self.lineage.border
        x = reflect(images, border)
        if not padded and min(x.shape[1:3]) <= 2 * BORDER:
            raise UserError(f"images of {images.shape[1]}x{images.shape[2]} have no pixel left inside of {BORDER}")
        for name in self.names:
            if name == "pixels":
                x = self._pixels(parts.conv(x, 3, OUT, name="out"))
            elif name.startswith("res"):
                x = ResidualBlock(parts, padded, name=name)(x, mixture, train=train)
            else:
                (kernel, stride, width) = LAYERS[name]
                features = scaled(width, self.width_factor)
                x = ConvBlock(parts, features, kernel, stride, name=name)(x, mixture, train=train)
            out[name] = x
            if name == upto:
                break
        return out

    def _pixels(self, x: Array) -> Array:
        x = x.astype(jnp.float32)
        if self.lineage.output == "tanh":
            x = jnp.tanh(x)
        return jnp.asarray(self.lineage.center).reshape(1, 1, 1, 3) + self.lineage.scale * x


LAYERS: dict[str, tuple[int | None, int, int]] = {
    **{name: (kernel, stride, width) for name, kernel, stride, width in DOWN},
    **{name: (None, 1, width) for name, width in UP},
}


class SuperResolutionNet(nn.Module):
    """The super-resolution network of table 2: an image of a quarter or an eighth of the size goes in.

    Attributes:
        factor: 2, 4 or 8.
        norm: `batch` as in the paper, `instance`, or `none`: what a batch has in common is a part of every picture of
            it, so that batch normalization costs exactness of pixels (Lim et al. 2017, arXiv:1707.02921, section 3.1).
        residual_blocks: how many.
        dtype: what is computed in; parameters, statistics and the pixels are float32.
        batch_norm_axis: the device axis to share batch statistics over; None: each device's own examples.
        width_factor: multiplies the number of channels of every layer but the last.
    """

    factor: int = 4
    norm: str = "batch"
    residual_blocks: int = SR_BLOCKS
    dtype: DTypeLike = jnp.float32
    batch_norm_axis: str | None = None
    width_factor: float = 1.0

    def __post_init__(self) -> None:
        check_option(self.factor, FACTORS, "factor")
        check_option(self.norm, SR_NORMS, "norm")
        check_width_factor(self.width_factor)
        super().__post_init__()

    @property
    def names(self) -> list[str]:
        """The activations in order."""
        blocks = [f"res{number}" for number in range(1, self.residual_blocks + 1)]
        return ["c9s1", *blocks, *(f"u{number}" for number in range(1, self.factor.bit_length())), "pixels"]

    def __call__(self, images: Float[Array, "b h w 3"], *, train: bool = False) -> Float[Array, "b h_out w_out 3"]:
        return self.features(images, train=train)["pixels"]

    @nn.compact
    def features(self, images: Float[Array, "b h w 3"], *, train: bool = False, upto: str | None = None) -> Activations:
        """Activations by name, in the order of `names`; `pixels`, the last, are those of the result, 0..255.

        Raises:
            UserError: there is no activation `upto`.
        """
        check_upto(upto, self.names)
        parts = Parts(self.norm, "zeros", "transposed", 1, self.dtype, self.batch_norm_axis)
        features, out, x = scaled(SR_CHANNELS, self.width_factor), Activations(), images
        for name in self.names:
            if name == "pixels":
                x = 127.5 * (1 + jnp.tanh(parts.conv(x, 3, OUT, name="out").astype(jnp.float32)))
            elif name.startswith("res"):
                x = ResidualBlock(parts, padded=True, name=name)(x, None, train=train)
            else:
                x = ConvBlock(parts, features, 9 if name == "c9s1" else None, name=name)(x, None, train=train)
            out[name] = x
            if name == upto:
                break
        return out


def check_multiple(images: Float[Array, "b h w c"], factor: int) -> None:
    """Raises UserError unless the images can be halved so often without a rest."""
    height, width = images.shape[1:3]
    if height % factor or width % factor:
        raise UserError(f"images of {height}x{width} do not divide by {factor}; pad them, or crop them to multiples")
