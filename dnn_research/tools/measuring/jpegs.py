"""The files, crops and mirrorings that input pipelines are compared on; NumPy alone, for a peer has no more.

Crops are those of GoogLeNet's training (Szegedy et al. 2014, arXiv:1409.4842, section 6): 8 to 100 % of the area, an
aspect ratio between 3/4 and 4/3, here drawn uniformly on a logarithmic scale; after ten that do not fit, the whole
image.
"""

import math
from pathlib import Path

import numpy as np

HEIGHT, WIDTH = 375, 500
CROPPED = 224
AREA, ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)
TRIES = 10


def names(folder: Path) -> list[str]:
    """The JPEG files of a folder, in order."""
    return sorted(str(path) for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg"))


def draw_window(rng: np.random.Generator, height: int, width: int) -> tuple[int, int, int, int]:
    """A random crop (top, left, height, width) of an image."""
    for _ in range(TRIES):
        area = height * width * rng.uniform(*AREA)
        aspect = math.exp(rng.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        wide, high = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if wide <= width and high <= height:
            return int(rng.integers(height - high + 1)), int(rng.integers(width - wide + 1)), high, wide
    return 0, 0, height, width
