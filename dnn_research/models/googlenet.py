"""GoogLeNet (Szegedy et al., "Going Deeper with Convolutions", CVPR 2015): Inception v1.

Table 1 and figure 3. An Inception module joins the channels of a 1x1, a 3x3 and a 5x5 convolution and of a projected
pool; 1x1 convolutions before the large ones reduce their inputs. Two auxiliary classifiers help in training.

Differs from the paper:
- The first convolution is dense. Table 1's 2.7K weights and 34M operations for it are those of a separable one.
- Stride-2 pools round their sizes up, as in Caffe's replication (bvlc_googlenet); the paper does not say.
- Dropout divides by the share that is kept in training.
- The variant `torchvision` is that library's network: batch normalization and no biases, no local response
  normalization, 3x3 in the place of 5x5 (a mistake that its weights carry), a 2x2 pool4, auxiliary heads on adaptively
  pooled 4x4 maps.
"""

import dataclasses
import functools
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
    caffe_xavier,
    he_normal,
    note_operation,
)
from dnn_research.models.layers import (
    Activations,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    LocalResponseNorm,
    average_pool,
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
from dnn_research.models.stage import Maker
from dnn_research.ops.convolution import Pair

# Table 1: the channels of each module.
#        #1x1  #3x3  #3x3  #5x5  #5x5  pool
#              red.        red.        proj
MODULES = {
    "3a": (64, 96, 128, 16, 32, 32),  # 28x28
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),  # 14x14
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),  # 7x7
    "5b": (384, 192, 384, 48, 128, 128),
}
AUXILIARY = {"4a": "aux1", "4d": "aux2"}


@dataclasses.dataclass(frozen=True)
class Variant:
    """One build of the network.

    Attributes:
        batch_norm, lrn, dropout_rate: what the fields of that name mean when they are None.
        large_kernel: of the branch named 5x5.
        pool4: the size of its windows.
        adaptive_aux_pool: auxiliary heads see 4x4 maps whatever the image, by averages over unequal windows.
        kernel_init, bias: initial kernels, and biases but for those of the classifiers.
    """

    batch_norm: bool
    lrn: bool
    dropout_rate: float
    large_kernel: int
    pool4: int
    adaptive_aux_pool: bool
    kernel_init: Initializer
    bias: float


# The paper says nothing of initial values; those of `paper` are Caffe's bvlc_googlenet's.
VARIANTS: dict[str, Variant] = {
    "paper": Variant(False, True, 0.4, 5, 3, False, caffe_xavier, 0.2),
    "torchvision": Variant(True, False, 0.2, 3, 2, True, Normal(0.01), 0.0),
}


@dataclasses.dataclass(frozen=True)
class Unit:
    """Makes a convolution that keeps the size, its normalization (`<name>_bn`) if there is any, and its ReLU."""

    conv: Maker
    norm: Maker | None

    def __call__(
        self, x: Array, name: str, features: int, kernel: int, strides: Pair = (1, 1), *, train: bool
    ) -> Array:
        """To be called inside the module that holds the layers."""
        around = (kernel // 2, kernel // 2)
        x = self.conv(features, (kernel, kernel), strides, (around, around), name=name)(x)
        return nn.relu(x if self.norm is None else self.norm(name=f"{name}_bn")(x, train=train))


class Inception(nn.Module):
    """A module: the outputs of its branches side by side, in the order 1x1, 3x3, 5x5, pool.

    Without `reductions` (figure 2a) the large convolutions see all input channels and the pool passes them all on.
    """

    channels: tuple[int, ...]
    unit: Unit
    large_kernel: int
    reductions: bool

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w n"]:
        one, three_reduce, three, five_reduce, five, projection = self.channels
        around = ((1, 1), (1, 1))
        pooled = max_pool(x, window_shape=(3, 3), strides=(1, 1), padding=around, name="/".join((*self.path, "pool")))
        before_three, before_five, last = x, x, pooled
        branches = [self.unit(x, "1x1", one, 1, train=train)]
        if self.reductions:
            before_three = self.unit(x, "3x3_reduce", three_reduce, 1, train=train)
        branches.append(self.unit(before_three, "3x3", three, 3, train=train))
        if self.reductions:
            before_five = self.unit(x, "5x5_reduce", five_reduce, 1, train=train)
        branches.append(self.unit(before_five, "5x5", five, self.large_kernel, train=train))
        if self.reductions:
            last = self.unit(pooled, "pool_proj", projection, 1, train=train)
        return jnp.concatenate([*branches, last], axis=-1)


class PlainModule(nn.Module):
    """One 3x3 convolution in the place of a module, with as many features as its branches have together."""

    channels: tuple[int, ...]
    unit: Unit

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w n"]:
        one, _, three, _, five, projection = self.channels
        return self.unit(x, "3x3", one + three + five + projection, 3, train=train)


class AuxiliaryHead(nn.Module):
    """Section 5's auxiliary classifier: average pool, 1x1 convolution, two fully connected layers."""

    num_classes: int
    conv_features: int
    hidden: int
    dropout_rate: float
    unit: Unit
    dense: Maker
    bias_init: Initializer
    adaptive_pool: bool

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b n"]:
        name = "/".join((*self.path, "pool"))
        if self.adaptive_pool:
            x = adaptive_average_pool(x, 4, name=name)
        else:
            x = average_pool(x, window_shape=(5, 5), strides=(3, 3), name=name)
        x = flatten(self.unit(x, "conv", self.conv_features, 1, train=train))
        x = nn.relu(self.dense(self.hidden, bias_init=self.bias_init, name="fc")(x))
        x = Dropout(self.dropout_rate, name="dropout")(x, train=train)
        return self.dense(self.num_classes, name="classifier")(x).astype(jnp.float32)


class GoogLeNet(nn.Module):
    """The network of Table 1 for 224x224 images.

    In training with auxiliary heads a call returns (logits, logits of aux1, logits of aux2), else the logits.

    Attributes:
        variant: `paper` or `torchvision`.
        batch_norm: normalizes after each convolution, which then has no bias; None: as the variant.
        lrn: local response normalization after pool1 and conv2; None: as the variant, and none with batch_norm.
        aux_heads: the two auxiliary classifiers, on the outputs of 4a and 4d. Their parameters are always there, and
            are used in training alone.
        module: `inception`, or `plain`: a 3x3 convolution of as many features in the place of each module.
        head: `gap`, or `fc`: in the place of the mean over the last maps a fully connected layer on all of them, of
            1024 units with ReLU (section 5: the step from there to the mean gained 0.6 points of top-1 accuracy; what
            the fully connected layers were is not said).
        reductions: the 1x1 convolutions before 3x3, 5x5 and after the pool; False: the naive module of figure 2a, whose
            channels grow from module to module.
        dropout_rate: before the last layer; None: as the variant.
        aux_dropout_rate: in the auxiliary heads.
        stem: `imagenet`, or `cifar` for 32x32 images: conv1 is 3x3 with stride 1 and no pool1 follows.
        weight_init: `paper`: as Caffe's bvlc_googlenet (uniform by fan_in, biases of 0.2 but for the classifiers'
            zeros), for the variant `torchvision` N(0, 0.01^2) as there, with zero biases; `modern`: He's, zero biases.
        num_classes: the number of logits.
        dtype: what is computed in; parameters, statistics and logits are float32.
        batch_norm_axis: the device axis to share batch statistics over; None: each device's own examples.
        width_factor: multiplies the number of channels of every layer.
    """

    variant: str = "paper"
    batch_norm: bool | None = None
    lrn: bool | None = None
    aux_heads: bool = True
    module: str = "inception"
    head: str = "gap"
    reductions: bool = True
    dropout_rate: float | None = None
    aux_dropout_rate: float = 0.7
    stem: str = "imagenet"
    weight_init: str = "paper"
    num_classes: int = 1000
    dtype: DTypeLike = jnp.float32
    batch_norm_axis: str | None = None
    width_factor: float = 1.0

    def __post_init__(self) -> None:
        check_option(self.variant, VARIANTS, "variant")
        check_option(self.module, ("inception", "plain"), "module")
        check_option(self.head, ("gap", "fc"), "head")
        check_option(self.stem, ("imagenet", "cifar"), "stem")
        check_option(self.weight_init, ("paper", "modern"), "weight_init")
        check_width_factor(self.width_factor)
        check_rates(dropout_rate=self.dropout_rate, aux_dropout_rate=self.aux_dropout_rate)
        super().__post_init__()

    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> Float[Array, "b n"] | tuple[Float[Array, "b n"], Float[Array, "b n"], Float[Array, "b n"]]:
        out = self.features(images, train=train)
        return (out["fc"], out["aux1"], out["aux2"]) if train and self.aux_heads else out["fc"]

    @property
    def names(self) -> list[str]:
        """The activations in order: conv1, pool1, norm1, conv2_reduce, conv2, norm2, pool2, inception_3a, ..., fc."""
        norms = {"norm1", "norm2"} if not self._built.lrn else set()
        stem = ["conv1", "pool1", "norm1", "conv2_reduce", "conv2", "norm2", "pool2"]
        left_out = norms | ({"pool1"} if self.stem == "cifar" else set())
        modules = [f"inception_{module}" for module in MODULES]
        return [
            *(name for name in stem if name not in left_out),
            *(
                *modules[:2],
                "pool3",
                *modules[2:7],
                "pool4",
                *modules[7:],
                "pool" if self.head == "gap" else "hidden",
                "fc",
            ),
        ]

    @nn.compact
    def features(self, images: Float[Array, "b h w c"], *, train: bool = False, upto: str | None = None) -> Activations:
        """Activations by name, in the order of `names`; `fc` is the logits. In training also aux1 and aux2.

        Nothing beyond `upto` is computed.

        Raises:
            UserError: there is no activation `upto`, or the images are too small.
        """
        check_upto(upto, self.names)
        check_size(images, minimum=8)
        built, unit, dense = self._built, self._unit(), self._dense()
        out: Activations = {}
        x = images
        for name in self.names:
            if name == "conv1":
                kernel, stride = (7, 2) if self.stem == "imagenet" else (3, 1)
                x = unit(x, name, self._scaled(64), kernel, (stride, stride), train=train)
            elif name == "conv2_reduce":
                x = unit(x, name, self._scaled(64), 1, train=train)
            elif name == "conv2":
                x = unit(x, name, self._scaled(192), 3, train=train)
            elif name.startswith("norm"):
                x = LocalResponseNorm(k=1.0, mean=True, name=name)(x)
            elif name.startswith("inception_"):
                widths = tuple(self._scaled(n) for n in MODULES[name.removeprefix("inception_")])
                if self.module == "inception":
                    x = Inception(widths, unit, built.large_kernel, self.reductions, name=name)(x, train=train)
                else:
                    x = PlainModule(widths, unit, name=name)(x, train=train)
            elif name == "pool":
                x = global_average_pool(x, name="pool")
            elif name == "hidden":
                x = nn.relu(dense(self._scaled(1024), bias_init=Constant(built.bias), name="hidden")(flatten(x)))
            elif name == "fc":
                x = Dropout(built.dropout_rate, name="dropout")(x, train=train)
                x = dense(self.num_classes, name="fc")(x).astype(jnp.float32)
            else:
                window = (built.pool4, built.pool4) if name == "pool4" else (3, 3)
                padding = ceil_padding(x, window, (2, 2))
                x = max_pool(x, window_shape=window, strides=(2, 2), padding=padding, name=name)
            out[name] = x
            if name == upto:
                break
            auxiliary = AUXILIARY.get(name.removeprefix("inception_"))
            if auxiliary and self.aux_heads and (train or self.is_initializing()):
                out[auxiliary] = self._auxiliary(x, auxiliary, unit, dense, train=train)
        return out

    @property
    def _built(self) -> Variant:
        """The variant with this network's own choices."""
        variant = VARIANTS[self.variant]
        batch_norm = variant.batch_norm if self.batch_norm is None else self.batch_norm
        modern: dict[str, Any] = {"kernel_init": he_normal, "bias": 0.0}
        return dataclasses.replace(
            variant,
            batch_norm=batch_norm,
            lrn=variant.lrn and not batch_norm if self.lrn is None else self.lrn,
            dropout_rate=variant.dropout_rate if self.dropout_rate is None else self.dropout_rate,
            **(modern if self.weight_init == "modern" else {}),
        )

    def _scaled(self, width: int) -> int:
        return scaled(width, self.width_factor)

    def _unit(self) -> Unit:
        built = self._built
        conv = functools.partial(
            Conv,
            use_bias=not built.batch_norm,
            kernel_init=built.kernel_init,
            bias_init=Constant(built.bias),
            dtype=self.dtype,
        )
        norm = functools.partial(BatchNorm, epsilon=1e-3, axis_name=self.batch_norm_axis, dtype=self.dtype)
        return Unit(conv, norm if built.batch_norm else None)

    def _dense(self) -> Maker:
        return functools.partial(Dense, kernel_init=self._built.kernel_init, dtype=self.dtype)

    def _auxiliary(self, x: Array, name: str, unit: Unit, dense: Maker, *, train: bool) -> Array:
        if not self._built.adaptive_aux_pool and min(x.shape[1:3]) < 5:
            raise UserError(
                f"{name} pools 5x5 windows of maps that are {x.shape[1]}x{x.shape[2]}: take larger images, or set "
                f"model.aux_heads=False"
            )
        head = AuxiliaryHead(
            self.num_classes,
            self._scaled(128),
            self._scaled(1024),
            self.aux_dropout_rate,
            unit,
            dense,
            Constant(self._built.bias),
            self._built.adaptive_aux_pool,
            name=name,
        )
        return head(x, train=train)


def adaptive_average_pool(x: Float[Array, "b h w c"], size: int, *, name: str) -> Float[Array, "b s s c"]:
    """The means of size x size windows that cover the maps; `name` stands in summaries.

    Window i of s on n pixels goes from floor(i n / s) to ceil((i + 1) n / s), as torch cuts them.
    """
    outputs = x
    for axis in (1, 2):
        length = x.shape[axis]
        step = -(-length // size)
        means = []
        for i in range(size):
            window = range(i * length // size, -(-(i + 1) * length // size))
            # A pool of one window, so that summaries can follow: its stride is the largest distance between windows.
            shape, strides = ((len(window), 1), (step, 1)) if axis == 1 else ((1, len(window)), (1, step))
            pixels = lax.slice_in_dim(outputs, window.start, window.stop, axis=axis)
            means.append(nn.avg_pool(pixels, window_shape=shape, strides=strides))
        outputs = jnp.concatenate(means, axis)
    note_operation(Operation(name, "adaptive average pool", x.shape[1:], outputs.shape[1:]), outputs)
    return outputs
