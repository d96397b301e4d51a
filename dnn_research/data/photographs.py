"""A folder of photographs without labels, for style transfer and super-resolution."""

import pathlib
import re

import numpy as np

from dnn_research.data import images
from dnn_research.data.sources import Examples, Source
from dnn_research.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
# A part of the folder: from the first bound up to the second, in pictures or percent.
SPLIT = re.compile(r"all(\[(?P<first>\d+%?)?:(?P<last>\d+%?)?\])?")


class Photographs:
    """Some of a folder's files, decoded one by one; the label is always 0."""

    def __init__(self, files: list[pathlib.Path], *, channels: int):
        self._files = files
        self._channels = channels

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        try:
            return images.decode(self._files[index].read_bytes(), channels=self._channels), 0
        except OSError as error:
            raise UserError(f"{self._files[index]}: {error.strerror or error}") from error
        except UserError as error:
            raise UserError(f"{self._files[index]}: {error}") from error


def open_photographs(path: str, *, channels: int) -> Source:
    """Opens a folder with all that lies below it, in the order of the paths.

    Its one split is `all`, of which parts can be named: `all[:90%]`, `all[90%:]`, `all[100:]`.

    Args:
        path: of the folder.
        channels: 3 for RGB, 1 for gray.

    Raises:
        UserError: it is not a folder, or holds no picture.
    """
    folder = pathlib.Path(path).expanduser()
    if not folder.is_dir():
        raise UserError(f"data.source 'images:{path}': there is no folder {folder}")
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    if not files:
        raise UserError(f"no picture in {folder}; looked for {', '.join(SUFFIXES)}")

    def split(name: str) -> Examples:
        part = SPLIT.fullmatch(name)
        if part is None:
            raise UserError(f"{folder} has no split '{name}': it has 'all', and parts such as 'all[:90%]'")
        first, last = (_bound(part[key], len(files)) for key in ("first", "last"))
        chosen = files[first:last]
        if not chosen:
            raise UserError(f"split '{name}' of the {len(files):,} pictures in {folder} is empty")
        return Photographs(chosen, channels=channels)

    return Source(name=f"images:{path}", version=f"{len(files)} files", class_names=(), split=split)


def _bound(text: str | None, count: int) -> int | None:
    """A place among `count` files; None for an end that is not given."""
    if text is None:
        return None
    return round(count * int(text[:-1]) / 100) if text.endswith("%") else int(text)
