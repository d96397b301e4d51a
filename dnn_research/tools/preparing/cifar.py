"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), from the archives of www.cs.toronto.edu/~kriz/cifar.html.

Of the three that are published, the binary version and the one for Python are read. The latter are pickles, which could
run anything: the unpickler here knows arrays of bytes and nothing else.
"""

import dataclasses
import gzip
import io
import pickle
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dnn_research.errors import UserError, first_line
from dnn_research.tools.preparing.preparation import Contents, Files, Preparation, png

SIDE = 32
PIXELS = 3 * SIDE * SIDE


@dataclasses.dataclass(frozen=True)
class Layout:
    """The files in one archive.

    Attributes:
        folder: that they are in.
        splits: split -> files with examples.
        labels: the label of an example in the features -> (number of classes, file of their names).
        keys: for Python, the label in the features -> (key of the labels, key of their names).
    """

    folder: str
    splits: Mapping[str, tuple[str, ...]]
    labels: Mapping[str, tuple[int, str]]
    keys: Mapping[str, tuple[bytes, bytes]] | None = None


BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
LAYOUTS = {
    "cifar-10-binary.tar.gz": Layout(
        "cifar-10-batches-bin",
        {"train": tuple(f"{name}.bin" for name in BATCHES), "test": ("test_batch.bin",)},
        {"label": (10, "batches.meta.txt")},
    ),
    "cifar-10-python.tar.gz": Layout(
        "cifar-10-batches-py",
        {"train": BATCHES, "test": ("test_batch",)},
        {"label": (10, "batches.meta")},
        {"label": (b"labels", b"label_names")},
    ),
    "cifar-100-binary.tar.gz": Layout(
        "cifar-100-binary",
        {"train": ("train.bin",), "test": ("test.bin",)},
        {"coarse_label": (20, "coarse_label_names.txt"), "label": (100, "fine_label_names.txt")},
    ),
    "cifar-100-python.tar.gz": Layout(
        "cifar-100-python",
        {"train": ("train",), "test": ("test",)},
        {"coarse_label": (20, "meta"), "label": (100, "meta")},
        {"coarse_label": (b"coarse_labels", b"coarse_label_names"), "label": (b"fine_labels", b"fine_label_names")},
    ),
}


def read(files: Files) -> Contents:
    """Opens an archive; the first of the alternatives if there are several.

    Raises:
        UserError: it is damaged or another archive; also while the examples are read.
    """
    name, path = next(iter(files.items()))
    layout = LAYOUTS[name]
    members = _members(path, layout)
    labels: dict[tuple[str, ...], Sequence[str]] = {
        (label,): _names(path, members, layout, label) for label in layout.labels
    }
    splits = {split: _examples(path, members, layout, split) for split in layout.splits}
    return Contents(splits, labels)


def _members(path: Path, layout: Layout) -> dict[str, bytes]:
    """The files of the archive, all of them: 180 MB. The checksum of the whole is compared before anything is used."""
    wanted = {name for names in layout.splits.values() for name in names}
    wanted |= {file for _, file in layout.labels.values()}
    found: dict[str, bytes] = {}
    try:
        # tarfile stops at the last member: it would not reach the checksum.
        content = io.BytesIO(gzip.decompress(path.read_bytes()))
        with tarfile.open(fileobj=content, mode="r:") as archive:
            for member in archive:
                folder, _, name = member.name.removeprefix("./").partition("/")
                if folder == layout.folder and name in wanted and (opened := archive.extractfile(member)):
                    found[name] = opened.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is damaged ({first_line(error)}): download it again") from error
    if wanted - found.keys():
        raise UserError(
            f"{path} has no {layout.folder}/{sorted(wanted - found.keys())[0]}: it is not what its name says"
        )
    return found


def _names(path: Path, members: Mapping[str, bytes], layout: Layout, label: str) -> list[str]:
    classes, file = layout.labels[label]
    if layout.keys is None:
        names = members[file].decode().split("\n")
    else:
        stored = _unpickled(path, file, members[file]).get(layout.keys[label][1], [])
        names = [name.decode() for name in stored if isinstance(name, bytes)] if isinstance(stored, list) else []
    names = [name for name in names if name]
    if len(names) != classes:
        raise UserError(f"{path}: {file} names {len(names)} classes, not {classes}: download it again")
    return names


def _examples(
    path: Path, members: Mapping[str, bytes], layout: Layout, split: str
) -> Iterator[tuple[int, dict[str, Any]]]:
    parse = _parse_binary if layout.keys is None else _parse_python
    number = 0
    for file in layout.splits[split]:
        pixels, labels = parse(path, file, members[file], layout)
        for label, values in labels.items():
            if len(values) != len(pixels) or (len(values) and values.max() >= layout.labels[label][0]):
                raise UserError(f"{path}: the {label}s of {file} do not fit its images: download it again")
        # Planes of red, green and blue, row by row.
        for row, image in enumerate(pixels.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)):
            example = {label: int(values[row]) for label, values in labels.items()}
            yield number, {"id": f"{split}_{number:05d}", "image": png(np.ascontiguousarray(image)), **example}
            number += 1


def _parse_binary(path: Path, file: str, content: bytes, layout: Layout) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Records of a byte for each label, and the pixels."""
    length = len(layout.labels) + PIXELS
    if not content or len(content) % length:
        raise UserError(f"{path}: {file} has {len(content):,} bytes, no multiple of {length:,}: download it again")
    records = np.frombuffer(content, np.uint8).reshape(-1, length)
    return records[:, len(layout.labels) :], {label: records[:, place] for place, label in enumerate(layout.labels)}


def _parse_python(path: Path, file: str, content: bytes, layout: Layout) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    stored = _unpickled(path, file, content)
    pixels, labels = stored.get(b"data"), {}
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape != (len(pixels), PIXELS):
        raise UserError(f"{path}: {file} holds no images of {SIDE} x {SIDE} pixels: download it again")
    for label, (key, _) in (layout.keys or {}).items():
        values = stored.get(key)
        if not isinstance(values, list) or not all(isinstance(value, int) and value >= 0 for value in values):
            raise UserError(f"{path}: {file} holds no {label}s: download it again")
        labels[label] = np.array(values, np.int64)
    return pixels, labels


def _unpickled(path: Path, file: str, content: bytes) -> dict[Any, Any]:
    try:
        stored = ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
    except UserError:
        raise
    except Exception as error:
        # Damaged pickles end in exceptions of every kind.
        raise UserError(f"{path}: {file} is damaged ({first_line(error)}): download it again") from error
    if not isinstance(stored, dict):
        raise UserError(f"{path}: {file} is no dictionary: download it again")
    return stored


class ArrayUnpickler(pickle.Unpickler):
    """Knows what an array of bytes is made of."""

    def find_class(self, module: str, name: str) -> Any:
        """The functions that NumPy's arrays ask for; anything else is refused."""
        match module, name:
            case (("numpy.core.multiarray" | "numpy._core.multiarray"), "_reconstruct"):
                return _empty_array
            case "numpy", "ndarray":
                return np.ndarray
            case "numpy", "dtype":
                return _byte_type
        raise UserError(f"a file that asks for '{module}.{name}' is refused: CIFAR's ask for arrays alone")


def _empty_array(*arguments: Any) -> np.ndarray:
    """What a pickled array is before it gets its state."""
    return np.ndarray(0, np.uint8)


def _byte_type(kind: bytes | str, *arguments: Any) -> np.dtype:
    if kind not in (b"u1", "u1"):
        raise UserError(f"an array of {kind!r} is refused: CIFAR's pixels are bytes")
    return np.dtype("u1", False, True)


CIFAR10 = Preparation(
    (("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz"),), (), read, {"train": 50_000, "test": 10_000}
)
CIFAR100 = Preparation(
    (("cifar-100-python.tar.gz", "cifar-100-binary.tar.gz"),), (), read, {"train": 50_000, "test": 10_000}
)
