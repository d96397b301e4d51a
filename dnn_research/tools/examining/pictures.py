"""A grid of images, a row for each class: as they are in the data set, or as a recipe augments them for training."""

from collections.abc import Iterator, Sequence

import matplotlib.figure
import numpy as np

from dnn_research import data
from dnn_research.data import stream
from dnn_research.data.damage import Reader
from dnn_research.errors import UserError

# Rare classes of a large data set are looked for in no more examples than these.
LOOKED_AT = 20_000
CELL_INCHES = 1.3
LONGEST_TITLE = 18


def originals(dataset: data.Dataset, seed: int) -> Iterator[tuple[np.ndarray, int]]:
    """(image, label) of training examples in a random order, as they are decoded."""
    where = f"{dataset.name}, split {dataset.train_split}"
    reader = Reader(dataset.train_examples, description=where, skip=dataset.skip_damaged)
    for index in stream.permutation(dataset.num_train, seed=seed, epoch=0)[:LOOKED_AT].tolist():
        if (example := reader.read(index)) is not None:
            yield example


def augmented(dataset: data.Dataset, seed: int) -> Iterator[tuple[np.ndarray, int]]:
    """(image, label) of training examples as a recipe shows them to the network, before normalization."""
    batch_size = 32
    with dataset.train_batches(batch_size=batch_size, seed=seed) as batches:
        for _ in range(-(-LOOKED_AT // batch_size)):
            batch = next(batches)
            pixels = batch["image"].astype(np.float32)
            if "color_shift" in batch:
                pixels += batch["color_shift"][:, None, None, :]
            yield from zip(np.clip(np.rint(pixels), 0, 255).astype(np.uint8), batch["label"].tolist(), strict=True)


def by_class(
    examples: Iterator[tuple[np.ndarray, int]], labels: Sequence[int], per_class: int
) -> dict[int, list[np.ndarray]]:
    """The first images of each label, and fewer where there are not as many."""
    found: dict[int, list[np.ndarray]] = {label: [] for label in labels}
    missing = len(labels) * per_class
    for image, label in examples:
        if label in found and len(found[label]) < per_class:
            found[label].append(image)
            missing -= 1
            if not missing:
                break
    if not any(found.values()):
        raise UserError(f"none of the {len(labels)} classes was found among {LOOKED_AT:,} examples")
    return found


def draw(found: dict[int, list[np.ndarray]], class_names: Sequence[str], title: str) -> matplotlib.figure.Figure:
    """A row for each label, headed by its name."""
    columns = max(len(row) for row in found.values())
    size = (CELL_INCHES * (columns + 1), CELL_INCHES * len(found) + 0.4)
    figure = matplotlib.figure.Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(found), columns, squeeze=False)
    figure.suptitle(title, fontsize=9, parse_math=False)
    for row, (label, row_images) in zip(axes, found.items(), strict=True):
        name = class_names[label]
        short = name if len(name) <= LONGEST_TITLE else f"{name[: LONGEST_TITLE - 1]}…"
        row[0].set_ylabel(short, fontsize=8, rotation=0, ha="right", va="center", parse_math=False)
        for place, axis in enumerate(row):
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            if place < len(row_images):
                image = row_images[place]
                axis.imshow(image if image.shape[2] == 3 else image[..., 0], cmap="gray", vmin=0, vmax=255)
    return figure
