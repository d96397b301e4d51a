"""Images that need no files: a coarse pattern for each class under noise. For smoke runs, benchmarks and tests."""

import zlib

import cv2
import numpy as np

from dnn_research.data.sources import Source
from dnn_research.errors import UserError

MOST_CLASSES, MOST_EXAMPLES = 2**16, 2**31 - 1

PATTERN_SIDE = 4
NOISE_OFFSETS = 65_521  # a prime, so that the stride visits every offset
NOISE_STRIDE = 40_503  # between examples, far more than a row of an image


class SyntheticExamples:
    """One split, whose examples are functions of their position.

    Label `index % num_classes`, the pattern of that class in PATTERN_SIDE x PATTERN_SIDE blocks, and noise cut out of
    one fixed stretch, which costs a copy and no random draws.
    """

    def __init__(self, split: str, *, image_size: int, channels: int, num_classes: int, num_examples: int):
        self._first_offset = zlib.crc32(split.encode())
        self._image_size = image_size
        self._num_examples = num_examples
        self._patterns = np.random.default_rng(0).integers(
            0, 160, (num_classes, PATTERN_SIDE, PATTERN_SIDE, channels), dtype=np.uint8
        )
        noise_length = NOISE_OFFSETS + image_size * image_size * channels
        self._noise = np.random.default_rng(1).integers(0, 96, noise_length, dtype=np.uint8)

    def __len__(self) -> int:
        return self._num_examples

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        label = index % len(self._patterns)
        size = (self._image_size, self._image_size)
        pattern = cv2.resize(self._patterns[label], size, interpolation=cv2.INTER_NEAREST)
        image = np.asarray(pattern).reshape(*size, -1)
        offset = (self._first_offset + index * NOISE_STRIDE) % NOISE_OFFSETS
        noise = self._noise[offset : offset + image.size].reshape(image.shape)
        return image + noise, label


def open_synthetic(*, image_size: int, channels: int, num_classes: int, num_examples: int) -> Source:
    """The synthetic source: `num_examples` in every split, which differ in their noise.

    Every name is a split, so that a recipe for another data set runs on synthetic images with its own splits.

    Args:
        image_size: height and width in pixels.
        channels: of the images.
        num_classes: number of classes, each equally frequent.
        num_examples: in each split.

    Raises:
        UserError: a number is not positive, or beyond what labels and positions can be.
    """
    given = ("synthetic_classes", num_classes, MOST_CLASSES), ("synthetic_examples", num_examples, MOST_EXAMPLES)
    for name, value, most in given:
        if not 1 <= value <= most:
            raise UserError(f"data.{name} is {value}: give 1 or more, up to {most:,}")

    def split(name: str) -> SyntheticExamples:
        return SyntheticExamples(
            name, image_size=image_size, channels=channels, num_classes=num_classes, num_examples=num_examples
        )

    class_names = tuple(f"class_{label}" for label in range(num_classes))
    return Source(name="synthetic", version="1.0.0", class_names=class_names, split=split)
