"""Data sets prepared by TensorFlow Datasets, read without TensorFlow: array_record or TFRecord files in a directory.

The built-in data sets of `dnn_research.data.builtin` are prepared on first use. Every other one has to be there: the
builders that come with TensorFlow Datasets need TensorFlow once, to prepare; reading afterwards does not.
"""

import contextlib
import io
import logging
import math
import os
import pathlib
import re
import tempfile

import tensorflow_datasets as tfds

from dnn_research.data import builtin, tfds_records
from dnn_research.data.sources import CACHE_BYTES, Cached, Examples, Source
from dnn_research.errors import UserError, first_line, suggest

LOCATOR = re.compile(r"(?P<name>\w+)(/(?P<config>[\w.+-]+))?(:(?P<version>\d+\.\d+\.\d+))?")
VERSION = re.compile(r"\d+\.\d+\.\d+")
FILE_FORMATS = ("array_record", "tfrecord")

# Data sets whose files TensorFlow Datasets cannot download: what to fetch, and from where.
MANUAL_FILES = {
    "imagenet2012": (
        "ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar",
        "https://image-net.org/download-images (after registration)",
    ),
}

# Those that `python -m dnn_research.tools.data prepare` makes of the publishers' archives.
PREPARED_FROM_ARCHIVES = (
    *("cifar10", "cifar100", "mnist", "fashion_mnist", "kmnist", "svhn_cropped", "imagenet2012"),
    *("coco/2014", "coco/2017"),
)


def root_directory(dir: str | None) -> pathlib.Path:
    """Where data sets are: `dir`, or else $TFDS_DATA_DIR, or else ~/tensorflow_datasets."""
    return pathlib.Path(dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def open_tfds(locator: str, *, dir: str | None, channels: int) -> Source:
    """Opens a prepared data set; prepares it first if it is a built-in one.

    Args:
        locator: NAME[/CONFIG][:VERSION]; without a version the newest prepared one (of a built-in data set: the one
            that this package makes).
        dir: see `root_directory`.
        channels: 3 for RGB, 1 for gray.

    Raises:
        UserError: the data set is unknown, not prepared, prepared in another format, damaged, or has no images.
    """
    parts = LOCATOR.fullmatch(locator)
    if parts is None:
        raise UserError(f"cannot read data.source 'tfds:{locator}': write it as tfds:NAME[/CONFIG][:VERSION]")
    name, config, version = parts["name"], parts["config"], parts["version"]
    root = root_directory(dir)
    if name in builtin.BUILDERS:
        directory = prepare_builtin(name, config, version, root=root)
    else:
        directory = find_prepared(name, config, version, root=root)
    return read_directory(directory, channels=channels)


def prepare_builtin(name: str, config: str | None, version: str | None, *, root: pathlib.Path) -> pathlib.Path:
    """The directory of a built-in data set, which is prepared if it is not there yet."""
    builder_class = builtin.BUILDERS[name]
    configs = [builder_config.name for builder_config in builder_class.BUILDER_CONFIGS]
    if config is None and configs:
        config = configs[0]
    if config is not None and config not in configs:
        known = f"choose from {', '.join(configs)}" if configs else "it has none, leave it out"
        raise UserError(f"the built-in data set {name} has no configuration {config!r}: {known}")
    made = str(builder_class.VERSION)
    base = root / name / config if config else root / name
    directory = base / (version or made)
    if is_prepared(directory):
        return directory
    if version not in (None, made):
        raise UserError(f"the built-in data set {name} has no version {version}: this package makes {made}")
    logging.getLogger(__name__).info("Preparing the built-in data set %s in %s (once, some seconds)", name, directory)
    try:
        base.mkdir(parents=True, exist_ok=True)
        # Prepared aside and moved into place whole, so that runs starting together cannot see or make half of it.
        with tempfile.TemporaryDirectory(dir=root, prefix=f".preparing-{name}-") as aside:
            tfds.disable_progress_bar()
            with contextlib.redirect_stdout(io.StringIO()):
                builder = builder_class(data_dir=aside, file_format="array_record", config=config)
                builder.download_and_prepare()
            try:
                os.rename(builder.data_dir, directory)
            except OSError:
                if not is_prepared(directory):
                    raise
    except OSError as error:
        raise UserError(
            f"cannot prepare the data set {name} in {root} ({error.strerror or error}): "
            "set data.dir or TFDS_DATA_DIR to a directory with room that you may write to"
        ) from error
    return directory


def find_prepared(name: str, config: str | None, version: str | None, *, root: pathlib.Path) -> pathlib.Path:
    """The directory of a data set that somebody has prepared."""
    base = root / name
    if config is None and not versions_in(base):
        configs = sorted(path.name for path in base.iterdir() if versions_in(path)) if base.is_dir() else []
        if not configs:
            raise not_prepared(name, config, version, root=root)
        if len(configs) > 1:
            raise UserError(
                f"data set {name} is prepared in several configurations: choose {name}/{{{'|'.join(configs)}}}"
            )
        config = configs[0]
    if config is not None:
        base = base / config
    versions = versions_in(base)
    if not versions:
        raise not_prepared(name, config, version, root=root)
    if version is None:
        version = versions[-1]
    if version not in versions:
        raise UserError(
            f"version {version} of data set {name} is not in {base}: prepared there are {', '.join(versions)}"
        )
    return base / version


def is_prepared(directory: pathlib.Path) -> bool:
    """Whether the directory holds one version of a prepared data set."""
    return (directory / "dataset_info.json").is_file() and (directory / "features.json").is_file()


def versions_in(base: pathlib.Path) -> list[str]:
    """The prepared versions in a directory, the newest last."""
    if not base.is_dir():
        return []
    versions = [path.name for path in base.iterdir() if VERSION.fullmatch(path.name) and is_prepared(path)]
    return sorted(versions, key=lambda version: [int(number) for number in version.split(".")])


def not_prepared(name: str, config: str | None, version: str | None, *, root: pathlib.Path) -> UserError:
    """What is wrong and what to do when a data set is not there."""
    # The community's data sets would be listed from the network.
    stock = tfds.list_builders(with_community_datasets=False)
    if name not in stock:
        there = sorted(path.parent.name for path in root.glob("*/[0-9]*.[0-9]*.[0-9]*"))
        return UserError(
            f"unknown data set {name!r}{suggest(name, [*stock, *builtin.BUILDERS])}; built in: "
            f"{', '.join(builtin.BUILDERS)}; prepared in {root}: {', '.join(there) or 'none'}; "
            f"TensorFlow Datasets has {len(stock)} that can be prepared"
        )
    wanted = f"{name}/{config}" if config else name
    wanted += f":{version}" if version else ""
    by_tfds = "in a throw-away environment with TensorFlow (training needs none):"
    way, commands = by_tfds, []
    if (known := f"{name}/{config}" if config else name) in PREPARED_FROM_ARCHIVES:
        way = "of its publisher's archives:"
        commands = [
            f"python -m dnn_research.tools.data prepare {known} FOLDER_WITH_THE_ARCHIVES",
            f"# or by TensorFlow Datasets, {by_tfds}",
        ]
    if name in MANUAL_FILES:
        files, origin = MANUAL_FILES[name]
        commands.append(f"# put {files} from {origin} into {root / 'downloads' / 'manual'}")
    commands += [
        "python3 -m venv tfds_env",
        "tfds_env/bin/pip install tensorflow-cpu tensorflow-datasets importlib_resources",
        'tfds_env/bin/python -c "import tensorflow_datasets as tfds; '
        f"tfds.builder({wanted!r}, data_dir={str(root)!r}, file_format='array_record').download_and_prepare()\"",
    ]
    return UserError(
        f"data set {wanted} is not prepared in {root}: set data.dir or TFDS_DATA_DIR to where it is, or prepare it "
        f"once, {way}",
        commands,
    )


def read_directory(directory: pathlib.Path, *, channels: int) -> Source:
    """Opens one version of a prepared data set."""
    try:
        info = tfds.builder_from_directory(directory).info
    except Exception as error:
        # TFDS lets the exceptions of its JSON, protocol buffer and file readers through.
        raise UserError(f"the data set in {directory} is damaged ({first_line(error)}): prepare it again") from error
    file_format = info.file_format.value if info.file_format else "unknown"
    if file_format not in FILE_FORMATS:
        raise UserError(
            f"the data set in {directory} is prepared as {file_format}, which cannot be read at random positions: "
            "convert it beside what is there, with TensorFlow in a throw-away environment:",
            [
                "python3 -m venv tfds_env",
                "tfds_env/bin/pip install tensorflow-cpu tensorflow-datasets importlib_resources apache-beam",
                f"tfds_env/bin/tfds convert_format --dataset_version_dir={directory} --out_file_format=array_record",
            ],
        )
    features = info.features
    connectors = dict(features.items()) if isinstance(features, tfds.features.FeaturesDict) else {}
    image, label = connectors.get("image"), connectors.get("label")
    if not isinstance(image, tfds.features.Image):
        raise UserError(
            f"data set {info.full_name} has no feature 'image' with an image: "
            f"its features are {', '.join(connectors) or 'not named'}; choose a data set of images"
        )
    class_names = tuple(label.names) if isinstance(label, tfds.features.ClassLabel) else ()
    name = info.full_name.removesuffix(f"/{info.version}")

    def split(split_name: str) -> Examples:
        return open_split(
            info, split_name, name=name, image_shape=image.shape, channels=channels, num_classes=len(class_names)
        )

    return Source(name=name, version=str(info.version), class_names=class_names, split=split)


def open_split(
    info: tfds.core.DatasetInfo,
    split: str,
    *,
    name: str,
    image_shape: tuple[int | None, ...],
    channels: int,
    num_classes: int,
) -> Examples:
    """The examples of a split or of a part of one, such as 'train' or 'train[:90%]'."""
    try:
        num_examples = info.splits[split].num_examples
    except Exception as error:
        # Unknown names and unreadable slices end in exceptions of several kinds.
        raise UserError(
            f"data set {name} has no split {split!r}: it has {', '.join(info.splits)}, and parts such as 'train[:90%]'"
        ) from error
    if not num_examples:
        raise UserError(f"split {split!r} of data set {name} is empty: choose a larger part")
    for instruction in info.splits[split].file_instructions:
        if not os.path.isfile(instruction.filename):
            raise UserError(f"data set {name} lacks its file {instruction.filename}: prepare it again")
    records, shards = tfds_records.open_records(info, split)
    examples = tfds_records.TfdsExamples(records, shards, channels=channels, num_classes=num_classes)
    height, width = image_shape[:2]
    if height and width and math.prod((num_examples, height, width, channels)) <= CACHE_BYTES:
        return Cached(examples)
    return examples
