"""LeNet-5 (LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition", Proc. IEEE 1998).

Section II.B and figure 2, layer by layer, with Table I's partial connections of C3 and the trainable subsampling:
60,000 trainable parameters up to F6.

Differs from the paper:
- The output layer is linear, for a softmax (850 parameters more for ten classes), instead of Euclidean radial basis
  functions with fixed codes and the paper's discriminative loss.
- Biases and coefficients are drawn like the weights, the paper's rule read as meaning all of them.
- Inputs of several channels are allowed: C1's kernels are then as deep.
"""

import math

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from dnn_research.errors import UserError
from dnn_research.models.initialization import Operation, Uniform, note_operation, parameter
from dnn_research.models.layers import Activations, Conv, Dense, check_upto, path_name, per_channel
from dnn_research.ops.convolution import conv

# Table I of the paper: the maps of S2 (0 to 5) that each of C3's 16 maps sees.
C3_INPUTS = (
    (0, 1, 2),
    (1, 2, 3),
    (2, 3, 4),
    (3, 4, 5),
    (0, 4, 5),
    (0, 1, 5),
    (0, 1, 2, 3),
    (1, 2, 3, 4),
    (2, 3, 4, 5),
    (0, 3, 4, 5),
    (0, 1, 4, 5),
    (0, 1, 2, 5),
    (0, 1, 3, 4),
    (1, 2, 4, 5),
    (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)

NAMES = ("c1", "s2", "c3", "s4", "c5", "f6", "fc")


def squash(x: Array) -> Array:
    """The scaled hyperbolic tangent of appendix A: 1.7159 tanh(2/3 x), which takes 1 to 1 and -1 to -1."""
    return 1.7159 * jnp.tanh(2 / 3 * x)


def by_fan_in(fan_in: int) -> Uniform:
    """Appendix A: uniform in +-2.4 / fan_in, so that units start in the middle of the sigmoid."""
    return Uniform(2.4 / fan_in)


class Subsampling(nn.Module):
    """S2, S4: the sum of each 2x2 window times a trainable coefficient (`scale`) plus a bias, both one a map."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, maps: Float[Array, "b h w c"]) -> Float[Array, "b h_out w_out c"]:
        channels = (maps.shape[-1],)
        scale = parameter(self, "scale", by_fan_in(4), channels).astype(self.dtype)
        bias = parameter(self, "bias", by_fan_in(4), channels).astype(self.dtype)
        sums = 4 * nn.avg_pool(maps, window_shape=(2, 2), strides=(2, 2), padding=((0, 0), (0, 0)))
        outputs = sums * per_channel(scale, sums) + per_channel(bias, sums)
        note_operation(
            Operation(
                path_name(self), "subsampling", maps.shape[1:], outputs.shape[1:], (2, 2), (2, 2), ((0, 0), (0, 0))
            )
        )
        return outputs


class PartialConv(nn.Module):
    """C3: 5x5 convolution in which each output map sees the input maps of Table I only.

    The kernel [5, 5, 60] holds one 5x5 filter for each connection, in the table's order; bias [16].
    """

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, maps: Float[Array, "b h w 6"]) -> Float[Array, "b h_out w_out 16"]:
        features = len(C3_INPUTS)
        connections = [(source, target) for target, sources in enumerate(C3_INPUTS) for source in sources]
        bounds = [2.4 / (25 * len(sources)) for sources in C3_INPUTS]
        kernel_init = Uniform(tuple(bounds[target] for _, target in connections))
        kernel = parameter(self, "kernel", kernel_init, (5, 5, len(connections)))
        bias = parameter(self, "bias", Uniform(tuple(bounds)), (features,))
        sources, targets = zip(*connections, strict=True)
        dense = jnp.zeros((5, 5, maps.shape[-1], features), kernel.dtype)
        dense = dense.at[:, :, jnp.array(sources), jnp.array(targets)].set(kernel)
        outputs = conv(maps.astype(self.dtype), dense.astype(self.dtype))
        outputs += per_channel(bias.astype(self.dtype), outputs)
        note_operation(
            Operation(
                path_name(self),
                "conv, Table I",
                maps.shape[1:],
                outputs.shape[1:],
                (5, 5),
                (1, 1),
                ((0, 0), (0, 0)),
                kernel.size * math.prod(outputs.shape[1:3]),
            )
        )
        return outputs


class LeNet(nn.Module):
    """LeNet-5 for 32x32 images.

    Attributes:
        num_classes: the number of logits.
        dtype: what is computed in; parameters and logits are float32.
        batch_norm_axis: every network takes it; this one has no batch normalization, so it changes nothing.
    """

    num_classes: int = 10
    dtype: DTypeLike = jnp.float32
    batch_norm_axis: str | None = None

    def __call__(self, images: Float[Array, "b h w c"], *, train: bool = False) -> Float[Array, "b n"]:
        return self.features(images, train=train)["fc"]

    @nn.compact
    def features(self, images: Float[Array, "b h w c"], *, train: bool = False, upto: str | None = None) -> Activations:
        """Activations by name, in order: c1, s2, c3, s4, c5, f6 (all squashed) and fc (the logits).

        Nothing beyond `upto` is computed. Training and evaluation do not differ.

        Raises:
            UserError: there is no activation `upto`, or the images are not 32x32.
        """
        del train
        check_upto(upto, NAMES)
        height, width, channels = images.shape[1:]
        if (height, width) != (32, 32):
            raise UserError(
                f"lenet takes 32x32 images, not {height}x{width}; set data.image_size=32, which pads smaller ones"
            )
        # Output sizes: 28x28, 14x14, 10x10, 5x5, 1x1
        layers = {
            "c1": self._conv(6, 25 * channels, name="c1"),
            "s2": Subsampling(dtype=self.dtype, name="s2"),
            "c3": PartialConv(dtype=self.dtype, name="c3"),
            "s4": Subsampling(dtype=self.dtype, name="s4"),
            "c5": self._conv(120, 25 * len(C3_INPUTS), name="c5"),
            "f6": self._dense(84, 120, name="f6"),
        }
        out: Activations = {}
        x = images
        for name, layer in layers.items():
            if name == "f6":
                x = x.reshape(x.shape[0], 120)
            out[name] = x = squash(layer(x))
            if name == upto:
                return out
        out["fc"] = self._dense(self.num_classes, 84, name="fc")(x).astype(jnp.float32)
        return out

    def _conv(self, features: int, fan_in: int, *, name: str) -> Conv:
        draw = by_fan_in(fan_in)
        return Conv(features, (5, 5), kernel_init=draw, bias_init=draw, dtype=self.dtype, name=name)

    def _dense(self, features: int, fan_in: int, *, name: str) -> Dense:
        draw = by_fan_in(fan_in)
        return Dense(features, kernel_init=draw, bias_init=draw, dtype=self.dtype, name=name)
