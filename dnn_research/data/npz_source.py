"""Images in a NumPy archive, `npz:PATH`, read into memory once.

The names of its arrays are those of Keras (`x_train`, `y_train`, `x_test`, `y_test`), of MedMNIST (`train_images`,
`train_labels`, `val_images`, ...) or a single pair (`image` and `label`, `images` and `labels`, `x` and `y`), of which
a part is held out for evaluation. Images are uint8 [n, h, w] or [n, h, w, 1 or 3], labels whole numbers [n] or [n, 1].
"""

import os
import pathlib
import struct
import zipfile
import zlib

import cv2
import numpy as np

from dnn_research.data import files, layout
from dnn_research.data.sources import Source
from dnn_research.errors import UserError, first_line

# Pairs of names for a split; {} is the split.
PAIRS = (("x_{}", "y_{}"), ("{}_images", "{}_labels"), ("{}_image", "{}_label"), ("{}_x", "{}_y"))
SINGLE_PAIRS = (("image", "label"), ("images", "labels"), ("x", "y"), ("data", "labels"))


class ArrayImages:
    """Images of an array uint8 [n, h, w, c], as RGB or gray."""

    def __init__(self, array: np.ndarray, *, channels: int):
        self._array = array
        self._channels = channels

    def __call__(self, index: int) -> np.ndarray:
        image = self._array[index]
        if image.shape[2] == self._channels:
            return image
        if self._channels == 3:
            return np.repeat(image, 3, axis=2)
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[..., None]


def open_npz(path: str, *, channels: int, holdout_fraction: float, holdout_seed: int) -> Source:
    """Opens a NumPy archive.

    Args:
        path: the archive.
        channels: 3 for RGB, 1 for gray.
        holdout_fraction: where no split is for evaluation, the share of each class that is held out for it.
        holdout_seed: of that choice.

    Raises:
        UserError: the file is missing or damaged, or its arrays are not images and labels.
    """
    file = pathlib.Path(path).expanduser()
    if not path or not file.is_file():
        raise UserError(f"data.source names the archive {path!r}, which is not there: write it as npz:PATH")
    arrays = _read(file)
    pairs = {
        split: (arrays[images.format(split)], arrays[labels.format(split)])
        for split in layout.NEAREST
        for images, labels in PAIRS
        if images.format(split) in arrays and labels.format(split) in arrays
    }
    single = next((pair for pair in SINGLE_PAIRS if arrays.keys() >= set(pair)), None)
    if not pairs and single:
        pairs = {"": (arrays[single[0]], arrays[single[1]])}
    if not pairs:
        raise UserError(
            f"{file} has no images and labels by name: it has {', '.join(arrays) or 'nothing'}; name them x_train, "
            "y_train, x_test, y_test, or image and label"
        )
    splits = {split: _labelled(file, split, *pair, channels=channels) for split, pair in pairs.items()}
    first = next(iter(splits))
    num_classes = int(splits[first].labels.max()) + 1
    for split, labelled in splits.items():
        if labelled.labels.max() >= num_classes:
            raise UserError(
                f"{file}: split {split} has the label {labelled.labels.max()}, the labels of {first} are "
                f"0 .. {num_classes - 1}: correct them"
            )
    opened = layout.with_evaluation(splits, holdout_fraction=holdout_fraction, holdout_seed=holdout_seed)
    checksum = 0
    for images, labels in pairs.values():
        checksum = zlib.crc32(np.ascontiguousarray(labels), zlib.crc32(np.ascontiguousarray(images), checksum))
    return Source(
        name=file.stem,
        version=f"{checksum:08x}",
        held_out=layout.held_out(splits, holdout_fraction=holdout_fraction, holdout_seed=holdout_seed),
        class_names=tuple(str(label) for label in range(num_classes)),
        split=lambda split: layout.choose_split(split, opened, file.stem),
    )


def _read(file: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        # A single array would be an .npy file, which np.load gives without names.
        if not zipfile.is_zipfile(file):
            raise UserError(f"{file} is no NumPy archive, or is cut short: write it with numpy.savez")
        with zipfile.ZipFile(file) as members:
            if sum(member.file_size for member in members.infolist()) > _memory_bytes():
                raise MemoryError
        with open(file, "rb") as opened, np.load(opened, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except OSError as error:
        raise files.cannot_read(file, error) from error
    except MemoryError as error:
        raise UserError(f"{file} does not fit into memory: make a folder of images of it") from error
    except (ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error, struct.error) as error:
        raise UserError(f"{file} is damaged or holds Python objects ({first_line(error)}): write it again") from error


def _memory_bytes() -> int:
    """What the machine has: an archive of a few bytes can unpack to any number."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _labelled(
    file: pathlib.Path, split: str, images: np.ndarray, labels: np.ndarray, *, channels: int
) -> layout.Labelled:
    where = f"{file}, split {split}" if split else f"{file}"
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape:
        raise UserError(
            f"{where}: images are {images.dtype} {list(images.shape)}: make them uint8 [n, height, width, 1 or 3]"
        )
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"{where}: labels are {labels.dtype} {list(labels.shape)}: make them whole numbers [n]")
    if len(labels) != len(images):
        raise UserError(f"{where}: there are {len(images):,} images and {len(labels):,} labels: they must agree")
    if labels.min() < 0 or labels.max() >= 2**16:
        raise UserError(
            f"{where}: labels are {labels.min()} .. {labels.max()}: count classes from 0, to 65,535 at most"
        )
    return layout.Labelled(ArrayImages(images, channels=channels), labels.astype(np.int32))
