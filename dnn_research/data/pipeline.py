"""From examples to batches, with Grain: training data is a function of (seed, position), whatever computes it."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np

from dnn_research.data import normalization, statistics
from dnn_research.data.augment import Augment, mixing
from dnn_research.data.augment.color import ColorBasis
from dnn_research.data.normalization import Normalization
from dnn_research.data.protocols import Protocol
from dnn_research.data.sources import Examples
from dnn_research.errors import UserError

Batch = dict[str, np.ndarray]


class Batches:
    """An iterator over batches; `close` (or leaving a `with` block) ends its threads."""

    def __init__(self, batches: grain.MapDataset, *, num_workers: int):
        # Every prefetched element is a whole batch: Grain's own buffer size, 500, would fill the memory.
        buffer_size = num_workers + 2 if num_workers else 0
        options = grain.ReadOptions(num_threads=num_workers, prefetch_buffer_size=buffer_size)
        self._iterator = iter(batches.to_iter_dataset(options))

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> Batch:
        return next(self._iterator)

    def close(self) -> None:
        """Drops what was prefetched and lets the threads end."""
        self._iterator.close()

    def __enter__(self) -> "Batches":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """A data set for classification: a training split, an evaluation split, and how its images become batches.

    Attributes:
        name: with its configuration, such as 'photo_patches/32'.
        version: of the data set.
        class_names: the name of each label.
        image_shape: (height, width, channels) of the images in a batch.
        train_split: name of the training split.
        eval_split: name of the evaluation split.
        train_examples: the training split.
        eval_examples: the evaluation split.
        mean: of each channel, in units of 0..255.
        std: standard deviation of each channel, in units of 0..255.
        normalization: a key of `normalization.NORMALIZATIONS`.
        augment: what happens to training images.
        workdir: of the run whose statistics of the training split are used; where it holds no run they are computed.
        num_workers: threads that prepare batches; 0 prepares each one when it is asked for. The batches are the same.
    """

    name: str
    version: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    train_split: str
    eval_split: str
    train_examples: Examples
    eval_examples: Examples
    mean: tuple[float, ...]
    std: tuple[float, ...]
    normalization: str
    augment: Augment
    workdir: Path | None
    num_workers: int

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def num_train(self) -> int:
        return len(self.train_examples)

    @property
    def num_eval(self) -> int:
        return len(self.eval_examples)

    @property
    def fill(self) -> np.ndarray:
        """The mean colour, rounded: uint8 [C]. Padding has it, so that it is about zero after normalisation."""
        return np.rint(np.asarray(self.mean)).astype(np.uint8)

    @functools.cached_property
    def statistics(self) -> Mapping[str, np.ndarray]:
        """Of the training split, as far as normalization and augmentation need any; the first look computes them.

        Raises:
            UserError: those of the run are not there or damaged, or an image is damaged.
        """
        wanted = [normalization.NEEDS[self.normalization]] if self.normalization in normalization.NEEDS else []
        wanted += ["color_axes"] if self.augment.needs_own_basis else []
        if not wanted:
            return {}
        # A run writes its statistics before its run.json.
        if self.workdir is not None and (self.workdir / "run.json").exists():
            return statistics.load(self.workdir)
        view = functools.partial(self.augment.without_chance, image_size=self.image_shape[0], fill=self.fill)
        return statistics.compute(
            wanted,
            self.train_examples,
            view,
            image_shape=self.image_shape,
            description=f"{self.name}, split {self.train_split}",
            num_workers=self.num_workers,
        )

    def save_statistics(self, workdir: Path) -> None:
        """Keeps the statistics with a run, if there are any."""
        if self.statistics:
            statistics.save(workdir, self.statistics)

    def normalize(self, image: np.ndarray | jax.Array, color_shift: np.ndarray | jax.Array | None = None) -> jax.Array:
        """From pixels to what the network sees, on the device.

        Args:
            image: [..., H, W, C], values 0..255.
            color_shift: [..., C], added to every pixel first; units of 0..255.

        Returns:
            float32 [..., H, W, C].
        """
        return self._normalization(image, color_shift)

    @functools.cached_property
    def _normalization(self) -> Normalization:
        arrays = self.statistics if self.normalization in normalization.NEEDS else {}
        return Normalization(name=self.normalization, mean=self.mean, std=self.std, arrays=arrays)

    def train_batches(
        self, *, batch_size: int, seed: int, start_step: int = 0, process_index: int = 0, process_count: int = 1
    ) -> Batches:
        """Endless batches of augmented training examples; every epoch is a new random order.

        The stream of examples is one permutation of the split after the other, cut into batches of `batch_size` that
        may span two epochs. The example at a position of that stream and its augmentation follow from `seed` and the
        position alone.

        Args:
            batch_size: of the global batch.
            seed: 0 .. 2**32 - 1.
            start_step: number of batches to leave out at the beginning; takes no time.
            process_index: p of n gets the examples p, p + n, ... of each global batch.
            process_count: n.

        Returns:
            Iterator over dictionaries: `image` uint8 [B, H, W, C], `label` int32 [B], `index` int32 [B], the position
            of the example in its split, and with colour noise `color_shift` float32 [B, C]; where examples are mixed,
            the partners' `label2` int32 [B] and `lam` float32 [B], the share of `label`. B is the local batch size.

        Raises:
            UserError: the processes do not divide the batch, or the seed is out of range; while iterating, an image is
                damaged.
        """
        local_batch_size = divide(batch_size, process_count)
        if self.augment.mixes and local_batch_size % 2:
            raise UserError(
                f"data.augment mixes examples in pairs, and a process has {local_batch_size} of the {batch_size} of a "
                "batch: make batch_size a multiple of twice the number of processes"
            )
        if not 0 <= seed < 2**32:
            raise UserError(f"seed is {seed}: give 0 or more, and less than 2**32")
        load = LoadForTraining(
            self.train_examples,
            description=f"{self.name}, split {self.train_split}",
            augment=self.augment,
            image_size=self.image_shape[0],
            fill=self.fill,
            color_basis=self._color_basis,
        )
        # Processes take their share last: taken earlier, order and augmentation would depend on their number.
        stream = grain.MapDataset.range(self.num_train).seed(seed).shuffle().repeat().random_map(load)
        # The stream is as long as an integer can say; rounded up to whole batches of one it would be longer.
        batches = stream[process_index::process_count].batch(local_batch_size, drop_remainder=True)
        if self.augment.mixes:
            batches = batches.map(mixing.mix)
        return Batches(batches[start_step:], num_workers=self.num_workers)

    @property
    def _color_basis(self) -> ColorBasis | None:
        if not self.augment.needs_own_basis:
            return None
        return ColorBasis(self.statistics["color_stds"], self.statistics["color_axes"])

    def eval_batches(
        self, *, protocol: Protocol, batch_size: int, process_index: int = 0, process_count: int = 1
    ) -> Batches:
        """All evaluation examples, each exactly once and in order.

        The last batch is filled up with black images of weight 0, label 0 and index -1, so all batches have one shape
        and all processes get the same number of them.

        Args:
            protocol: how images are cropped.
            batch_size: of the global batch.
            process_index: p of n gets the examples p, p + n, ... of each global batch.
            process_count: n.

        Returns:
            Iterator over dictionaries as `train_batches` gives them, with `weight` float32 [B]: 1 for an example, 0 for
            padding.

        Raises:
            UserError: the processes do not divide the batch; while iterating, an image is damaged or does not fit.
        """
        local_batch_size = divide(batch_size, process_count)
        load = LoadForEvaluation(
            self.eval_examples,
            description=f"{self.name}, split {self.eval_split}",
            protocol=protocol,
            image_shape=self.image_shape,
            fill=self.fill,
        )
        num_batches = -(-self.num_eval // batch_size)
        positions = grain.MapDataset.range(num_batches * batch_size).map(load)
        return Batches(positions[process_index::process_count].batch(local_batch_size), num_workers=self.num_workers)


class LoadForTraining(grain.transforms.RandomMap):
    """From the position of an example to the example, augmented by the random numbers of its place in the stream."""

    def __init__(
        self,
        examples: Examples,
        *,
        description: str,
        augment: Augment,
        image_size: int,
        fill: np.ndarray,
        color_basis: ColorBasis | None,
    ):
        self._examples = examples
        self._description = description
        self._augment = augment
        self._image_size = image_size
        self._fill = fill
        self._color_basis = color_basis

    # pyrefly: ignore [bad-override]  # Grain's abstract method has no annotation for what it returns
    def random_map(self, element: Any, rng: np.random.Generator) -> dict[str, Any]:
        index = int(element)
        try:
            image, label = self._examples[index]
            augmented = self._augment(
                image, rng, image_size=self._image_size, fill=self._fill, color_basis=self._color_basis
            )
        except UserError as error:
            raise UserError(f"example {index} of {self._description}: {error}") from error
        return {**augmented, "label": np.int32(label), "index": np.int32(index)}


class LoadForEvaluation(grain.transforms.Map):
    """From a position to the example there, cropped by the protocol; past the end of the split to padding."""

    def __init__(
        self,
        examples: Examples,
        *,
        description: str,
        protocol: Protocol,
        image_shape: tuple[int, int, int],
        fill: np.ndarray,
    ):
        self._examples = examples
        self._description = description
        self._protocol = protocol
        self._image_shape = image_shape
        self._fill = fill

    # pyrefly: ignore [bad-override]  # the same
    def map(self, element: Any) -> dict[str, Any]:
        index = int(element)
        if index >= len(self._examples):
            padding = np.zeros(self._image_shape, np.uint8)
            return {"image": padding, "label": np.int32(0), "index": np.int32(-1), "weight": np.float32(0)}
        try:
            image, label = self._examples[index]
            image = self._protocol(image, fill=self._fill)
        except UserError as error:
            raise UserError(f"example {index} of {self._description}: {error}") from error
        if image.shape != self._image_shape:
            raise UserError(
                f"evaluation by {self._protocol.description} gives images of {image.shape}, the network takes "
                f"{self._image_shape}: make the protocol's size data.image_size"
            )
        return {"image": image, "label": np.int32(label), "index": np.int32(index), "weight": np.float32(1)}


def divide(batch_size: int, process_count: int) -> int:
    """The share of one process in a global batch."""
    if batch_size < 1 or batch_size % process_count:
        raise UserError(
            f"batch size {batch_size} cannot be divided among {process_count} processes: make it a positive multiple"
        )
    return batch_size // process_count
