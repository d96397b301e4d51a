"""Colours of a training image: brightness, contrast, saturation, hue, and AlexNet's noise along principal components.

Enhancement is Pillow's: a factor blends the image with a poorer one, 0 gives that, 1 the image. The noise is from
Krizhevsky et al. 2012 ("ImageNet Classification with Deep Convolutional Neural Networks", section 4.1).

Differs from the paper: eigenvalues act as standard deviations, as in Krizhevsky's own code (cuda-convnet2).
"""

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

LUMA = np.array([0.299, 0.587, 0.114])  # of R, G, B: ITU-R BT.601


class ColorBasis(NamedTuple):
    """Principal components of the colours of a training set: standard deviations [3], 0..255, and axes as columns."""

    stds: np.ndarray
    axes: np.ndarray


# Of ImageNet, from facebook/fb.resnet.torch, datasets/imagenet.lua: rows are R, G, B; there for pixels in 0..1.
IMAGENET_BASIS = ColorBasis(
    255 * np.array([0.2175, 0.0188, 0.0045]),
    np.array(
        [
            [-0.5675, 0.7192, 0.4009],
            [-0.5808, -0.0045, -0.8140],
            [-0.5836, -0.6948, 0.4203],
        ]
    ),
)


def pca_noise(rng: np.random.Generator, *, std: float, basis: ColorBasis) -> np.ndarray:
    """AlexNet's colour noise [p1 p2 p3][a1 l1, a2 l2, a3 l3]^T with a ~ N(0, std): float32 [3], units of 0..255."""
    factors = rng.normal(0.0, std, size=3)
    return (basis.axes @ (factors * basis.stds)).astype(np.float32)


def jitter(
    image: np.ndarray, rng: np.random.Generator, *, brightness: float, contrast: float, saturation: float, hue: float
) -> np.ndarray:
    """Random brightness, contrast, saturation and hue in random order.

    Howard 2013 (arXiv:1312.5402, section 2.2), whose distortions GoogLeNet trained with, has the first three with
    factors in [0.5, 1.5]; fb.resnet.torch in [0.6, 1.4].

    Args:
        image: uint8 [h, w, C].
        rng: the only source of randomness; what is switched off draws nothing.
        brightness, contrast, saturation: a factor is uniform in [1 - x, 1 + x], not below 0.
        hue: turns the circle of hues by a share uniform in [-x, x].

    Returns:
        uint8 [h, w, C].
    """
    changes: list[tuple[Callable[[np.ndarray, float], np.ndarray], float]] = [
        (change, float(rng.uniform(max(0.0, 1 - most), 1 + most)))
        for change, most in ((adjust_brightness, brightness), (adjust_contrast, contrast), (adjust_color, saturation))
        if most
    ]
    if hue:
        changes.append((turn_hue, float(rng.uniform(-hue, hue))))
    for index in rng.permutation(len(changes)):
        change, amount = changes[index]
        image = change(image, amount)
    return image


def look_up(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Replaces every value v of uint8 [h, w, C] by `values[v]`, [256] or [256, C], rounded and kept within 0..255."""
    table = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    if table.ndim == 2:
        table = table.reshape(1, 256, -1)
    return np.asarray(cv2.LUT(image, table)).reshape(image.shape)


def adjust_brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends uint8 [h, w, C] with black."""
    return look_up(image, factor * np.arange(256))


def adjust_contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends uint8 [h, w, C] with the mean of its luma, a whole number."""
    means = np.array(cv2.mean(image)[: image.shape[2]])
    gray = int((LUMA @ means if len(means) == 3 else means[0]) + 0.5)
    return look_up(image, gray + factor * (np.arange(256) - gray))


def adjust_color(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends uint8 [h, w, C] with its luma: its saturation. Gray images stay."""
    if image.shape[2] == 1:
        return image
    matrix = factor * np.eye(3) + (1 - factor) * np.ones((3, 1)) * LUMA
    return np.asarray(cv2.transform(image, matrix))


def turn_hue(image: np.ndarray, turn: float) -> np.ndarray:
    """Turns the hues of uint8 [h, w, 3] by a share of the circle, in steps of 1/256."""
    steps = round(256 * turn) % 256
    if steps == 0:
        return image
    hsv = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL))
    hsv[..., 0] += np.uint8(steps)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL))
