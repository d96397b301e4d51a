"""MNIST (LeCun et al. 1998) and the data sets published in its format: images and labels in idx files, gzipped.

The format is described at yann.lecun.com/exdb/mnist: big-endian, a magic number of the type (8: bytes) and the number
of dimensions, the dimensions, the bytes.
"""

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dnn_research.errors import UserError, first_line
from dnn_research.tools.preparing.preparation import Contents, Files, Preparation, png

SIDE, CLASSES = 28, 10
SPLITS = {"train": "train", "test": "t10k"}


def read(files: Files) -> Contents:
    """Opens the four files.

    Raises:
        UserError: one is damaged, or they do not belong together; also while the examples are read.
    """
    return Contents({split: _examples(files, prefix) for split, prefix in SPLITS.items()})


def _examples(files: Files, prefix: str) -> Iterator[tuple[int, dict[str, Any]]]:
    images_file, labels_file = (files[f"{prefix}-{kind}-ubyte.gz"] for kind in ("images-idx3", "labels-idx1"))
    images, labels = read_idx(images_file, dimensions=3), read_idx(labels_file, dimensions=1)
    if images.shape[1:] != (SIDE, SIDE):
        raise UserError(
            f"{images_file} has images of {images.shape[1]} x {images.shape[2]} pixels, not {SIDE} x {SIDE}"
        )
    if len(images) != len(labels):
        raise UserError(f"{images_file} has {len(images):,} images, {labels_file} {len(labels):,} labels")
    if len(labels) and labels.max() >= CLASSES:
        raise UserError(f"{labels_file} has a label {labels.max()}: they go from 0 to {CLASSES - 1}")
    for number, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        yield number, {"image": png(image[:, :, None]), "label": label}


def read_idx(path: Path, *, dimensions: int) -> np.ndarray:
    """A gzipped idx file of bytes: uint8 with so many dimensions.

    Raises:
        UserError: it is something else, or damaged.
    """
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is damaged ({first_line(error)}): download it again") from error
    header = 4 * (1 + dimensions)
    magic = 0x0800 + dimensions
    if len(content) < header or struct.unpack_from(">I", content)[0] != magic:
        raise UserError(f"{path} is no idx file of bytes in {dimensions} dimensions: it is not what its name says")
    shape = struct.unpack_from(f">{dimensions}I", content, 4)
    if len(content) - header != math.prod(shape):
        raise UserError(
            f"{path} has {len(content) - header:,} bytes for {' x '.join(map(str, shape))}: download it again"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


MNIST = Preparation(
    tuple((f"{prefix}-{kind}-ubyte.gz",) for prefix in SPLITS.values() for kind in ("images-idx3", "labels-idx1")),
    (),
    read,
    {"train": 60_000, "test": 10_000},
)
