"""A folder of images by class, `folder:PATH`: PATH/train/CLASS/image and PATH/val/CLASS/image, or PATH/CLASS/image."""

import os
import pathlib

import numpy as np

from dnn_research.data import files, images, layout
from dnn_research.data.box import Window
from dnn_research.data.damage import DamagedExample
from dnn_research.data.sources import Source
from dnn_research.errors import UserError


class ImageFiles:
    """Decodes image files by their position.

    Args:
        root: the folder that the names are relative to.
        names: the files.
        channels: 3 for RGB, 1 for gray.
    """

    def __init__(self, root: pathlib.Path, names: list[str], *, channels: int):
        # As text: to join a pathlib.Path takes microseconds, for each image.
        self._root = os.fspath(root)
        self._names = names
        self._channels = channels

    def __call__(self, position: int, window: Window | None = None) -> np.ndarray:
        path = os.path.join(self._root, self._names[position])
        try:
            return images.decode(files.read_whole(path), channels=self._channels, window=window)
        except DamagedExample as error:
            raise DamagedExample(f"{path}: {error}") from error


def open_folder(path: str, *, channels: int, holdout_fraction: float, holdout_seed: int) -> Source:
    """Opens a folder of images; see `layout` for how splits and classes are named.

    Args:
        path: the folder.
        channels: 3 for RGB, 1 for gray.
        holdout_fraction: where no split is for evaluation, the share of each class that is held out for it.
        holdout_seed: of that choice.

    Raises:
        UserError: there is no such folder, or its files do not make a data set.
    """
    root = pathlib.Path(path).expanduser()
    if not path or not root.is_dir():
        raise UserError(f"data.source names the folder {path!r}, which is not there: write it as folder:PATH")
    names, folders = walk(root)
    arranged = layout.arrange(names, folders, str(root))
    splits = layout.open_arranged(
        arranged,
        lambda numbers: ImageFiles(root, [names[i] for i in numbers], channels=channels),
        holdout_fraction=holdout_fraction,
        holdout_seed=holdout_seed,
    )
    name = root.resolve().name
    return Source(
        name=name,
        version=arranged.version,
        held_out=layout.held_out(arranged.splits, holdout_fraction=holdout_fraction, holdout_seed=holdout_seed),
        class_names=arranged.class_names,
        split=lambda split: layout.choose_split(split, splits, name),
    )


def walk(root: pathlib.Path) -> tuple[list[str], list[str]]:
    """Image files and folders under a folder, relative to it, in the order of their names; hidden ones are left out."""
    names: list[str] = []
    folders: list[str] = []
    pending = [""]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(root / folder) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    relative = f"{folder}/{entry.name}" if folder else entry.name
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        folders.append(relative)
                        pending.append(relative)
                    elif layout.is_image(relative, str(root)):
                        names.append(relative)
        except OSError as error:
            raise files.cannot_read(root / folder, error) from error
    return sorted(names), folders
