"""What there is to know of a data set's archives, and how their files are found."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dnn_research.errors import UserError

Files = Mapping[str, Path]


@dataclasses.dataclass(frozen=True)
class Contents:
    """What is in the archives.

    Attributes:
        splits: name -> (key, example) pairs, with the keys and examples of TFDS's own builder.
        labels: path of a label in the features, such as ('objects', 'label') -> the names of its classes, where the
            archives have them.
    """

    splits: Mapping[str, Iterable[tuple[str | int, dict[str, Any]]]]
    labels: Mapping[tuple[str, ...], Sequence[str]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Preparation:
    """How a data set is made.

    Attributes:
        files: what is needed; each by the names that it can have.
        optional: what more there may be.
        read: opens the archives, by name.
        published: number of examples of each split.
    """

    files: tuple[tuple[str, ...], ...]
    optional: tuple[str, ...]
    read: Callable[[Files], Contents]
    published: Mapping[str, int]


def find(name: str, preparation: Preparation, paths: Sequence[Path]) -> Files:
    """The archives among files and in folders, by name.

    Raises:
        UserError: one is missing, there twice, or not of this data set.
    """
    known = {file for alternatives in preparation.files for file in alternatives} | set(preparation.optional)
    found: dict[str, Path] = {}
    for path in paths:
        if path.is_dir():
            inside = sorted(entry for entry in path.iterdir() if entry.name in known)
        elif not path.exists():
            raise UserError(f"there is no file or folder {path}")
        elif path.name not in known:
            raise UserError(f"{path} is no archive of {name}: its archives are {', '.join(sorted(known))}")
        else:
            inside = [path]
        for file in inside:
            if file.name in found and file != found[file.name]:
                raise UserError(f"{file.name} is there twice, {found[file.name]} and {file}: name one")
            found[file.name] = file
    for alternatives in preparation.files:
        if not any(file in found for file in alternatives):
            raise UserError(f"{name} needs {' or '.join(alternatives)}, not found in {', '.join(map(str, paths))}")
    if not found:
        raise UserError(f"no archive of {name} in {', '.join(map(str, paths))}: they are {', '.join(sorted(known))}")
    return found


def png(image: np.ndarray) -> bytes:
    """A PNG file of uint8 [h, w, 3], RGB, or [h, w, 1], gray."""
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.shape[2] == 3 else image
    return cv2.imencode(".png", pixels)[1].tobytes()
