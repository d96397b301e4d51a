"""Where examples come from, how an image is decoded and augmented, how batches are made, how evaluation crops.

dataset = data.create(**config.data)
with dataset.train_batches(batch_size=256, seed=0) as batches:
    for batch in batches: ...
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dnn_research.data import conditions, formats, protocols
from dnn_research.data import normalization as normalizations
from dnn_research.data.augment import Augment
from dnn_research.data.batches import Batches
from dnn_research.data.conditions import Conditions
from dnn_research.data.damage import POLICIES
from dnn_research.data.multi_view import MultiView
from dnn_research.data.normalization import Normalization, load_normalization
from dnn_research.data.pipeline import Dataset
from dnn_research.data.protocols import Protocol
from dnn_research.data.sources import open_source
from dnn_research.errors import UserError, construct

__all__ = [
    "Batches",
    "Conditions",
    "Dataset",
    "MultiView",
    "Normalization",
    "Protocol",
    "conditions",
    "create",
    "load_normalization",
    "protocols",
]


def create(
    *,
    source: str,
    dir: str | None,
    image_size: int,
    channels: int,
    train_split: str,
    eval_split: str,
    holdout_fraction: float,
    holdout_seed: int,
    damaged: str,
    mean: Sequence[float],
    std: Sequence[float],
    normalization: str,
    augment: Mapping[str, Any] | None,
    num_workers: int,
    synthetic_classes: int,
    synthetic_examples: int,
    workdir: Path | None = None,
) -> Dataset:
    """Opens a data set; the arguments are the section `data` of a config.

    Args:
        source: 'tfds:NAME[/CONFIG][:VERSION]', 'folder:PATH', 'tar:PATH', 'npz:PATH', 'images:PATH' (photographs
            without labels) or 'synthetic'. Built-in names: see `dnn_research.data.builtin`.
        dir: where prepared data sets are; None for $TFDS_DATA_DIR or, without that, ~/tensorflow_datasets.
        image_size: height and width in pixels of what the network sees.
        channels: 3 for RGB (gray images are repeated), 1 for gray (colour images become their luma).
        train_split: such as 'train' or 'train[:90%]'.
        eval_split: such as 'test', 'validation' or 'train[90%:]'.
        holdout_fraction: of each class, held out for evaluation where a folder, tar or archive has no split for it.
        holdout_seed: of that choice, the same for runs of any seed.
        damaged: what a damaged example does: 'stop' ends the run; 'skip' leaves it out of evaluation, where it counts
            for nothing, and puts another in its place in training, and counts it.
        mean: of each channel, in units of 0..255.
        std: of each channel, in units of 0..255; ones to subtract the mean only.
        normalization: 'channel' by these two, or 'pixel_mean', 'per_image', 'gcn', 'gcn_zca': see
            `dnn_research.data.normalization`. Padding has the colour `mean` with any of them.
        augment: keyword arguments of `Augment`; empty or None for none.
        num_workers: threads that prepare batches, up to two for each core; 0 for none. Batches do not depend on it.
        synthetic_classes: number of classes of the synthetic source.
        synthetic_examples: number of examples in each split of the synthetic source.
        workdir: of a run whose statistics of the training split are used; None, or where no run is, they are computed
            when they are first needed. No field of a config.

    Raises:
        UserError: a value is out of range, or the source is unknown or not prepared.
    """
    most = math.isqrt(formats.MAX_PIXELS)
    if not 1 <= image_size <= most:
        raise UserError(f"data.image_size is {image_size}: give the height and width in pixels, from 1 to {most:,}")
    if channels not in (1, 3):
        raise UserError(f"data.channels is {channels}: give 3 for colour or 1 for gray")
    if num_workers < 0:
        raise UserError(f"data.num_workers is {num_workers}: give the number of threads, 0 for none")
    if damaged not in POLICIES:
        raise UserError(f"data.damaged is {damaged!r}: choose from {', '.join(POLICIES)}")
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != channels:
            raise UserError(f"data.{name} has {len(values)} values, data.channels is {channels}: give one per channel")
    if not all(0 <= value <= 255 for value in mean):
        raise UserError(f"data.mean is {tuple(mean)}: give it in units of 0..255")
    if not all(value > 0 for value in std):
        raise UserError(f"data.std is {tuple(std)}: give positive numbers in units of 0..255, or ones")
    normalizations.check(name=normalization, std=tuple(std))
    augmentation = construct(Augment, "config.data.augment", augment or {})
    augmentation.check(image_size=image_size, channels=channels)
    opened = open_source(
        source,
        dir=dir,
        image_size=image_size,
        channels=channels,
        holdout_fraction=holdout_fraction,
        holdout_seed=holdout_seed,
        synthetic_classes=synthetic_classes,
        synthetic_examples=synthetic_examples,
    )
    return Dataset(
        name=opened.name,
        version=opened.version,
        class_names=opened.class_names,
        image_shape=(image_size, image_size, channels),
        train_split=train_split,
        eval_split=f"{eval_split}{opened.held_out}",
        train_examples=opened.split(train_split),
        eval_examples=opened.split(eval_split),
        skip_damaged=damaged == "skip",
        mean=tuple(mean),
        std=tuple(std),
        normalization=normalization,
        augment=augmentation,
        workdir=workdir,
        num_workers=num_workers,
    )
