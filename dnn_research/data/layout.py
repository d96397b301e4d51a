"""Splits and classes of images that lie in folders, on a disk or inside a tar, by their names alone.

Two layouts are known: SPLIT/CLASS/.../image, with the splits that people name train, val, test and so on, and
CLASS/.../image, of which a part is held out for evaluation. Classes are the names of their folders, sorted. Beside
splits for training and evaluation, folders without classes are left out, as unlabelled test images are, and named.
"""

import dataclasses
import hashlib
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from dnn_research.data.box import Window
from dnn_research.data.sources import Examples, read_window
from dnn_research.errors import UserError, check_seed

# What people call their splits; a recipe's word for one of them finds another word of its group, then of the next.
TRAINING = ("train", "training")
VALIDATION = ("validation", "val", "valid", "eval")
TEST = ("test", "testing")
NEAREST = {
    **dict.fromkeys(TRAINING, TRAINING),
    **dict.fromkeys(VALIDATION, VALIDATION + TEST),
    **dict.fromkeys(TEST, TEST + VALIDATION),
}

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tif", ".tiff"),
)
# What lies beside images and is none.
OTHER_SUFFIXES = (".txt", ".csv", ".tsv", ".json", ".xml", ".md", ".db", ".ini", ".mat", ".html")

PART = re.compile(r"(?P<name>[\w.-]+)(\[(?P<start>-?\d+%?)?:(?P<stop>-?\d+%?)?\])?")


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Examples whose labels are known before an image is read.

    Attributes:
        load: position -> image.
        labels: int [n].
    """

    load: Callable[[int], np.ndarray]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self.load(index), int(self.labels[index])


@runtime_checkable
class Load(Protocol):
    """Decodes image files by their position, whole or, with `window`, perhaps a part: see `images.decode`."""

    def __call__(self, position: int, window: Window | None = None) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True)
class LabelledFiles(Labelled):
    """The same of images that are decoded at each reading."""

    load: Load

    def read_window(self, index: int, window: Window) -> tuple[np.ndarray, int]:
        """The image, perhaps no more of it than is needed, and its label."""
        return self.load(index, window), int(self.labels[index])


@dataclasses.dataclass(frozen=True)
class Part:
    """Some of a split's examples, in the order of `positions`, int [n]."""

    whole: Examples
    positions: np.ndarray

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self.whole[int(self.positions[index])]

    def read_window(self, index: int, window: Window) -> tuple[np.ndarray, int]:
        """The image, perhaps no more of it than is needed, and its label."""
        return read_window(self.whole, int(self.positions[index]), window)


@dataclasses.dataclass(frozen=True)
class Arranged:
    """Image files by split.

    Attributes:
        class_names: sorted.
        splits: name -> (which of the given files, int [n]; their labels, int [n]); '' is the name of a single split.
        version: eight digits that follow from the names of all files.
    """

    class_names: tuple[str, ...]
    splits: Mapping[str, tuple[np.ndarray, np.ndarray]]
    version: str


def is_image(name: str, where: str) -> bool:
    """Whether a file in a folder of images is one, by its name.

    Raises:
        UserError: the name does not tell: leaving the file out might lose an image.
    """
    base = name.rpartition("/")[2]
    suffix = base[base.rfind(".") :].lower() if "." in base else ""
    if base.startswith(".") or suffix in OTHER_SUFFIXES:
        return False
    if suffix not in IMAGE_SUFFIXES:
        raise UserError(
            f"{where} has {name}, whose name is not that of an image (*.jpg, *.png, *.webp, ...): "
            "rename it or move it elsewhere"
        )
    return True


def arrange(names: Sequence[str], folders: Iterable[str], where: str) -> Arranged:
    """Splits and labels of image files.

    Args:
        names: the files, relative, with slashes.
        folders: all folders, also empty ones, relative.
        where: what they are in, for messages.

    Raises:
        UserError: a file has no class, a class has no images, or the splits have different classes.
    """
    if not names:
        raise UserError(f"{where} holds no images")
    parts = [name.split("/") for name in names]
    # A class may be called so too, but then no classes are inside.
    tops = sorted({part[0] for part in parts if part[0].lower() in NEAREST and len(part) > 2})
    depth = 1 if tops else 0
    members: dict[str, list[int]] = {top: [] for top in tops} or {"": []}
    # Whether all is there; else a part is held out, and another folder may be a class or a split that is not whole.
    whole = any(top.lower() in VALIDATION + TEST for top in tops)
    left_out: dict[str, int] = {}
    for number, part in enumerate(parts):
        if len(part) < 2:
            raise UserError(f"{where} has the image {names[number]} in no folder: put it into a folder of its class")
        split = part[0] if depth else ""
        if split in members and len(part) > depth + 1:
            members[split].append(number)
        elif split in members or split.lower() in TRAINING + VALIDATION or not (whole or split.lower() in TEST):
            raise UserError(
                f"{where} has the splits {', '.join(tops)} and the image {names[number]}, which is in no class of "
                "theirs: put it into a class folder, or elsewhere"
            )
        else:
            left_out[split] = left_out.get(split, 0) + 1
    for folder, count in left_out.items():
        logging.getLogger(__name__).warning(
            "Left out of %s: %s, %s images in no class of a split", where, folder, f"{count:,}"
        )
    classes = {split: sorted({parts[i][depth] for i in numbers}) for split, numbers in members.items()}
    for folder in sorted(folders):
        part = folder.split("/")
        split = part[0] if depth else ""
        empty = len(part) == 1 and split.lower() in NEAREST and split not in (*tops, *left_out)
        taken = any(top.lower() in VALIDATION for top in tops) if split.lower() in VALIDATION else whole
        if tops and empty and not taken:
            raise UserError(f"{where}: the split folder {folder} has no images: fill or remove it")
        if len(part) == depth + 1 and split in classes and part[-1] not in classes[split] and part[-1][:1] != ".":
            raise UserError(f"{where}: the class folder {folder} has no images: fill or remove it")
    first = next((split for split in tops if split.lower() in TRAINING), next(iter(members)))
    class_names = classes[first]
    for name in class_names:
        if any(ord(letter) < 32 or 0xD800 <= ord(letter) < 0xE000 for letter in name):
            raise UserError(f"{where}: the class folder {name!r} has a name that is no line of text: rename it")
    for split, there in classes.items():
        if there != class_names:
            missing, unknown = sorted(set(class_names) - set(there)), sorted(set(there) - set(class_names))
            differences = [f"{len(missing)} are missing ({_some(missing)})"] * bool(missing)
            differences += [f"{len(unknown)} are unknown ({_some(unknown)})"] * bool(unknown)
            raise UserError(
                f"{where}: the classes in {split} are not those in {first}: {', '.join(differences)}; "
                "make the class folders agree"
            )
    label_of = {name: label for label, name in enumerate(class_names)}
    splits = {}
    for split, numbers in members.items():
        numbers = sorted(numbers, key=names.__getitem__)
        labels = np.array([label_of[parts[i][depth]] for i in numbers], np.int32)
        splits[split.lower()] = np.array(numbers, np.int64), labels
    digest = hashlib.sha256("\0".join(sorted(names)).encode("utf-8", "surrogateescape")).hexdigest()
    return Arranged(tuple(class_names), splits, digest[:8])


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def hold_out(whole: Labelled, *, fraction: float, seed: int) -> dict[str, Examples]:
    """Splits examples into `train` and `validation`, class by class, at random but always in the same way.

    Args:
        whole: all examples.
        fraction: of each class that is held out, rounded; of a class with two examples or more at least one goes to
            each side, and a single one is trained on.
        seed: of the choice; not that of the run, so that runs of several seeds are evaluated on the same images.
    """
    if not 0 < fraction < 1:
        raise UserError(f"data.holdout_fraction is {fraction}: give a number between 0 and 1, such as 0.1")
    check_seed(seed, "data.holdout_seed")
    held = np.zeros(len(whole), bool)
    for label in np.unique(whole.labels):
        own = np.flatnonzero(whole.labels == label)
        count = min(max(round(fraction * len(own)), 1), len(own) - 1)
        held[np.random.default_rng([seed, int(label)]).permutation(own)[:count]] = True
    if not held.any():
        raise UserError("no class has two images: nothing can be held out for evaluation")
    return {"train": Part(whole, np.flatnonzero(~held)), "validation": Part(whole, np.flatnonzero(held))}


def choose_split(expression: str, splits: Mapping[str, Examples], name: str) -> Examples:
    """The examples of a split as a recipe names it: 'train', 'validation', 'train[:90%]', 'train[100:]+test'.

    A word for a split that is not there finds the nearest one that is: 'validation' finds 'val', and where there is
    neither, 'test'.

    Args:
        expression: in the syntax of TensorFlow Datasets; percentages are rounded to whole examples.
        splits: what there is.
        name: of the data set, for messages.

    Raises:
        UserError: there is no such split, or the part is empty.
    """
    chosen: list[Examples] = []
    for text in expression.split("+"):
        match = PART.fullmatch(text.strip())
        near = (split for split in NEAREST.get(match["name"], ()) if split in splits) if match else iter(())
        split = match["name"] if match and match["name"] in splits else next(near, None)
        if match is None or split is None:
            raise UserError(
                f"data set {name} has no split {expression!r}: it has {', '.join(splits)}, "
                "and parts such as 'train[:90%]'"
            )
        whole = splits[split]
        bounds = [_bound(match[end], len(whole)) for end in ("start", "stop")]
        positions = np.arange(len(whole))[slice(*bounds)]
        if not len(positions):
            raise UserError(f"split {text!r} of data set {name} is empty: choose a larger part")
        chosen.append(whole if len(positions) == len(whole) else Part(whole, positions))
    return chosen[0] if len(chosen) == 1 else Joined(tuple(chosen))


def _bound(text: str | None, length: int) -> int | None:
    if text is None:
        return None
    return round(length * int(text[:-1]) / 100) if text.endswith("%") else int(text)


@dataclasses.dataclass(frozen=True)
class Joined:
    """Several splits or parts, one after the other."""

    parts: tuple[Examples, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        part, index = self._locate(index)
        return part[index]

    def read_window(self, index: int, window: Window) -> tuple[np.ndarray, int]:
        """The image, perhaps no more of it than is needed, and its label."""
        part, index = self._locate(index)
        return read_window(part, index, window)

    def _locate(self, index: int) -> tuple[Examples, int]:
        for part in self.parts:
            if index < len(part):
                return part, index
            index -= len(part)
        raise IndexError(f"{index} is past the end")


def open_arranged(
    arranged: Arranged,
    load: Callable[[np.ndarray], Load],
    *,
    holdout_fraction: float,
    holdout_seed: int,
) -> dict[str, Examples]:
    """The splits of arranged files, by name; without one for evaluation, a part of the others is held out.

    Args:
        arranged: the files.
        load: numbers of files -> what loads them by position.
        holdout_fraction: see `hold_out`.
        holdout_seed: see `hold_out`.
    """
    splits = {split: LabelledFiles(load(numbers), labels) for split, (numbers, labels) in arranged.splits.items()}
    return with_evaluation(splits, holdout_fraction=holdout_fraction, holdout_seed=holdout_seed)


def with_evaluation(
    splits: Mapping[str, Labelled], *, holdout_fraction: float, holdout_seed: int
) -> dict[str, Examples]:
    """The splits as they are, or a single one for training divided in two."""
    if _lacks_evaluation(splits):
        return hold_out(next(iter(splits.values())), fraction=holdout_fraction, seed=holdout_seed)
    return dict(splits)


def _lacks_evaluation(splits: Iterable[str]) -> bool:
    held = list(splits)
    return len(held) == 1 and held[0] not in VALIDATION + TEST


def held_out(splits: Iterable[str], *, holdout_fraction: float, holdout_seed: int) -> str:
    """What is told of an evaluation split that is a part of the others; nothing where it is one of its own."""
    return f" ({holdout_fraction:g} held out by seed {holdout_seed})" if _lacks_evaluation(splits) else ""
