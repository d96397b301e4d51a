"""Where the pixels of a training image come from: random crops, and rotation, shift, zoom and shear about the centre.

Of a photograph only the crop is resized, and the part of it that the crop covers follows from its size alone: `Box`.
"""

import math

import cv2
import numpy as np

from dnn_research.data import images
from dnn_research.data.box import Box

# `bilinear` averages where pixels would be skipped, see `images.resize`; the others are what their names say.
INTERPOLATIONS = {
    "bilinear": None,
    "nearest": cv2.INTER_NEAREST_EXACT,
    "area": cv2.INTER_AREA,
    "bicubic": cv2.INTER_CUBIC,
}
RANDOM = "random"  # one of them, each with equal probability
ATTEMPTS = 10


def central_box(height: int, width: int) -> Box:
    """The square in the middle; of an odd margin the smaller half is above or left."""
    side = min(height, width)
    return Box((height - side) // 2, (width - side) // 2, side, side)


def scaled_box(
    height: int, width: int, rng: np.random.Generator, *, shorter_side: tuple[int, ...], image_size: int
) -> Box:
    """What a random square covers of an image whose shorter side is rescaled to a random length.

    The square is cut out first, its side rounded to whole pixels, because then only the crop is resized.

    Args:
        height, width: of the image.
        rng: the only source of randomness.
        shorter_side: the smallest and the largest length in pixels, both included.
        image_size: height and width of the crop in pixels.
    """
    length = int(rng.integers(shorter_side[0], shorter_side[1] + 1))
    side = max(1, round(image_size * min(height, width) / length))
    top = int(rng.integers(0, height - side + 1))
    left = int(rng.integers(0, width - side + 1))
    return Box(top, left, side, side)


def area_box(
    height: int, width: int, rng: np.random.Generator, *, area: tuple[float, ...], aspect: tuple[float, ...]
) -> Box:
    """A crop of random area and shape (Szegedy et al. 2015, arXiv:1409.4842, section 6).

    The area is uniform. The paper does not say how the aspect ratio is distributed: here its logarithm is uniform, so
    that wide and tall are equally likely. A crop that does not fit into the image is drawn again, up to 10 times; then
    it is the largest central one whose aspect ratio is in range.

    Args:
        height, width: of the image.
        rng: the only source of randomness.
        area: the smallest and the largest share of the image's area.
        aspect: the smallest and the largest ratio of width to height.
    """
    smallest, narrowest = area[0], math.log(aspect[0])
    area_range, aspect_range = area[1] - smallest, math.log(aspect[1]) - narrowest
    for _ in range(ATTEMPTS):
        # Not by `rng.uniform` and `rng.integers`, which take three times as long for one number.
        pixels = (smallest + area_range * rng.random()) * height * width
        ratio = math.exp(narrowest + aspect_range * rng.random())
        rows, columns = max(1, round(math.sqrt(pixels / ratio))), max(1, round(math.sqrt(pixels * ratio)))
        if rows <= height and columns <= width:
            return Box(
                int(rng.random() * (height - rows + 1)), int(rng.random() * (width - columns + 1)), rows, columns
            )
    ratio = min(max(width / height, aspect[0]), aspect[1])
    rows, columns = min(height, max(1, round(width / ratio))), min(width, max(1, round(height * ratio)))
    return Box((height - rows) // 2, (width - columns) // 2, rows, columns)


def draw_interpolation(interpolation: str, rng: np.random.Generator) -> str:
    """The method itself, or where it is RANDOM one of them."""
    return tuple(INTERPOLATIONS)[int(rng.integers(len(INTERPOLATIONS)))] if interpolation == RANDOM else interpolation


def resize(image: np.ndarray, image_size: int, interpolation: str, *, out: np.ndarray | None = None) -> np.ndarray:
    """Resizes uint8 [h, w, C] to a square, which may be made in `out`, if that is given."""
    method = INTERPOLATIONS[interpolation]
    if method is None or image.shape[:2] == (image_size, image_size):
        return images.resize(image, image_size, image_size, out=out)
    return images.with_channels(cv2.resize(image, (image_size, image_size), dst=out, interpolation=method))


def affine(
    image: np.ndarray,
    *,
    fill: np.ndarray,
    rotation_degrees: float = 0.0,
    shift: tuple[float, float] = (0.0, 0.0),
    zoom: float = 1.0,
    shear: tuple[float, float] = (0.0, 0.0),
) -> np.ndarray:
    """Moves an image about its centre: shears it, then rotates and zooms it, then shifts it; bilinear.

    Args:
        image: uint8 [h, w, C].
        fill: uint8 [C], the colour of what comes in from outside.
        rotation_degrees: counterclockwise.
        shift: down and to the right, in pixels.
        zoom: greater than 1 enlarges.
        shear: columns that a row is moved to the right for each row below the centre, and rows that a column is moved
            down for each column to the right of it.

    Returns:
        uint8 [h, w, C]; the image itself when nothing moves.
    """
    if rotation_degrees == 0 and shift == (0.0, 0.0) and zoom == 1 and shear == (0.0, 0.0):
        return image
    height, width = image.shape[:2]
    angle = math.radians(rotation_degrees)
    cosine, sine = zoom * math.cos(angle), zoom * math.sin(angle)
    # Coordinates are (column, row), rows downwards.
    linear = np.array([[cosine, sine], [-sine, cosine]]) @ np.array([[1, shear[0]], [shear[1], 1]])
    centre = np.array([width - 1, height - 1]) / 2
    matrix = np.column_stack([linear, centre + np.array([shift[1], shift[0]]) - linear @ centre])
    moved = cv2.warpAffine(
        image,
        matrix,
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=fill.astype(float).tolist(),
    )
    return np.asarray(moved).reshape(image.shape)


def random_affine(
    image: np.ndarray,
    rng: np.random.Generator,
    *,
    fill: np.ndarray,
    rotation_degrees: float,
    vertical_shift: float,
    horizontal_shift: float,
    zoom: tuple[float, ...],
) -> np.ndarray:
    """Rotates, shifts and zooms at random, all in one interpolation.

    Args:
        image: uint8 [h, w, C].
        rng: the only source of randomness; what is switched off draws nothing.
        fill: uint8 [C], the colour of what comes in from outside.
        rotation_degrees: the largest angle; uniform in both directions.
        vertical_shift: the largest shift as a share of the height; uniform in both directions.
        horizontal_shift: the same of the width.
        zoom: the smallest and the largest factor, uniform in its logarithm; empty for none.

    Returns:
        uint8 [h, w, C].
    """
    height, width = image.shape[:2]
    angle, down, right = (
        float(rng.uniform(-most, most)) if most else 0.0
        for most in (rotation_degrees, vertical_shift * height, horizontal_shift * width)
    )
    factor = math.exp(rng.uniform(math.log(zoom[0]), math.log(zoom[1]))) if zoom else 1.0
    return affine(image, fill=fill, rotation_degrees=angle, shift=(down, right), zoom=factor)
