"""Makes JPEG files to measure with: crops of the built-in photographs, as large as ImageNet's usual picture."""

from pathlib import Path

import cv2
import numpy as np

from dnn_research.data.builtin import photo_patches
from dnn_research.tools.measuring.jpegs import HEIGHT, WIDTH

# 86 KB a file; ImageNet's training images have 108 KB on average (138 GB for 1,281,167).
QUALITY = 95
NOISE_STD = 4.0


def make(folder: Path, number: int) -> None:
    """Writes `number` files of 375 x 500 pixels, the same ones every time."""
    photos = [photo_patches.read_photo(name) for name in photo_patches.PHOTOS]
    rng = np.random.RandomState(0)
    # Enlarged pictures and textures have less grain than a camera's.
    grain = rng.normal(0, NOISE_STD, size=(2 * HEIGHT, 2 * WIDTH, 3)).astype(np.float32)
    for index in range(number):
        photo = photos[index % len(photos)]
        height, width = photo.shape[:2]
        wide = int(min(width, height * WIDTH / HEIGHT) * rng.uniform(0.7, 1.0))
        high = wide * HEIGHT // WIDTH
        top, left = rng.randint(height - high + 1), rng.randint(width - wide + 1)
        crop = photo[top : top + high, left : left + wide]
        smaller = wide > WIDTH
        image = cv2.resize(crop, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LANCZOS4)
        down, right = rng.randint(HEIGHT), rng.randint(WIDTH)
        image = np.clip(image + grain[down : down + HEIGHT, right : right + WIDTH], 0, 255).astype(np.uint8)
        encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
        (folder / f"{index:06d}.jpg").write_bytes(encoded.tobytes())
