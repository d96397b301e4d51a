"""Where examples come from: a source is opened by a word in the config and gives decoded examples by their position."""

import dataclasses
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np

from dnn_research.data.box import Window
from dnn_research.errors import UserError

# A split whose decoded images need no more than this is kept in memory once it has been read.
CACHE_BYTES = 256 * 2**20


@runtime_checkable
class Examples(Protocol):
    """One split: a fixed number of examples, each readable at any time and from any thread."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        """The image, uint8 [h, w, C], and its label. Nobody writes into the image: it may be a cached one."""
        ...


@runtime_checkable
class Decoded(Examples, Protocol):
    """Examples that are decoded at each reading, and need not be decoded whole."""

    def read_window(self, index: int, window: Window) -> tuple[np.ndarray, int]:
        """The image, perhaps no more of it than is needed, see `images.decode`, and its label."""
        ...


def read_window(examples: Examples, index: int, window: Window) -> tuple[np.ndarray, int]:
    """The image of an example, at least as much of it as is needed, and its label.

    Args:
        examples: the split.
        index: of the example.
        window: called once, with the height and width of the whole image.
    """
    if isinstance(examples, Decoded):
        return examples.read_window(index, window)
    image, label = examples[index]
    window(*image.shape[:2])
    return image, label


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """An opened data set.

    Attributes:
        name: with its configuration, such as 'photo_patches/32'.
        version: as the data set counts it, such as '1.0.0'.
        class_names: the name of each label; none where the examples have no labels (all are 0 then).
        split: gives the examples of a split by its name; raises UserError if there is none.
        held_out: what is told of the evaluation split where it was held out of another: results on other parts do not
            compare.
    """

    name: str
    version: str
    class_names: tuple[str, ...]
    split: Callable[[str], Examples]
    held_out: str = ""


class Cached:
    """Keeps every example in memory from its first reading on: later epochs neither read nor decode."""

    def __init__(self, examples: Examples):
        self._examples = examples
        self._seen: list[tuple[np.ndarray, int] | None] = [None] * len(examples)

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        example = self._seen[index]
        if example is None:
            # Two threads may read the same example at the same time: they store the same thing.
            example = self._examples[index]
            example[0].flags.writeable = False
            self._seen[index] = example
        return example


def open_source(
    source: str,
    *,
    dir: str | None,
    image_size: int,
    channels: int,
    holdout_fraction: float,
    holdout_seed: int,
    synthetic_classes: int,
    synthetic_examples: int,
) -> Source:
    """Opens a data source, of one of the kinds in SOURCE_KINDS.

    Args:
        source: the kind, followed by a colon and what the kind needs to know.
        dir: where prepared data sets are; see `tfds_source.root_directory`.
        image_size: height and width in pixels of synthetic images; others keep their own.
        channels: 3 for RGB, 1 for gray; images are converted when they are decoded.
        holdout_fraction: of each class, held out for evaluation where a folder, tar or archive has no split for it.
        holdout_seed: of that choice.
        synthetic_classes: number of classes of the synthetic source.
        synthetic_examples: number of examples in each of its splits.

    Raises:
        UserError: there is no such source, or it is not prepared.
    """
    kind, _, rest = source.partition(":")
    holdout = {"holdout_fraction": holdout_fraction, "holdout_seed": holdout_seed}
    match kind:
        case "tfds":
            # Imported here because tensorflow_datasets takes a second to import.
            from dnn_research.data import tfds_source

            return tfds_source.open_tfds(rest, dir=dir, channels=channels)
        case "folder":
            from dnn_research.data import folder_source

            return folder_source.open_folder(rest, channels=channels, **holdout)
        case "tar":
            from dnn_research.data import tar_source

            return tar_source.open_tar(rest, channels=channels, **holdout)
        case "npz":
            from dnn_research.data import npz_source

            return npz_source.open_npz(rest, channels=channels, **holdout)
        case "images":
            from dnn_research.data import photographs

            return photographs.open_photographs(rest, channels=channels)
        case "synthetic":
            from dnn_research.data import synthetic

            return synthetic.open_synthetic(
                image_size=image_size, channels=channels, num_classes=synthetic_classes, num_examples=synthetic_examples
            )
        case _:
            raise UserError(f"unknown data.source {source!r}: the kinds are {', '.join(SOURCE_KINDS)}")


# Each kind as it is written in `data.source`.
SOURCE_KINDS = ("tfds:NAME[/CONFIG][:VERSION]", "folder:PATH", "tar:PATH", "npz:PATH", "images:PATH", "synthetic")
