"""RandAugment: some operations out of fourteen, all with the same magnitude.

Cubuk, Zoph, Shlens, Le 2019 (arXiv:1909.13719), section 3: each image gets N operations, drawn uniformly with
replacement, of magnitude M. At M = 10 an operation has the largest strength of AutoAugment (Cubuk et al. 2018,
arXiv:1805.09501, table 6); at 0 it leaves the image as it is, but for autocontrast and equalize, which have no
strength.

| operation | at magnitude M |
|---|---|
| identity, autocontrast, equalize | |
| rotate | +-30 M/10 degrees |
| shear_x, shear_y | +-0.3 M/10 |
| translate_x, translate_y | +-150/331 M/10 of the side (150 pixels of AutoAugment's 331) |
| color, contrast, brightness, sharpness | a factor of 1 +-0.9 M/10 |
| posterize | 8 - 4 M/10 bits stay |
| solarize | values from 256 - 256 M/10 on are inverted |

Differs from the authors' code (tensorflow/tpu, efficientnet/autoaugment.py): there the factors of the third line are
0.1 + 1.8 M/10, so that 5 is the weakest, and posterize and solarize become weaker as M grows. Here every operation
becomes stronger. Moved images are interpolated and filled with the mean colour.
"""

from collections.abc import Callable

import cv2
import numpy as np

from dnn_research.data.augment import color
from dnn_research.data.augment.geometry import affine

LARGEST = 10
SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13  # Pillow's ImageFilter.SMOOTH

# uint8 [h, w, C], strength -1..1, fill uint8 [C] -> uint8 [h, w, C]
Operation = Callable[[np.ndarray, float, np.ndarray], np.ndarray]


def apply(image: np.ndarray, rng: np.random.Generator, *, ops: int, magnitude: float, fill: np.ndarray) -> np.ndarray:
    """Applies `ops` random operations of magnitude 0..10, where there are two directions in a random one.

    Args:
        image: uint8 [h, w, C].
        rng: the only source of randomness.
        ops: N of the paper.
        magnitude: M of the paper.
        fill: uint8 [C], the colour of what comes in from outside.

    Returns:
        uint8 [h, w, C].
    """
    operations = tuple(OPERATIONS.values())
    chosen = rng.integers(0, len(operations), size=ops)
    signs = rng.integers(0, 2, size=ops)
    for index, sign in zip(chosen.tolist(), signs.tolist(), strict=True):
        image = operations[index](image, (2 * sign - 1) * magnitude / LARGEST, fill)
    return image


def autocontrast(image: np.ndarray) -> np.ndarray:
    """Stretches every channel of uint8 [h, w, C] to 0..255; one of a single value stays."""
    used = _histograms(image) > 0
    low, high = used.argmax(axis=1).astype(float), 255 - used[:, ::-1].argmax(axis=1).astype(float)
    scale = np.where(high > low, 255 / np.maximum(high - low, 1), 1.0)
    offset = np.where(high > low, low, 0.0)
    # Rounded down, as Pillow does it.
    return color.look_up(image, np.floor((np.arange(256)[:, None] - offset) * scale + 1e-9))


def equalize(image: np.ndarray) -> np.ndarray:
    """Makes the histogram of every channel of uint8 [h, w, C] as flat as its values allow, by Pillow's rule."""
    return color.look_up(image, np.stack([_equalizing(histogram) for histogram in _histograms(image)], axis=1))


def _histograms(image: np.ndarray) -> np.ndarray:
    """How often each value occurs in each channel of uint8 [h, w, C]: [C, 256]."""
    channels = range(image.shape[2])
    return np.stack([cv2.calcHist([image], [c], None, [256], [0, 256]).ravel().astype(int) for c in channels])


def _equalizing(histogram: np.ndarray) -> np.ndarray:
    used = histogram[histogram > 0]
    step = int(used.sum() - used[-1]) // 255
    if len(used) < 2 or step == 0:
        return np.arange(256)
    before = np.cumsum(histogram) - histogram
    return np.minimum((step // 2 + before) // step, 255)


def posterize(image: np.ndarray, bits: int) -> np.ndarray:
    """Keeps the highest bits of every value of uint8 [h, w, C]."""
    return image & np.uint8(256 - 2 ** (8 - bits))


def solarize(image: np.ndarray, threshold: int) -> np.ndarray:
    """Inverts the values of uint8 [h, w, C] from the threshold on."""
    values = np.arange(256)
    return color.look_up(image, np.where(values < threshold, values, 255 - values))


def sharpen(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends uint8 [h, w, C] with a smoothed one; the outermost pixels stay, as in Pillow."""
    smooth = np.asarray(cv2.filter2D(image, -1, SMOOTH)).reshape(image.shape)
    blended = np.asarray(cv2.addWeighted(image, factor, smooth, 1 - factor, 0)).reshape(image.shape)
    result = image.copy()
    result[1:-1, 1:-1] = blended[1:-1, 1:-1]
    return result


def translate(image: np.ndarray, down: float, right: float, fill: np.ndarray) -> np.ndarray:
    """Shifts uint8 [h, w, C] by shares of 150/331 of its height and width."""
    height, width = image.shape[:2]
    return affine(image, fill=fill, shift=(down * height * 150 / 331, right * width * 150 / 331))


OPERATIONS: dict[str, Operation] = {
    "identity": lambda image, strength, fill: image,
    "autocontrast": lambda image, strength, fill: autocontrast(image),
    "equalize": lambda image, strength, fill: equalize(image),
    "rotate": lambda image, strength, fill: affine(image, fill=fill, rotation_degrees=30 * strength),
    "shear_x": lambda image, strength, fill: affine(image, fill=fill, shear=(0.3 * strength, 0.0)),
    "shear_y": lambda image, strength, fill: affine(image, fill=fill, shear=(0.0, 0.3 * strength)),
    "translate_x": lambda image, strength, fill: translate(image, 0.0, strength, fill),
    "translate_y": lambda image, strength, fill: translate(image, strength, 0.0, fill),
    "color": lambda image, strength, fill: color.adjust_color(image, 1 + 0.9 * strength),
    "contrast": lambda image, strength, fill: color.adjust_contrast(image, 1 + 0.9 * strength),
    "brightness": lambda image, strength, fill: color.adjust_brightness(image, 1 + 0.9 * strength),
    "sharpness": lambda image, strength, fill: sharpen(image, 1 + 0.9 * strength),
    "posterize": lambda image, strength, fill: posterize(image, 8 - round(4 * abs(strength))),
    "solarize": lambda image, strength, fill: solarize(image, 256 - round(256 * abs(strength))),
}
