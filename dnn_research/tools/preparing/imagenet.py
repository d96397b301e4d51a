"""ImageNet's ILSVRC 2012, from the tar files of image-net.org: one of a thousand tars for training, flat ones else.

As in TFDS's builder, images that are CMYK or PNG inside become RGB JPEGs, so that every file is of one kind.
"""

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import cv2
import tensorflow_datasets as tfds

from dnn_research.data import images
from dnn_research.errors import UserError, first_line
from dnn_research.tools.preparing.preparation import Contents, Files, Preparation

TRAIN, VALIDATION, TEST = (f"ILSVRC2012_img_{name}.tar" for name in ("train", "val", "test"))
VALIDATION_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")
# The one file that is no JPEG; https://github.com/cytsai/ilsvrc-cmyk-image-list has those in CMYK.
PNG = b"\x89PNG"
QUALITY = 100


def read(files: Files) -> Contents:
    """Opens the archives that are there.

    Raises:
        UserError: one is damaged or something else, while the examples are read.
    """
    readers = {"train": (TRAIN, _train), "validation": (VALIDATION, _validation), "test": (TEST, _test)}
    return Contents({split: reader(files[name]) for split, (name, reader) in readers.items() if name in files})


def _train(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    known = set(_lines("labels.txt"))
    for name, opened in _entries(path):
        label = name.removesuffix(".tar")
        if label not in known:
            raise UserError(f"{path} holds {name}, which is no archive of one of the 1,000 classes")
        for file_name, image in _entries(path, opened, name):
            yield file_name, {"file_name": file_name, "image": as_jpeg(image.read(), file_name), "label": label}


def _validation(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    labels = _lines("validation_labels.txt")
    for file_name, image in _entries(path):
        numbered = VALIDATION_NAME.fullmatch(file_name)
        if not numbered or not 1 <= int(numbered[1]) <= len(labels):
            raise UserError(f"{path} holds {file_name}, which is no validation image of ILSVRC 2012")
        label = labels[int(numbered[1]) - 1]
        yield file_name, {"file_name": file_name, "image": image.read(), "label": label}


def _test(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for file_name, image in _entries(path):
        yield file_name, {"file_name": file_name, "image": image.read(), "label": -1}


def _entries(path: Path, opened: IO[bytes] | None = None, inside: str = "") -> Iterator[tuple[str, IO[bytes]]]:
    """The files of a tar file, or of one inside it, by their last name."""
    try:
        with tarfile.open(path, "r:", fileobj=opened) as archive:
            for member in archive:
                if member.isfile() and (entry := archive.extractfile(member)):
                    yield Path(member.name).name, entry
    except (tarfile.TarError, OSError, EOFError) as error:
        where = f"{path}, {inside}," if inside else path
        raise UserError(f"{where} is damaged ({first_line(error)}): download it again") from error


def as_jpeg(encoded: bytes, name: str) -> bytes:
    """The file itself if it is a JPEG in gray or RGB, else one made of it."""
    if not encoded.startswith(PNG) and components(encoded) != 4:
        return encoded
    try:
        image = images.decode(encoded, channels=3)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def components(encoded: bytes) -> int | None:
    """The number of colour components that a JPEG's frame header (ITU-T T.81, B.2.2) tells; None if it has none."""
    place = 2
    while place + 10 <= len(encoded) and encoded[place] == 0xFF:
        marker = encoded[place + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return encoded[place + 9]
        place += 2 + int.from_bytes(encoded[place + 2 : place + 4], "big")
    return None


def _lines(name: str) -> list[str]:
    """A list that ships with TensorFlow Datasets."""
    return Path(tfds.core.tfds_path(f"datasets/imagenet2012/{name}")).read_text().split()


IMAGENET = Preparation((), (TRAIN, VALIDATION, TEST), read, {"train": 1_281_167, "validation": 50_000, "test": 100_000})
