"""The records of a data set prepared by TensorFlow Datasets, as array_record or as TFRecord, by their position."""

import bisect
import itertools
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_data_source

from dnn_research.data import images, tf_example, tfrecord
from dnn_research.data.box import Window
from dnn_research.data.damage import DamagedExample
from dnn_research.errors import UserError, first_line


@runtime_checkable
class Records(Protocol):
    """Serialized examples by their position."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> bytes: ...


class Shards:
    """Where the examples of a split, or of a part of one, are: a stretch of one file after the other.

    Args:
        instructions: TFDS's file instructions; each has `filename`, `skip` and `take`.
    """

    def __init__(self, instructions: Sequence[Any]):
        self.paths = [pathlib.Path(instruction.filename) for instruction in instructions]
        self._skips = [int(instruction.skip) for instruction in instructions]
        # The position at which each stretch begins, and at the end the number of examples.
        self._firsts = [0, *itertools.accumulate(int(instruction.take) for instruction in instructions)]

    def __len__(self) -> int:
        return self._firsts[-1]

    def locate(self, index: int) -> tuple[pathlib.Path, int]:
        """The file of an example and the number of its record there."""
        if not 0 <= index < len(self):
            raise IndexError(f"{index} is not one of {len(self)} examples")
        shard = bisect.bisect_right(self._firsts, index) - 1
        return self.paths[shard], self._skips[shard] + index - self._firsts[shard]


class TfRecords:
    """Records in TFRecord files, whose checksums are verified."""

    def __init__(self, shards: Shards, offsets: Mapping[pathlib.Path, np.ndarray]):
        self._shards = shards
        self._offsets = offsets

    def __len__(self) -> int:
        return len(self._shards)

    def __getitem__(self, index: int) -> bytes:
        path, record = self._shards.locate(index)
        start, end = self._offsets[path][record : record + 2].tolist()
        return tfrecord.read_record(path, start, end)


class ArrayRecords:
    """Records in array_record files, whose checksums that format verifies itself."""

    def __init__(self, shards: Shards, instructions: Sequence[Any]):
        self._shards = shards
        self._records = array_record_data_source.ArrayRecordDataSource(instructions)

    def __len__(self) -> int:
        return len(self._shards)

    def __getitem__(self, index: int) -> bytes:
        try:
            return self._records[index]
        except Exception as error:
            # array_record raises what its C++ reader says, as exceptions of several kinds.
            path, _ = self._shards.locate(index)
            if not os.access(path, os.R_OK):
                raise UserError(f"cannot read {path}: check that it is there and readable") from error
            raise DamagedExample(
                f"it cannot be read ({first_line(error)}): copy or prepare the data set again"
            ) from error


class TfdsExamples:
    """One split of a prepared data set, decoded example by example.

    Args:
        records: serialized tf.train.Examples with the features `image` and `label`.
        shards: where they are, for messages.
        channels: 3 for RGB, 1 for gray.
        num_classes: labels are 0 .. num_classes - 1; with 0 there are none to read.
    """

    def __init__(self, records: Records, shards: Shards, *, channels: int, num_classes: int):
        self._records = records
        self._shards = shards
        self._channels = channels
        self._num_classes = num_classes

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self._read(index, None)

    def read_window(self, index: int, window: Window) -> tuple[np.ndarray, int]:
        """The image, perhaps no more of it than is needed, and its label."""
        return self._read(index, window)

    def _read(self, index: int, window: Window | None) -> tuple[np.ndarray, int]:
        try:
            encoded, label = tf_example.image_and_label(self._records[index], labelled=self._num_classes > 0)
            image = images.decode(encoded, channels=self._channels, window=window)
        except DamagedExample as error:
            raise DamagedExample(f"{self._place(index)}: {error}") from error
        if self._num_classes and not 0 <= label < self._num_classes:
            raise UserError(
                f"{self._place(index)}: its label {label} is not one of the {self._num_classes} classes 0 .. "
                f"{self._num_classes - 1}: choose a split that has labels"
            )
        return image, label

    def _place(self, index: int) -> str:
        path, record = self._shards.locate(index)
        return f"{path}, record {record}"


def open_records(info: tfds.core.DatasetInfo, split: str) -> tuple[Records, Shards]:
    """The records of a split or of a part of one, and where they are.

    Raises:
        UserError: an index of TFRecord files is to be made, and a file is damaged.
    """
    instructions = info.splits[split].file_instructions
    shards = Shards(instructions)
    if info.file_format == tfds.core.FileFormat.ARRAY_RECORD:
        return ArrayRecords(shards, instructions), shards
    offsets: dict[pathlib.Path, np.ndarray] = {}
    # Whole splits are indexed, so that all parts of one share what is kept.
    for whole in info.splits.values():
        paths = [pathlib.Path(path) for path in whole.filepaths]
        if not set(paths).isdisjoint(shards.paths):
            offsets |= zip(paths, tfrecord.index_files(paths, whole.shard_lengths), strict=True)
    return TfRecords(shards, offsets), shards
