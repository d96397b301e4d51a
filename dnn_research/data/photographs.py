"""A folder of photographs without labels, for style transfer and super-resolution."""

import pathlib
import re
from collections.abc import Container

import numpy as np

from dnn_research.data import layout
from dnn_research.data.folder_source import ImageFiles
from dnn_research.data.sources import Examples, Source
from dnn_research.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
# A part of the folder: from the first bound up to the second, in pictures or percent.
SPLIT = re.compile(r"all(\[(\d+%?)?:(\d+%?)?\])?")


def below(folder: pathlib.Path, suffixes: Container[str]) -> list[pathlib.Path]:
    """The files with such a suffix anywhere in a folder, in the order of their paths; hidden ones are left out."""
    found = (file for file in folder.rglob("*") if file.suffix.lower() in suffixes and file.is_file())
    return sorted(file for file in found if not any(p.startswith(".") for p in file.relative_to(folder).parts))


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
    if not path or not folder.is_dir():
        raise UserError(f"data.source 'images:{path}': there is no folder {folder}")
    files = below(folder, SUFFIXES)
    if not files:
        raise UserError(f"no picture in {folder}; looked for {', '.join(SUFFIXES)}")

    load = ImageFiles(folder, [str(file.relative_to(folder)) for file in files], channels=channels)
    whole = layout.LabelledFiles(load, np.zeros(len(files), np.int32))

    def split(name: str) -> Examples:
        if not SPLIT.fullmatch(name):
            raise UserError(f"{folder} has no split '{name}': it has 'all', and parts such as 'all[:90%]'")
        return layout.choose_split(name, {"all": whole}, f"images:{path}")

    return Source(name=f"images:{path}", version=f"{len(files)} files", class_names=(), split=split)
