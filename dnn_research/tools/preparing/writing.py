"""Writes a data set as TFDS's own builder would, in array_record; moved into place whole, and never over another."""

import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from dnn_research.errors import UserError
from dnn_research.tools.preparing.preparation import Contents, Preparation, find


def prepare(
    name: str, preparation: Preparation, paths: list[Path], *, root: Path, partial: bool
) -> tuple[Path, Mapping[str, int]]:
    """Makes a data set of archives.

    Args:
        name: NAME[/CONFIG] as TFDS has it.
        preparation: how its archives are read.
        paths: archives, or folders that hold them.
        root: the directory for data sets.
        partial: archives may hold fewer examples than were published.

    Returns:
        Its directory, and the number of examples of each split.

    Raises:
        UserError: an archive is missing, damaged, incomplete or something else; it is prepared already; or it cannot be
            written.
    """
    files = find(name, preparation, paths)
    contents = preparation.read(files)
    try:
        root.mkdir(parents=True, exist_ok=True)
        # Aside, so that nobody sees half of it, and nothing is left of what fails.
        with tempfile.TemporaryDirectory(dir=root, prefix=f".preparing-{name.replace('/', '-')}-") as aside:
            builder = _builder(name, aside)
            directory = root / Path(builder.data_dir).relative_to(aside)
            if directory.exists():
                raise UserError(f"{directory} is there already: remove it first, or give another --data_dir")
            _write(builder, contents)
            counts = {split: info.num_examples for split, info in builder.info.splits.items()}
            if not partial:
                _compare(name, counts, preparation.published)
            directory.parent.mkdir(parents=True, exist_ok=True)
            os.rename(builder.data_dir, directory)
    except OSError as error:
        raise UserError(
            f"cannot prepare {name} in {root} ({error.strerror or error}): "
            "give a --data_dir with room that you may write to"
        ) from error
    return directory, counts


def _builder(name: str, directory: str) -> Any:
    """TFDS's own builder of a data set, whose archives are not yet read."""
    stock, _, config = name.partition("/")
    options = {"data_dir": directory, "file_format": "array_record"}
    if stock == "coco":
        return _coco()(config=config, **options)
    builder_class: Any = tfds.builder_cls(stock)
    return builder_class(**options)


def _coco() -> Any:
    """COCO's builder with features that say the same without TensorFlow's types."""
    stock: Any = tfds.builder_cls("coco")

    class Coco(stock, skip_registration=True):
        """MS COCO: objects in their context, with boxes."""

        name = "coco"

        def _info(self) -> tfds.core.DatasetInfo:
            thing = {
                "id": np.int64,
                "area": np.int64,
                "bbox": tfds.features.BBoxFeature(),
                "label": tfds.features.ClassLabel(num_classes=80),
                "is_crowd": np.bool_,
            }
            return tfds.core.DatasetInfo(
                builder=self,
                description=self.__doc__,
                features=tfds.features.FeaturesDict(
                    {
                        "image": tfds.features.Image(encoding_format="jpeg"),
                        "image/filename": tfds.features.Text(),
                        "image/id": np.int64,
                        "objects": tfds.features.Sequence(thing),
                    }
                ),
                homepage="http://cocodataset.org/#home",
            )

    return Coco


def _write(builder: Any, contents: Contents) -> None:
    def split_generators(dl_manager: tfds.download.DownloadManager) -> Any:
        return contents.splits

    for path, names in contents.labels.items():
        feature = builder.info.features
        for part in path:
            feature = feature[part]
        feature.names = names
    builder._split_generators = split_generators
    quiet = not sys.stderr.isatty()
    if quiet:
        tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()) if quiet else contextlib.nullcontext():
        try:
            builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
        except UserError:
            raise
        except Exception as error:
            # TFDS wraps what goes wrong while examples are read.
            cause = error.__cause__
            if isinstance(cause, UserError):
                raise cause from None
            raise


def _compare(name: str, counts: Mapping[str, int], published: Mapping[str, int]) -> None:
    for split, count in counts.items():
        if count != published[split]:
            raise UserError(
                f"the archives of {name} hold {count:,} examples for {split}, published are {published[split]:,}: "
                "download them again, or give --partial for a part of it"
            )
