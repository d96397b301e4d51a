"""Reads every example of a data set: what is damaged, how classes are balanced, which images are there twice."""

import collections
import concurrent.futures
import dataclasses
import hashlib
import itertools
import statistics
from collections.abc import Mapping, Sequence

from dnn_research import data
from dnn_research.data.sources import Examples
from dnn_research.errors import UserError

# So many damaged examples are named.
NAMED = 5
# Examples that are handed to the threads at a time: their results wait for those before them.
CHUNK = 256


@dataclasses.dataclass
class Split:
    """What is in a split.

    Attributes:
        name: of the split.
        examples: how many there are.
        damaged: index -> what is wrong.
        classes: number of examples of each label.
        sizes: number of images of each (height, width).
        places: fingerprint of an image -> where it is.
    """

    name: str
    examples: int
    damaged: dict[int, str] = dataclasses.field(default_factory=dict)
    classes: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)
    sizes: collections.Counter[tuple[int, int]] = dataclasses.field(default_factory=collections.Counter)
    places: dict[bytes, list[int]] = dataclasses.field(default_factory=dict)

    @property
    def repeated(self) -> int:
        """How many examples have an image that one before them has."""
        return sum(len(places) - 1 for places in self.places.values())


@dataclasses.dataclass
class Findings:
    """What was found in a data set.

    Attributes:
        dataset: its name and version.
        class_names: of each label.
        splits: training, then evaluation.
    """

    dataset: str
    class_names: Sequence[str]
    splits: list[Split]

    @property
    def shared(self) -> list[tuple[int, int]]:
        """(index in training, index in evaluation) of images that are in both splits."""
        train, evaluation = self.splits
        return [
            (train.places[key][0], index)
            for key, indices in evaluation.places.items()
            if key in train.places
            for index in indices
        ]

    def problems(self) -> list[str]:
        """What is wrong, a line each; empty if nothing is."""
        found = []
        for split in self.splits:
            for index, reason in itertools.islice(split.damaged.items(), NAMED):
                found.append(f"{split.name}: example {index} cannot be read: {reason}")
            if len(split.damaged) > NAMED:
                found.append(f"{split.name}: {len(split.damaged) - NAMED:,} more examples cannot be read")
            if not self.class_names:
                continue
            strange = sorted(label for label in split.classes if not 0 <= label < len(self.class_names))
            if strange:
                found.append(
                    f"{split.name}: label {strange[0]} is out of range, there are {len(self.class_names)} classes"
                )
            empty = [name for label, name in enumerate(self.class_names) if not split.classes[label]]
            if empty:
                found.append(
                    f"{split.name}: {len(empty)} of {len(self.class_names)} classes have no example: {_some(empty)}"
                )
        if self.shared:
            train, evaluation = self.splits
            pairs = _some([f"{here} = {there}" for here, there in self.shared])
            found.append(f"{len(self.shared):,} images of {evaluation.name} are in {train.name} too (indices {pairs})")
        return found


def verify(dataset: data.Dataset, *, threads: int) -> Findings:
    """Reads both splits whole.

    Args:
        dataset: whose examples are read.
        threads: that decode.
    """
    splits = [
        _read(dataset.train_split, dataset.train_examples, threads),
        _read(dataset.eval_split, dataset.eval_examples, threads),
    ]
    return Findings(f"{dataset.name} {dataset.version}", dataset.class_names, splits)


def table(findings: Findings) -> str:
    """Counts, balance and sizes by split."""
    header = ("split", "examples", "damaged", "classes", "least..most", "repeated", "height x width")
    rows = [header]
    for split in findings.splits:
        counts = [split.classes[label] for label in range(len(findings.class_names))]
        rows.append(
            (
                split.name,
                f"{split.examples:,}",
                f"{len(split.damaged):,}",
                f"{sum(count > 0 for count in counts):,} of {len(counts):,}" if counts else "",
                f"{min(counts):,}..{max(counts):,}" if counts else "",
                f"{split.repeated:,}",
                _sizes(split.sizes),
            )
        )
    widths = [max(len(row[place]) for row in rows) for place in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([findings.dataset, *lines])


def _read(name: str, examples: Examples, threads: int) -> Split:
    split = Split(name, len(examples))
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for first in range(0, len(examples), CHUNK):
            indices = range(first, min(first + CHUNK, len(examples)))
            for index, found in zip(indices, pool.map(lambda i: _look(examples, i), indices), strict=True):
                if isinstance(found, str):
                    split.damaged[index] = found
                    continue
                label, size, fingerprint = found
                split.classes[label] += 1
                split.sizes[size] += 1
                split.places.setdefault(fingerprint, []).append(index)
    return split


def _look(examples: Examples, index: int) -> tuple[int, tuple[int, int], bytes] | str:
    """Label, size and fingerprint of the pixels, or what is wrong."""
    try:
        image, label = examples[index]
    except UserError as error:
        return str(error)
    pixels = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
    pixels.update(image.tobytes())
    return label, (image.shape[0], image.shape[1]), pixels.digest()


def _sizes(sizes: Mapping[tuple[int, int], int]) -> str:
    if len(sizes) <= 1:
        return "".join(f"{height} x {width}" for height, width in sizes)
    ranges = []
    for side in range(2):
        lengths = [length for size, count in sizes.items() for length in itertools.repeat(size[side], count)]
        ranges.append(f"{min(lengths)}..{max(lengths)} (median {statistics.median_low(lengths)})")
    return " x ".join(ranges)


def _some(words: Sequence[str]) -> str:
    return ", ".join([*words[:NAMED], *(["..."] if len(words) > NAMED else [])])
