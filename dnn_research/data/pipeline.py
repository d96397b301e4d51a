"""From examples to batches: training data is a function of (seed, position), whatever computes it."""

import dataclasses
import functools
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dnn_research.data import normalization, statistics, stream
from dnn_research.data.augment import Augment, mixing
from dnn_research.data.augment.color import ColorBasis
from dnn_research.data.batches import Batches
from dnn_research.data.box import Box
from dnn_research.data.damage import Reader
from dnn_research.data.normalization import Normalization
from dnn_research.data.protocols import Protocol
from dnn_research.data.sources import Examples
from dnn_research.errors import UserError, check_seed


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """A data set for classification: a training split, an evaluation split, and how its images become batches.

    Attributes:
        name: with its configuration, such as 'photo_patches/32'.
        version: of the data set.
        class_names: the name of each label.
        image_shape: (height, width, channels) of the images in a batch.
        train_split: name of the training split.
        eval_split: name of the evaluation split, with what is told of it where it was held out.
        train_examples: the training split.
        eval_examples: the evaluation split.
        skip_damaged: whether damaged examples are left out and counted, or else end the run.
        mean: of each channel, in units of 0..255.
        std: standard deviation of each channel, in units of 0..255.
        normalization: a key of `normalization.NORMALIZATIONS`.
        augment: what happens to training images.
        workdir: of the run whose statistics of the training split are used; where it holds no run they are computed.
        num_workers: threads that prepare batches, up to two for each core; 0 prepares each batch when it is asked for.
            The batches are the same.
    """

    name: str
    version: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    train_split: str
    eval_split: str
    train_examples: Examples
    eval_examples: Examples
    skip_damaged: bool
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
            self._train_reader,
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

    @property
    def eval_left_out(self) -> int:
        """How many evaluation examples were found damaged and skipped so far, by this process."""
        return self.eval_reader.left_out

    # One for all epochs, so that what is damaged is said once.
    @functools.cached_property
    def _train_reader(self) -> Reader:
        return Reader(self.train_examples, description=f"{self.name}, split {self.train_split}", skip=self.skip_damaged)

    @functools.cached_property
    def eval_reader(self) -> Reader:
        """Reads the evaluation split; one for all evaluations, so that what is damaged is said once."""
        return Reader(self.eval_examples, description=f"{self.name}, split {self.eval_split}", skip=self.skip_damaged)

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
            Where damaged examples are skipped also `replaced` bool [B]: whether the example stands in for a damaged
            one; it is drawn from the whole split by the random numbers of that place in the stream.

        Raises:
            UserError: the processes do not divide the batch, or the seed is out of range; while iterating, an image is
                damaged.
        """
        check_divides(batch_size, process_count)
        if self.augment.mixes and batch_size // process_count % 2:
            raise UserError(
                f"data.augment mixes examples in pairs, and a process has {batch_size // process_count} of the "
                f"{batch_size} of a batch: make batch_size a multiple of twice the number of processes"
            )
        check_seed(seed, "seed")
        load = LoadForTraining(
            self._train_reader,
            mark_replaced=self.skip_damaged,
            augment=self.augment,
            image_size=self.image_shape[0],
            fill=self.fill,
            seed=seed,
            color_basis=self._color_basis,
        )
        positions = (
            range(step * batch_size + process_index, (step + 1) * batch_size, process_count)
            for step in itertools.count(start_step)
        )
        if self.augment.mixes:
            return Batches(load, positions, num_workers=self.num_workers, finish=mixing.mix)
        return Batches(load, positions, num_workers=self.num_workers)

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
            padding. A damaged example that is skipped is black too and of weight 0, but keeps its index.

        Raises:
            UserError: the processes do not divide the batch; while iterating, an image is damaged or does not fit.
        """
        check_divides(batch_size, process_count)
        load = LoadForEvaluation(
            self.eval_reader,
            protocol=protocol,
            image_shape=self.image_shape,
            fill=self.fill,
        )
        positions = (
            range(start + process_index, start + batch_size, process_count)
            for start in range(0, self.num_eval, batch_size)
        )
        return Batches(load, positions, num_workers=self.num_workers)


class LoadForTraining:
    """From a position in the stream to the example there, augmented by the random numbers of this position."""

    def __init__(
        self,
        reader: Reader,
        *,
        mark_replaced: bool,
        augment: Augment,
        image_size: int,
        fill: np.ndarray,
        seed: int,
        color_basis: ColorBasis | None,
    ):
        self._reader = reader
        self._mark_replaced = mark_replaced
        self._augment = augment
        self._image_size = image_size
        self._fill = fill
        self._color_basis = color_basis
        self._numbers = stream.RandomNumbers(seed)
        self._order = stream.Shuffle(len(reader), seed=seed)

    def __call__(self, position: int, out: np.ndarray | None = None) -> dict[str, Any]:
        drawn, rng = self._order[position], self._numbers[position]
        box: Box | None = None

        def window(height: int, width: int) -> Box:
            nonlocal box
            box = self._augment.box(rng, height, width, image_size=self._image_size)
            return box

        image, label, index = self._reader.read_or_substitute(drawn, rng, window if self._augment.cuts else None)
        try:
            augmented = self._augment(
                image,
                rng,
                image_size=self._image_size,
                fill=self._fill,
                color_basis=self._color_basis,
                box=box,
                out=out,
            )
        except UserError as error:
            raise UserError(f"{self._reader.place(index)}: {error}") from error
        example = {**augmented, "label": np.int32(label), "index": np.int32(index)}
        return {**example, "replaced": np.bool_(index != drawn)} if self._mark_replaced else example


class LoadForEvaluation:
    """From a position to the example there, cropped by the protocol; past the end of the split to padding."""

    def __init__(
        self,
        reader: Reader,
        *,
        protocol: Protocol,
        image_shape: tuple[int, int, int],
        fill: np.ndarray,
    ):
        self._reader = reader
        self._protocol = protocol
        self._image_shape = image_shape
        self._fill = fill

    def __call__(self, index: int, out: np.ndarray | None = None) -> dict[str, Any]:
        del out
        if index >= len(self._reader):
            return self._without_weight(-1)
        example = self._reader.read(index)
        if example is None:
            return self._without_weight(index)
        image, label = example
        try:
            image = self._protocol(image, fill=self._fill)
        except UserError as error:
            raise UserError(f"{self._reader.place(index)}: {error}") from error
        if image.shape != self._image_shape:
            raise UserError(
                f"evaluation by {self._protocol.description} gives images of {image.shape}, the network takes "
                f"{self._image_shape}: make the protocol's size data.image_size"
            )
        return {"image": image, "label": np.int32(label), "index": np.int32(index), "weight": np.float32(1)}

    def _without_weight(self, index: int) -> dict[str, Any]:
        black = np.zeros(self._image_shape, np.uint8)
        return {"image": black, "label": np.int32(0), "index": np.int32(index), "weight": np.float32(0)}


def check_divides(batch_size: int, process_count: int) -> None:
    """Raises UserError unless every process gets an equal share of a global batch."""
    if batch_size < 1 or batch_size % process_count:
        raise UserError(
            f"batch size {batch_size} cannot be divided among {process_count} processes: make it a positive multiple"
        )
