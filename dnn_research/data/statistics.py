"""What is computed once over all training images: for normalization, and the principal components of their colours.

Images are taken as training shows them on average, see `Augment.without_chance`. Sums are taken in the order of the
split, whatever the number of threads. A run keeps what it computed in its work directory: it goes on with the same
numbers, and so does whoever evaluates or uses its network.
"""

import concurrent.futures
import logging
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from dnn_research.data.damage import Reader
from dnn_research.errors import UserError, first_line

FILE = "statistics.npz"
CHUNK = 256  # images at a time

GCN_SCALE = 55.0
ZCA_BIAS = 0.1
LARGEST_ZCA = 64 * 64 * 3  # the covariance of so many values takes 1.2 GB

Arrays = dict[str, np.ndarray]


class Sums(Protocol):
    """Sums over images, and what follows from them."""

    def add(self, images: np.ndarray) -> None:
        """Takes in uint8 [N, H, W, C]."""
        ...

    def finish(self, count: int) -> Arrays:
        """The statistics of `count` images, by their names."""
        ...


class PixelMean:
    """`pixel_mean` float32 [H, W, C]: the mean image."""

    def __init__(self, image_shape: tuple[int, int, int]):
        self._sum = np.zeros(image_shape, np.int64)

    def add(self, images: np.ndarray) -> None:
        self._sum += images.sum(axis=0, dtype=np.int64)

    def finish(self, count: int) -> Arrays:
        return {"pixel_mean": (self._sum / count).astype(np.float32)}


class ColorComponents:
    """`color_stds` [3] and `color_axes` [3, 3], in columns: the principal components of all pixels, 0..255."""

    def __init__(self, image_shape: tuple[int, int, int]):
        self._pixels = image_shape[0] * image_shape[1]
        # Whole numbers, which float64 holds exactly up to 2**53: ImageNet's are below half of that.
        self._sum, self._products = np.zeros(3), np.zeros((3, 3))

    def add(self, images: np.ndarray) -> None:
        pixels = images.reshape(-1, 3).astype(np.float64)
        self._sum += pixels.sum(axis=0)
        self._products += pixels.T @ pixels

    def finish(self, count: int) -> Arrays:
        number = count * self._pixels
        mean = self._sum / number
        variances, axes = np.linalg.eigh(self._products / number - np.outer(mean, mean))
        order = np.argsort(-variances)
        return {"color_stds": np.sqrt(np.maximum(variances[order], 0)), "color_axes": axes[:, order]}


class Whitening:
    """`zca_mean` float32 [D] and `zca_matrix` float32 [D, D] of contrast-normalized images, D = H W C.

    As pylearn2's `ZCA()`, which Network in Network was trained with: the inverse root of the covariance, whose
    eigenvalues all get 0.1 more.
    """

    def __init__(self, image_shape: tuple[int, int, int]):
        size = int(np.prod(image_shape))
        if size > LARGEST_ZCA:
            raise UserError(
                f"data.normalization 'gcn_zca' whitens all {size:,} values of an image at once: take images of at most "
                "64 x 64 pixels, or another normalization"
            )
        self._sum, self._products = np.zeros(size), np.zeros((size, size))

    def add(self, images: np.ndarray) -> None:
        values = contrast_normalized(images)
        self._sum += values.sum(axis=0)
        self._products += values.T @ values

    def finish(self, count: int) -> Arrays:
        mean = self._sum / count
        covariance = self._products / count - np.outer(mean, mean)
        covariance[np.diag_indices_from(covariance)] += ZCA_BIAS
        eigenvalues, axes = np.linalg.eigh(covariance)
        # All are at least the bias, but for rounding.
        matrix = (axes / np.sqrt(np.maximum(eigenvalues, ZCA_BIAS))) @ axes.T
        return {"zca_mean": mean.astype(np.float32), "zca_matrix": matrix.astype(np.float32)}


# What can be asked for, by the name of the statistic that says whether it is there.
STATISTICS: dict[str, type] = {
    "pixel_mean": PixelMean,
    "color_axes": ColorComponents,
    "zca_matrix": Whitening,
}


def contrast_normalized(images: np.ndarray) -> np.ndarray:
    """Global contrast normalization of [N, H, W, C] in float64, as `normalization.contrast` does it: [N, H W C]."""
    values = images.reshape(len(images), -1).astype(np.float64)
    values -= values.mean(axis=1, keepdims=True)
    lengths = np.sqrt((values**2).sum(axis=1, keepdims=True)) / GCN_SCALE
    return values / np.where(lengths < 1e-8, 1, lengths)


def compute(
    wanted: Collection[str],
    reader: Reader,
    view: Callable[[np.ndarray], np.ndarray],
    *,
    image_shape: tuple[int, int, int],
    description: str,
    num_workers: int,
) -> Arrays:
    """Statistics of a split.

    Args:
        wanted: keys of STATISTICS.
        reader: of the split; damaged examples that it skips do not count.
        view: from a decoded image to what counts, uint8 [H, W, C].
        image_shape: (H, W, C).
        description: of the split, for messages.
        num_workers: threads that read; 0 for none.

    Raises:
        UserError: an image is damaged.
    """
    number, counted = len(reader), 0
    logging.getLogger(__name__).info("Computing %s of %s, %s images", ", ".join(wanted), description, f"{number:,}")
    sums = [STATISTICS[name](image_shape) for name in wanted]

    def load(index: int) -> np.ndarray | None:
        example = reader.read(index)
        try:
            return None if example is None else view(example[0])
        except UserError as error:
            raise UserError(f"{reader.place(index)}: {error}") from error

    with concurrent.futures.ThreadPoolExecutor(max(1, num_workers)) as pool:
        for start in range(0, number, CHUNK):
            loaded = pool.map(load, range(start, min(start + CHUNK, number)))
            images = [image for image in loaded if image is not None]
            counted += len(images)
            for one in sums if images else ():
                one.add(np.stack(images))
    if not counted:
        raise UserError(f"all {number:,} images of {description} are damaged: look at the files")
    found: Arrays = {}
    for one in sums:
        found |= one.finish(counted)
    return found


def save(workdir: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes the statistics of a run into its work directory, whole or not at all."""
    temporary = workdir / (FILE + ".tmp")
    with open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(workdir / FILE)


def load(workdir: Path) -> Arrays:
    """The statistics of a run. Every array in the file has a checksum, which is verified.

    Raises:
        UserError: they are not there, or damaged.
    """
    path = workdir / FILE
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise UserError(
            f"{workdir} lacks {FILE}, the statistics of the training images that its network was trained with; "
            "restore it from a copy"
        ) from error
    except Exception as error:
        # What zipfile and NumPy raise for wrong bytes: ValueError, KeyError, RuntimeError, zlib.error and more.
        raise UserError(f"{path} is damaged ({first_line(error)}); restore it from a copy") from error
