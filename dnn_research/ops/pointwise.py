"""1x1 convolution as a matrix product over all positions."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax

from dnn_research.ops.products import by_transposed
from dnn_research.ops.windows import Pair, Shape

Array = jax.Array

# Positions that a product for the kernel's gradient sums over at least. On two cores, 256 channels, 64 features, 16
# images of 56x56: 60 GFLOP/s as one product, 133 as 16 that are added; of 7x7: 151 as one, 39 as 16.
POSITIONS = 768


@dataclasses.dataclass(frozen=True)
class Pointwise:
    """A kernel [1, 1, C, N] without padding, on every pixel or every few."""

    strides: Pair

    def convolve(self, images: Array, kernel: Array) -> Array:
        return jnp.tensordot(self._sampled(images), kernel[0, 0], 1)

    def images_gradient(self, shape: Shape, kernel: Array, gradient: Array) -> Array:
        sampled = by_transposed(gradient, kernel[0, 0])
        if self.strides == (1, 1):
            return sampled
        ends = [
            (0, shape[1 + axis] - (gradient.shape[1 + axis] - 1) * stride - 1, stride - 1)
            for axis, stride in enumerate(self.strides)
        ]
        return lax.pad(sampled, jnp.zeros((), sampled.dtype), ((0, 0, 0), *ends, (0, 0, 0)))

    def kernel_gradient(self, images: Array, shape: Shape, gradient: Array) -> Array:
        """A product that sums over very many positions is slow, and so is one whose left side is the longer one."""
        x = self._sampled(images)
        examples, height, width, channels = x.shape
        features = gradient.shape[-1]
        whole = examples * height * width
        parts = max(d for d in range(1, examples + 1) if examples % d == 0 and (whole // d >= POSITIONS or d == 1))
        x, g = x.reshape(parts, -1, channels), gradient.reshape(parts, -1, features)
        if channels <= features:
            return jnp.einsum("bpc,bpn->bcn", x, g).sum(0).reshape(shape)
        turned = jnp.einsum("bpn,bpc->bnc", g, x).sum(0)
        # Without the barrier XLA exchanges the sides again where there is one part.
        return lax.optimization_barrier(turned).T.reshape(shape)

    def _sampled(self, images: Array) -> Array:
        return images if self.strides == (1, 1) else images[:, :: self.strides[0], :: self.strides[1]]
