"""Weights and images that are a function of name and shape alone: the same in every library, on every machine.

Integer arithmetic only, so that no version of NumPy's random numbers matters. Scaled so that activations neither die
nor explode in a network without normalization, and batch statistics are far from zeros and ones.
"""

import math
import zlib
from collections.abc import Sequence

import numpy as np


def uniform(name: str, shape: Sequence[int]) -> np.ndarray:
    """float32 [*shape] in (-1, 1): a multiplicative hash of the position, begun with the checksum of the name."""
    count = math.prod(shape)
    x = np.arange(count, dtype=np.uint32)
    x += np.uint32(zlib.crc32(name.encode()))
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        x ^= x >> np.uint32(shift)
        x *= np.uint32(factor)
    values = (x >> np.uint32(8)).astype(np.float32)
    return (values * np.float32(2 / 2**24) - np.float32(1 - 2**-24)).reshape(shape)


def tensor(name: str, shape: Sequence[int], fan_in: int | None = None, variance: float = 1.0) -> np.ndarray:
    """The weights that a peer's parameter of this name has in the comparisons.

    Args:
        name: as torch's state_dict ('layer1.0.conv1.weight') or Keras ('conv1_bn/moving_mean') call it.
        shape: as the peer has it.
        fan_in: of a kernel: inputs of one unit.
        variance: around which running variances lie; residual networks take 4, or their sums would grow so large that
            a bias no longer shows.
    """
    last = name.replace("/", ".").rpartition(".")[2]
    if last == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    u = uniform(name, shape)
    if fan_in is not None:
        return np.float32(math.sqrt(6 / fan_in)) * u
    if last in ("running_var", "moving_variance"):
        return np.float32(variance) * (np.float32(1) + np.float32(0.5) * u)
    if last in ("weight", "gamma"):
        return np.float32(1) + np.float32(0.2) * u
    return np.float32(0.1) * u


def torch_tensor(name: str, shape: Sequence[int], variance: float = 1.0) -> np.ndarray:
    """`tensor` for a torch state_dict: kernels are [out, in / groups, kh, kw] or [out, in]."""
    return tensor(name, shape, math.prod(shape[1:]) if len(shape) > 1 else None, variance)


def keras_tensor(name: str, shape: Sequence[int], variance: float = 1.0) -> np.ndarray:
    """`tensor` for Keras: kernels are [kh, kw, in, out] or [in, out], depthwise ones [kh, kw, channels, 1]."""
    if len(shape) < 2:
        return tensor(name, shape, None, variance)
    depthwise = len(shape) == 4 and shape[-1] == 1
    return tensor(name, shape, math.prod(shape[:2]) if depthwise else math.prod(shape[:-1]))


def images(count: int, size: int, channels: int = 3) -> np.ndarray:
    """float32 [count, size, size, channels] in (-2, 2), RGB: what a network sees after normalization."""
    return np.float32(2) * uniform(f"images {size}", (count, size, size, channels))
