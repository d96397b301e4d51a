"""Decoding, resizing and padding of 8-bit images with OpenCV: rows x columns x channels, RGB or gray, values 0..255.

OpenCV lets go of Python's global lock while it works, so decoding threads run side by side; its own threads are
switched off, or every one of ours would start a pool of them.
"""

import cv2
import numpy as np

from dnn_research.errors import UserError

cv2.setNumThreads(0)

# Orientation tags are ignored, as the reference pipelines for ImageNet ignore them.
DECODE_FLAGS = {
    1: cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION,
    3: cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION,
}


def decode(encoded: bytes, *, channels: int) -> np.ndarray:
    """Decodes a JPEG, PNG or any other file that OpenCV reads.

    Args:
        encoded: the whole file. CMYK and palette images are converted, an alpha channel is dropped.
        channels: 3 for RGB (a gray image is repeated), 1 for gray (a colour image becomes its luma, ITU-R BT.601).

    Returns:
        uint8 [height, width, channels].

    Raises:
        UserError: the file is damaged, cut short or not an image.
    """
    data = np.frombuffer(encoded, np.uint8)
    image = cv2.imdecode(data, DECODE_FLAGS[channels]) if data.size else None
    if image is None:
        raise UserError(f"the image is damaged or of an unknown format ({len(encoded):,} bytes)")
    return np.asarray(image).reshape(*image.shape[:2], channels)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes uint8 [h, w, C] to [height, width, C].

    Bilinear between the nearest four pixels: down to half the size every pixel still counts. Below that, where pixels
    would be skipped, it is the average over the area that a new pixel covers (several times slower in OpenCV).
    """
    if image.shape[:2] == (height, width):
        return image
    skips_pixels = 2 * height < image.shape[0] or 2 * width < image.shape[1]
    interpolation = cv2.INTER_AREA if skips_pixels else cv2.INTER_LINEAR
    resized = cv2.resize(image, (width, height), interpolation=interpolation)
    return np.asarray(resized).reshape(height, width, image.shape[2])


def pad_to(image: np.ndarray, height: int, width: int, fill: np.ndarray) -> np.ndarray:
    """Centres uint8 [h, w, C] on a canvas of at least [height, width, C] filled with the colour `fill` [C].

    An odd row or column goes to the bottom or to the right. A side that is long enough already stays as it is.
    """
    missing = np.maximum(np.array([height, width]) - image.shape[:2], 0)
    top, left = missing // 2
    bottom, right = missing - missing // 2
    return pad(image, (int(top), int(bottom)), (int(left), int(right)), fill)


def pad(image: np.ndarray, rows: tuple[int, int], columns: tuple[int, int], fill: np.ndarray) -> np.ndarray:
    """Puts rows (above, below) and columns (left, right) of the colour `fill` [C] around uint8 [h, w, C]."""
    if not any((*rows, *columns)):
        return image
    height, width, channels = image.shape
    padded = np.empty((height + sum(rows), width + sum(columns), channels), np.uint8)
    padded[:] = fill
    padded[rows[0] : rows[0] + height, columns[0] : columns[0] + width] = image
    return padded
