"""Random erasing: a random rectangle becomes noise.

Zhong, Zheng, Kang, Li, Yang 2017 (arXiv:1708.04896), algorithm 1, with random values (their RE-R).
"""

import math

import numpy as np

ASPECT = (0.3, 1 / 0.3)
ATTEMPTS = 100


def erase(image: np.ndarray, rng: np.random.Generator, *, probability: float, area: tuple[float, ...]) -> np.ndarray:
    """Fills a rectangle with uniform noise.

    Args:
        image: uint8 [h, w, C].
        rng: the only source of randomness.
        probability: that it happens.
        area: the smallest and the largest share of the image that is erased; the ratio of height to width is uniform in
            [0.3, 3.3]. A rectangle that does not fit is drawn again.

    Returns:
        uint8 [h, w, C]; the image itself when nothing is erased.
    """
    if rng.random() >= probability:
        return image
    height, width, channels = image.shape
    for _ in range(ATTEMPTS):
        pixels, ratio = rng.uniform(area[0], area[1]) * height * width, rng.uniform(*ASPECT)
        rows, columns = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < rows < height and 0 < columns < width:
            top, left = int(rng.integers(0, height - rows + 1)), int(rng.integers(0, width - columns + 1))
            image = image.copy()
            noise = rng.integers(0, 256, size=(rows, columns, channels), dtype=np.uint8)
            image[top : top + rows, left : left + columns] = noise
            return image
    return image
