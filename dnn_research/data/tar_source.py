"""Images inside tar files, read in place, `tar:PATH`: PATH is a tar, or a folder with one tar for each split.

A tar holds folders of classes as a folder of images does, or a tar for each class, as ILSVRC2012_img_train.tar does.
One without either, as ILSVRC2012_img_val.tar, needs labels beside it: `ILSVRC2012_img_val.txt` with the class (the
WordNet id) of one image a line, in the order of the file names, or else ImageNet's ILSVRC2012_devkit_t12.tar.gz.
Labels are positions in the sorted class names: for ImageNet those of TensorFlow Datasets.
"""

import io
import logging
import pathlib
import posixpath
import tarfile
from collections.abc import Collection, Iterator
from typing import IO

import numpy as np
import scipy.io

from dnn_research.data import files, images, layout
from dnn_research.data.box import Window
from dnn_research.data.damage import DamagedExample
from dnn_research.data.sources import Source
from dnn_research.errors import UserError, first_line

IMAGENET_SPLITS = {"ILSVRC2012_img_train.tar": "train", "ILSVRC2012_img_val.tar": "validation"}
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
GROUND_TRUTH = "data/ILSVRC2012_validation_ground_truth.txt"
META = "data/meta.mat"


class TarImages:
    """Decodes images inside tar files by their position.

    Args:
        path: of each image's tar, as a number into `paths`.
        names, offsets, sizes: of each image.
        channels: 3 for RGB, 1 for gray.
    """

    def __init__(
        self,
        paths: list[pathlib.Path],
        path: np.ndarray,
        names: list[str],
        offsets: np.ndarray,
        sizes: np.ndarray,
        *,
        channels: int,
    ):
        self._paths, self._path, self._names = paths, path, names
        self._offsets, self._sizes, self._channels = offsets, sizes, channels

    def __call__(self, position: int, window: Window | None = None) -> np.ndarray:
        path = self._paths[self._path[position]]
        try:
            content = files.read_at(path, int(self._offsets[position]), int(self._sizes[position]))
            return images.decode(content, channels=self._channels, window=window)
        except DamagedExample as error:
            raise DamagedExample(f"{path}, member {self._names[position]}: {error}") from error


def open_tar(path: str, *, channels: int, holdout_fraction: float, holdout_seed: int) -> Source:
    """Opens a tar, or the tars in a folder.

    Args:
        path: a tar, or a folder with ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar, or train.tar, val.tar, ...
        channels: 3 for RGB, 1 for gray.
        holdout_fraction: where no split is for evaluation, the share of each class that is held out for it.
        holdout_seed: of that choice.

    Raises:
        UserError: a tar is missing, damaged, compressed, or its files do not make a data set; labels are missing.
    """
    root = pathlib.Path(path).expanduser()
    if path and root.is_dir():
        tars = {_split_of(tar): tar for tar in sorted(root.glob("*.tar")) if _split_of(tar)}
        if not tars:
            raise UserError(
                f"{root} has no tar named after a split: {', '.join(IMAGENET_SPLITS)}, or train.tar, val.tar, test.tar"
            )
    elif path and root.is_file():
        tars = {"": root}
    else:
        raise UserError(f"data.source names the tar {path!r}, which is not there: write it as tar:PATH")
    paths = list(tars.values())
    names: list[str] = []
    folders: list[str] = []
    columns: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for number, (split, tar) in enumerate(tars.items()):
        index = files.cached_index("tar without links", [tar], lambda tar=tar: index_tar(tar))
        own, inside = files.split_names(index["names"]), files.split_names(index["folders"])
        if not own:
            raise UserError(f"{tar} holds no images")
        if split:
            own, inside = _without_common_folder(own, inside, also=layout.NEAREST)
        if all("/" not in name for name in own):
            classes = flat_labels(tar, own)
            own = [f"{label}/{name}" for label, name in zip(classes, own, strict=True)]
        prefix = f"{split}/" if split else ""
        names += [prefix + name for name in own]
        folders += [prefix + name for name in inside]
        columns.append((np.full(len(own), number), index["offsets"], index["sizes"]))
    path_numbers, offsets, sizes = (np.concatenate(column) for column in zip(*columns, strict=True))
    arranged = layout.arrange(names, folders, str(root))
    splits = layout.open_arranged(
        arranged,
        lambda n: TarImages(paths, path_numbers[n], [names[i] for i in n], offsets[n], sizes[n], channels=channels),
        holdout_fraction=holdout_fraction,
        holdout_seed=holdout_seed,
    )
    name = "imagenet2012" if set(IMAGENET_SPLITS) <= {tar.name for tar in paths} else root.resolve().stem
    return Source(
        name=name,
        version=arranged.version,
        held_out=layout.held_out(arranged.splits, holdout_fraction=holdout_fraction, holdout_seed=holdout_seed),
        class_names=arranged.class_names,
        split=lambda split: layout.choose_split(split, splits, name),
    )


def _split_of(tar: pathlib.Path) -> str:
    known = tar.stem.lower() if tar.stem.lower() in layout.NEAREST else ""
    return IMAGENET_SPLITS.get(tar.name, known)


def index_tar(path: pathlib.Path) -> files.Index:
    """Where the images of a tar are: `names` and `folders`, joined, and `offsets` and `sizes` in bytes, int64 [n].

    Raises:
        UserError: the tar is cut short, damaged, compressed or cannot be read.
    """
    logging.getLogger(__name__).info("Indexing %s (once)", path)
    found: list[tuple[str, int, int]] = []
    folders: list[str] = []
    try:
        with open(path, "rb") as file:
            for name, member, offset in _members(file, path, "", 0):
                if member.isdir():
                    folders.append(name)
                elif layout.is_image(name, str(path)):
                    found.append((name, offset, member.size))
    except OSError as error:
        raise files.cannot_read(path, error) from error
    found.sort()
    names = _without_common_folder([name for name, _, _ in found], folders)
    return {
        "names": files.join_names(names[0]),
        "folders": files.join_names(names[1]),
        "offsets": np.array([offset for _, offset, _ in found], np.int64),
        "sizes": np.array([size for _, _, size in found], np.int64),
    }


def _members(file: IO[bytes], path: pathlib.Path, folder: str, base: int) -> Iterator[tuple[str, tarfile.TarInfo, int]]:
    """Name, header and offset of all members of a tar; a tar inside is a folder of its name."""
    place = f"{path}, {folder}" if folder else f"{path}"
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (member := tar.next()) is not None:
                # Or every header stays in memory.
                tar.members.clear()  # pyrefly: ignore [missing-attribute]  # documented only in its source
                name = posixpath.normpath(member.name)
                hidden = any(part.startswith(".") for part in name.split("/"))
                if member.isdir() and not hidden:
                    yield folder + name, member, 0
                if (
                    (member.issym() or member.islnk())
                    and not hidden
                    and not name.lower().endswith(layout.OTHER_SUFFIXES)
                ):
                    raise UserError(
                        f"{place}: the member {name} is a link, and what it leads to is not read: make the tar with "
                        "tar --dereference --hard-dereference"
                    )
                if not member.isfile() or hidden:
                    continue
                if member.offset_data + member.size > size or member.sparse is not None:
                    raise UserError(f"{place}: the member {name} is cut short or sparse: copy the tar again")
                if name.endswith(".tar"):
                    inner = tar.extractfile(member)
                    assert inner is not None
                    yield from _members(inner, path, f"{folder}{name[:-4]}/", base + member.offset_data)
                else:
                    yield folder + name, member, base + member.offset_data
            end = tar.offset
        # tarfile takes a header that it cannot read for the end, and so the end of the file.
        file.seek(end)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise UserError(f"{place} is damaged or cut short at byte {end + base:,}: copy it again")
    except (tarfile.TarError, EOFError) as error:
        raise UserError(
            f"{place} is no tar that can be read in place ({first_line(error)}): unpack a compressed one, "
            "copy a damaged one again"
        ) from error


def _without_common_folder(
    names: list[str], folders: list[str], also: Collection[str] = ()
) -> tuple[list[str], list[str]]:
    """Names without the one folder that many tars have around everything, such as `flowers/rose/1.jpg`.

    A folder that is called as a split is one, but for those in `also`: inside of train.tar, `train/rose/1.jpg`.
    """
    tops = {name.partition("/")[0] for name in names}
    top = next(iter(tops), "")
    split = top.lower() in layout.NEAREST and top.lower() not in also
    if len(tops) != 1 or split or any(name.count("/") < 2 for name in names):
        return names, folders
    inside = [folder.removeprefix(f"{top}/") for folder in folders if folder.startswith(f"{top}/")]
    return [name.removeprefix(f"{top}/") for name in names], inside


def flat_labels(tar: pathlib.Path, names: list[str]) -> list[str]:
    """The class of each image of a tar without folders, from what lies beside it.

    Args:
        tar: the tar.
        names: its images, in the order of their names.

    Raises:
        UserError: nothing lies beside it, or it does not fit.
    """
    text, devkit = tar.with_suffix(".txt"), tar.with_name(DEVKIT)
    if text.is_file():
        source, classes = text, files.read_whole(text).decode("utf-8", "replace").split("\n")
        classes = [line.strip() for line in classes if line.strip()]
    elif devkit.is_file():
        source, classes = devkit, devkit_labels(devkit)
    else:
        raise UserError(
            f"{tar} has no folders for its classes: put {text.name} beside it, with the class of one image a line in "
            f"the order of the file names, or for ImageNet {DEVKIT}"
        )
    if len(classes) != len(names):
        raise UserError(f"{source} has labels for {len(classes):,} images, {tar} holds {len(names):,}: they must agree")
    bad = next((label for label in classes if "/" in label), None)
    if bad is not None:
        raise UserError(f"{source} names the class {bad!r}: give one class a line, without slashes")
    return classes


def devkit_labels(devkit: pathlib.Path) -> list[str]:
    """The WordNet ids of ImageNet's validation images, from the development kit of 2012.

    Its ground truth counts classes from 1 in an order of its own, which meta.mat translates.
    """
    try:
        with tarfile.open(devkit) as tar:
            contents = {}
            for member in tar:
                wanted = next((name for name in (GROUND_TRUTH, META) if member.name.endswith(name)), None)
                file = tar.extractfile(member) if wanted else None
                if file is not None:
                    contents[wanted] = file.read()
        truth = contents[GROUND_TRUTH].split()
        synsets = scipy.io.loadmat(io.BytesIO(contents[META]), squeeze_me=True)["synsets"]
        ids = {int(synset["ILSVRC2012_ID"]): str(synset["WNID"]) for synset in synsets}
        return [ids[int(number)] for number in truth]
    except Exception as error:
        # A damaged archive ends in exceptions of tarfile, gzip, zlib and scipy's reader.
        raise UserError(f"{devkit} is damaged ({first_line(error)}): fetch it again from image-net.org") from error
