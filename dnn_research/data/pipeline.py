"""From examples to batches: training data is a function of (seed, position), whatever computes it."""

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dnn_research.data import stream
from dnn_research.data.augment import Augment
from dnn_research.data.batches import Batches
from dnn_research.data.protocols import Protocol
from dnn_research.data.sources import Examples
from dnn_research.errors import UserError


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
        augment: what happens to training images.
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
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: Augment
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

    def normalize(self, image: np.ndarray | jax.Array, color_shift: np.ndarray | jax.Array | None = None) -> jax.Array:
        """Subtracts the mean and divides by the standard deviation of each channel, on the device.

        Args:
            image: [..., H, W, C], values 0..255.
            color_shift: [..., C], added to every pixel first; units of 0..255.

        Returns:
            float32 [..., H, W, C].
        """
        pixels = jnp.asarray(image, jnp.float32)
        if color_shift is not None:
            pixels = pixels + jnp.asarray(color_shift, jnp.float32)[..., None, None, :]
        per_channel = (1,) * (pixels.ndim - 1) + (-1,)
        mean = jnp.asarray(self.mean, jnp.float32).reshape(per_channel)
        std = jnp.asarray(self.std, jnp.float32).reshape(per_channel)
        return (pixels - mean) / std

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
            of the example in its split, and with colour noise `color_shift` float32 [B, C]. B is the local batch size.

        Raises:
            UserError: the processes do not divide the batch, or the seed is out of range; while iterating, an image is
                damaged.
        """
        check_divides(batch_size, process_count)
        if not 0 <= seed < 2**32:
            raise UserError(f"seed is {seed}: give 0 or more, and less than 2**32")
        load = LoadForTraining(
            self.train_examples,
            description=f"{self.name}, split {self.train_split}",
            augment=self.augment,
            image_size=self.image_shape[0],
            fill=self.fill,
            seed=seed,
        )
        positions = (
            range(step * batch_size + process_index, (step + 1) * batch_size, process_count)
            for step in itertools.count(start_step)
        )
        return Batches(load, positions, num_workers=self.num_workers)

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
        check_divides(batch_size, process_count)
        load = LoadForEvaluation(
            self.eval_examples,
            description=f"{self.name}, split {self.eval_split}",
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
        examples: Examples,
        *,
        description: str,
        augment: Augment,
        image_size: int,
        fill: np.ndarray,
        seed: int,
    ):
        self._examples = examples
        self._description = description
        self._augment = augment
        self._image_size = image_size
        self._fill = fill
        self._numbers = stream.RandomNumbers(seed)
        self._order = stream.Shuffle(len(examples), seed=seed)

    def __call__(self, position: int) -> dict[str, Any]:
        index = self._order[position]
        try:
            image, label = self._examples[index]
            augmented = self._augment(image, self._numbers[position], image_size=self._image_size, fill=self._fill)
        except UserError as error:
            raise UserError(f"example {index} of {self._description}: {error}") from error
        return {**augmented, "label": np.int32(label), "index": np.int32(index)}


class LoadForEvaluation:
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

    def __call__(self, index: int) -> dict[str, Any]:
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


def check_divides(batch_size: int, process_count: int) -> None:
    """Raises UserError unless every process gets an equal share of a global batch."""
    if batch_size < 1 or batch_size % process_count:
        raise UserError(
            f"batch size {batch_size} cannot be divided among {process_count} processes: make it a positive multiple"
        )
