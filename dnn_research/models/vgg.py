"""VGG (Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015).

Table 1's configurations A to E, A with local response normalization, and section 4.1's control: B with one 5x5
convolution for each pair of 3x3. Convolutions keep the size, five 2x2 pools halve it, ReLU follows every layer but the
last.

Differs from the paper:
- `batch_norm` is later practice: normalization between each convolution and its ReLU; convolutions keep their biases,
  as in torchvision.
- The paper starts the deep networks from a trained A; `weight_init` has what its footnote names instead, Glorot's.
- Dropout divides by the share that is kept in training, instead of scaling the outputs in the test.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from dnn_research.errors import UserError
from dnn_research.models.initialization import Normal, glorot_uniform, he_normal_fan_out
from dnn_research.models.layers import (
    Activations,
    BatchNorm,
    Conv,
    Dense,
    DenseOverMaps,
    Dropout,
    LocalResponseNorm,
    average_pool,
    check_covers,
    check_option,
    check_rates,
    check_size,
    check_upto,
    check_width_factor,
    flatten,
    max_pool,
    scaled,
)

# Table 1: the kernel sizes of each block's convolutions.
# block     1        2        3             4             5
# channels  64       128      256           512           512
# output    112x112  56x56    28x28         14x14         7x7      after its pool, for 224x224 images
VARIANTS: dict[str, tuple[tuple[int, ...], ...]] = {
    "A": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "A-LRN": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "B": ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3)),
    "B-5x5": ((5,), (5,), (5,), (5,), (5,)),
    "C": ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),
    "D": ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    "E": ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)),
}
CHANNELS = (64, 128, 256, 512, 512)
FULLY_CONNECTED = ("fc6", "fc7", "fc8")
WEIGHT_INITS = ("paper", "glorot", "modern")
POOLINGS = {"max": max_pool, "average": average_pool}


class VGG(nn.Module):
    """The networks of Table 1.

    Attributes:
        variant: `A`, `A-LRN`, `B`, `B-5x5`, `C`, `D` (VGG-16) or `E` (VGG-19).
        batch_norm: normalizes before every ReLU of the convolutions.
        fully_convolutional: fc6 to fc8 as convolutions over the maps, for images of `image_size` and larger; the logits
            are the mean over all positions (the paper's dense evaluation). The parameters stay the same.
        image_size: with `fully_convolutional`, the size of the images that fc6 fits.
        pooling: `max`, or `average`, which Gatys et al. found to make better pictures.
        dropout_rate: of fc6 and fc7.
        weight_init: `paper`: N(0, variance 0.01) as printed, for A; deeper networks do not train from it. `glorot`:
            U(+-sqrt(6 / (fan_in + fan_out))), which the paper found to make A unnecessary. `modern`: He's by fan_out in
            convolutions and N(0, 0.01^2) in fully connected layers, as torchvision. Biases start at zero.
        num_classes: the number of logits.
        dtype: what is computed in; parameters, statistics and logits are float32.
        batch_norm_axis: the device axis to share batch statistics over; None: each device's own examples.
        width_factor: multiplies the number of channels of every layer.
    """

    variant: str = "D"
    batch_norm: bool = False
    fully_convolutional: bool = False
    image_size: int = 224
    pooling: str = "max"
    dropout_rate: float = 0.5
    weight_init: str = "glorot"
    num_classes: int = 1000
    dtype: DTypeLike = jnp.float32
    batch_norm_axis: str | None = None
    width_factor: float = 1.0

    def __post_init__(self) -> None:
        check_option(self.variant, VARIANTS, "variant")
        check_option(self.weight_init, WEIGHT_INITS, "weight_init")
        check_option(self.pooling, POOLINGS, "pooling")
        check_width_factor(self.width_factor)
        check_rates(dropout_rate=self.dropout_rate)
        if self.image_size < 32:
            raise UserError(f"image_size is {self.image_size}; five pools need at least 32")
        super().__post_init__()

    def __call__(self, images: Float[Array, "b h w c"], *, train: bool = False) -> Float[Array, "b n"]:
        return self.features(images, train=train)[self.names[-1]]

    @property
    def names(self) -> list[str]:
        """The activations in order: relu1_1, ..., pool1, ..., pool5, fc6, fc7, fc8."""
        names = []
        for block, kernels in enumerate(VARIANTS[self.variant], start=1):
            for number in range(1, len(kernels) + 1):
                names.append(f"relu{block}_{number}")
                if self.variant == "A-LRN" and block == 1:
                    names.append("norm1")
            names.append(f"pool{block}")
        return [*names, *FULLY_CONNECTED, *(["pool"] if self.fully_convolutional else [])]

    @nn.compact
    def features(self, images: Float[Array, "b h w c"], *, train: bool = False, upto: str | None = None) -> Activations:
        """Activations by name, in the order of `names`; fc6 and fc7 are meant after their ReLU.

        The last is the logits. Fully convolutional, fc6 to fc8 are maps [B, H / 32 - 6, W / 32 - 6, C] and `pool` the
        logits. Nothing beyond `upto` is computed, so the maps before it can be had of images of any size.

        Raises:
            UserError: there is no activation `upto`, or the images are too small for the network.
        """
        check_upto(upto, self.names)
        self._check_size(images, upto)
        out: Activations = {}
        x = images
        for block, (kernels, width) in enumerate(zip(VARIANTS[self.variant], CHANNELS, strict=True), start=1):
            for number, kernel in enumerate(kernels, start=1):
                x = out[f"relu{block}_{number}"] = self._convolution(x, f"{block}_{number}", kernel, width, train=train)
                if upto == f"relu{block}_{number}":
                    return out
                if self.variant == "A-LRN" and block == 1:
                    x = out["norm1"] = LocalResponseNorm(name="norm1")(x)
                    if upto == "norm1":
                        return out
            pool = POOLINGS[self.pooling]
            x = out[f"pool{block}"] = pool(x, window_shape=(2, 2), strides=(2, 2), name=f"pool{block}")
            if upto == f"pool{block}":
                return out
        if not self.fully_convolutional:
            x = flatten(x)
        for name in FULLY_CONNECTED:
            x = self._fully_connected(x, name)
            out[name] = x = x.astype(jnp.float32) if name == "fc8" else nn.relu(x)
            if upto == name:
                return out
            if name != "fc8":
                x = Dropout(self.dropout_rate, name=f"dropout_{name}")(x, train=train)
        if self.fully_convolutional:
            out["pool"] = x.mean((1, 2))
        return out

    def _convolution(self, x: Array, place: str, kernel: int, width: int, *, train: bool) -> Array:
        """A convolution that keeps the size, with its ReLU."""
        around = (kernel // 2, kernel // 2)
        layer = Conv(
            scaled(width, self.width_factor),
            (kernel, kernel),
            padding=(around, around),
            kernel_init={"paper": Normal(0.1), "glorot": glorot_uniform, "modern": he_normal_fan_out}[self.weight_init],
            dtype=self.dtype,
            name=f"conv{place}",
        )
        x = layer(x)
        if self.batch_norm:
            norm = BatchNorm(axis_name=self.batch_norm_axis, dtype=self.dtype, name=f"bn{place}")
            x = norm(x, train=train)
        return nn.relu(x)

    def _fully_connected(self, x: Array, name: str) -> Array:
        """fc6 to fc8, of flattened maps or over maps."""
        features = self.num_classes if name == "fc8" else scaled(4096, self.width_factor)
        draw = {"paper": Normal(0.1), "glorot": glorot_uniform, "modern": Normal(0.01)}[self.weight_init]
        if not self.fully_convolutional:
            return Dense(features, kernel_init=draw, dtype=self.dtype, name=name)(x)
        window = self.image_size // 32 if name == "fc6" else 1
        return DenseOverMaps(features, window, draw, dtype=self.dtype, name=name)(x)

    def _check_size(self, images: Array, upto: str | None) -> None:
        names = self.names[: None if upto is None else self.names.index(upto) + 1]
        if self.fully_convolutional and "fc6" in names:
            check_covers(images, self.image_size, lambda side: side // 32)
        pools = sum(name.startswith("pool") for name in names if name != "pool")
        check_size(images, minimum=2**pools)
