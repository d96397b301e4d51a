"""Layers one by one, as torch computes them.

    python -m tests.weights.peers.layers [OUTPUT.npz]

in an environment with torch writes layers.npz: what each layer of the tables here puts out, float32 [B, H, W, C], for
images, kernels and biases that are the pattern's of its name.
"""

import dataclasses
import sys
from pathlib import Path

import numpy as np

from tests.weights import pattern

RECORDED = Path(__file__).parent / "layers.npz"


@dataclasses.dataclass(frozen=True)
class Norm:
    """Local response normalization: torch.nn.LocalResponseNorm(size, alpha, beta, k), where alpha is divided by size.

    The images lie in (-200, 200), as those that networks of 2012 saw: else an alpha of 1e-4 would not be seen.
    """

    shape: tuple[int, int, int, int]
    size: int
    k: float
    alpha: float = 1e-4
    beta: float = 0.75


@dataclasses.dataclass(frozen=True)
class Convolution:
    """torch.nn.Conv2d with a bias; kernel and padding are square."""

    shape: tuple[int, int, int, int]
    features: int
    kernel: int
    stride: int
    padding: int
    groups: int

    @property
    def kernel_shape(self) -> tuple[int, int, int, int]:
        """Of torch's kernel."""
        return (self.features, self.shape[-1] // self.groups, self.kernel, self.kernel)


@dataclasses.dataclass(frozen=True)
class Pool:
    """torch.nn.functional.max_pool2d(window, stride, padding, ceil_mode=True)."""

    shape: tuple[int, int, int, int]
    window: int
    stride: int
    padding: int = 0


LAYERS: dict[str, Norm | Convolution | Pool] = {
    "norm_k1": Norm((2, 3, 4, 16), 5, 1.0),
    "norm_k2": Norm((2, 3, 4, 16), 5, 2.0),
    "norm_of_3_channels": Norm((2, 4, 3, 7), 3, 2.0, alpha=5e-4, beta=0.5),
    "conv_5x5_of_2_groups": Convolution((2, 13, 11, 8), 12, 5, 1, 2, 2),
    "conv_3x3_of_2_groups": Convolution((2, 13, 11, 12), 8, 3, 1, 1, 2),
    "conv_depthwise": Convolution((2, 14, 13, 6), 6, 3, 2, 1, 6),
    # Rounding up adds a window at even sizes, none at odd ones.
    "pool_55x112": Pool((1, 55, 112, 1), 3, 2),
    "pool_113x224": Pool((1, 113, 224, 1), 3, 2),
    "pool_13x12": Pool((2, 13, 12, 3), 3, 2),
    "pool_2x2": Pool((2, 13, 14, 3), 2, 2),
    # Padded, the last window is left out where it would see padding alone.
    "pool_padded": Pool((2, 12, 13, 3), 3, 2, 1),
    "pool_2x2_padded": Pool((2, 5, 6, 3), 2, 2, 1),
}


def images(name: str) -> np.ndarray:
    """A layer's input, float32 [B, H, W, C]."""
    layer = LAYERS[name]
    return np.float32(200 if isinstance(layer, Norm) else 2) * pattern.uniform(f"{name}/images", layer.shape)


def of_torch(name: str) -> np.ndarray:
    """A layer's output, float32 [B, H, W, C]."""
    import torch

    layer = LAYERS[name]
    x = torch.from_numpy(images(name).transpose(0, 3, 1, 2).copy())
    if isinstance(layer, Norm):
        y = torch.nn.LocalResponseNorm(layer.size, layer.alpha, layer.beta, layer.k)(x)
    elif isinstance(layer, Pool):
        y = torch.nn.functional.max_pool2d(x, layer.window, layer.stride, layer.padding, ceil_mode=True)
    else:
        kernel = torch.from_numpy(pattern.torch_tensor(f"{name}/weight", layer.kernel_shape))
        bias = torch.from_numpy(pattern.torch_tensor(f"{name}/bias", (layer.features,)))
        y = torch.nn.functional.conv2d(x, kernel, bias, layer.stride, layer.padding, groups=layer.groups)
    return y.numpy().transpose(0, 2, 3, 1)


def main(output: str = str(RECORDED)) -> None:
    np.savez_compressed(output, **{name: of_torch(name) for name in LAYERS})


if __name__ == "__main__":
    main(*sys.argv[1:])
