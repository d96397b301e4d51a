"""SVHN (Netzer et al. 2011), format 2: digits cropped to 32 x 32, from ufldl.stanford.edu/housenumbers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from dnn_research.errors import UserError, first_line
from dnn_research.tools.preparing.preparation import Contents, Files, Preparation, png

SIDE = 32


def read(files: Files) -> Contents:
    """Opens the files that are there.

    Raises:
        UserError: one is damaged or something else; also while the examples are read.
    """
    splits = {name.removesuffix("_32x32.mat"): path for name, path in files.items()}
    return Contents({split: _examples(path, split) for split, path in splits.items()})


def _examples(path: Path, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        arrays = scipy.io.loadmat(path, variable_names=("X", "y"))
    except Exception as error:
        # SciPy lets exceptions of every kind through.
        raise UserError(f"{path} is no MATLAB file or damaged ({first_line(error)}): download it again") from error
    images, labels = arrays.get("X"), arrays.get("y")
    if images is None or labels is None or images.dtype != np.uint8 or images.shape[:-1] != (SIDE, SIDE, 3):
        raise UserError(f"{path} holds no X of {SIDE} x {SIDE} x 3 bytes and y: it is not format 2 of SVHN")
    labels = labels.ravel()
    if len(labels) != images.shape[-1] or not np.isin(labels, np.arange(1, 11)).all():
        raise UserError(f"{path}: its labels are not 1 to 10, one for each of the {images.shape[-1]:,} images")
    for number, label in enumerate(labels.tolist()):
        image = np.ascontiguousarray(images[..., number])
        # The digit 0 has the label 10.
        yield number, {"image": png(image), "label": int(label) % 10, "id": f"{split}_{number:06d}"}


SVHN = Preparation(
    (("train_32x32.mat",), ("test_32x32.mat",)),
    ("extra_32x32.mat",),
    read,
    {"train": 73_257, "test": 26_032, "extra": 531_131},
)
