"""MS COCO (Lin et al. 2014), from the zip files of cocodataset.org: images, and boxes with the names of 80 things.

A split is made if its images and its annotations are there.
"""

import json
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from dnn_research.errors import UserError, first_line
from dnn_research.tools.preparing.preparation import Contents, Files, Preparation

# Split -> (images, annotations without .zip, the file of annotations in it), for each year.
LAYOUTS = {
    year: {
        "train": (f"train{year}", f"annotations_trainval{year}", f"annotations/instances_train{year}.json"),
        "validation": (f"val{year}", f"annotations_trainval{year}", f"annotations/instances_val{year}.json"),
        "test": (f"test{year}", f"image_info_test{year}", f"annotations/image_info_test{year}.json"),
    }
    for year in ("2014", "2017")
}
LAYOUTS["2014"]["test2015"] = ("test2015", "image_info_test2015", "annotations/image_info_test2015.json")


def reader(year: str) -> Callable[[Files], Contents]:
    """What opens the archives of a year that are there.

    Raises:
        UserError: there are no images with their annotations, or an archive is damaged or something else; also while
            the examples are read.
    """

    def read(files: Files) -> Contents:
        splits, names = {}, []
        for split, (folder, archive, member) in LAYOUTS[year].items():
            images, annotations = files.get(f"{folder}.zip"), files.get(f"{archive}.zip")
            if images is None or annotations is None:
                continue
            content = _annotations(annotations, member)
            names = [category["name"] for category in content["categories"]]
            splits[split] = _examples(images, folder, content)
        if not splits:
            raise UserError(
                f"no images with their annotations among {', '.join(files)}: "
                f"coco/{year} needs such as train{year}.zip and annotations_trainval{year}.zip"
            )
        return Contents(splits, {("objects", "label"): names})

    return read


def _annotations(path: Path, member: str) -> dict[str, Any]:
    def without_outlines(parsed: dict[str, Any]) -> dict[str, Any]:
        parsed.pop("segmentation", None)  # most of the file, and not used
        return parsed

    try:
        with zipfile.ZipFile(path) as archive:
            content = json.loads(archive.read(member), object_hook=without_outlines)
    except KeyError as error:
        raise UserError(f"{path} has no {member}: it is not what its name says") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({first_line(error)}): download it again") from error
    missing = [key for key in ("images", "categories") if not isinstance(content.get(key), list)]
    if missing:
        raise UserError(f"{path}: {member} has no list of {missing[0]}: it is not what its name says")
    return content


def _examples(path: Path, folder: str, content: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    names = {category["id"]: category["name"] for category in content["categories"]}
    things = defaultdict(list)
    for annotation in content.get("annotations", ()):
        things[annotation["image_id"]].append(annotation)
    try:
        with zipfile.ZipFile(path) as archive:
            for image in sorted(content["images"], key=lambda image: image["id"]):
                name = image["file_name"]
                try:
                    encoded = archive.read(f"{folder}/{name}")
                except KeyError as error:
                    raise UserError(f"{path} has no {folder}/{name}: download it again") from error
                objects = sorted(things[image["id"]], key=lambda thing: thing["id"])
                yield (
                    name,
                    {
                        "image": encoded,
                        "image/filename": name,
                        "image/id": image["id"],
                        "objects": [_object(thing, image, names) for thing in objects],
                    },
                )
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise UserError(f"{path} is damaged ({first_line(error)}): download it again") from error


def _object(thing: Mapping[str, Any], image: Mapping[str, Any], names: Mapping[int, str]) -> dict[str, Any]:
    """A box as fractions of the image's sides."""
    left, top, width, height = thing["bbox"]
    box = tfds.features.BBox(
        ymin=top / image["height"],
        xmin=left / image["width"],
        ymax=(top + height) / image["height"],
        xmax=(left + width) / image["width"],
    )
    return {
        "id": thing["id"],
        "area": thing["area"],
        "bbox": box,
        "label": names[thing["category_id"]],
        "is_crowd": bool(thing["iscrowd"]),
    }


def _preparation(year: str, published: Mapping[str, int]) -> Preparation:
    names = {f"{name}.zip" for folder, archive, _ in LAYOUTS[year].values() for name in (folder, archive)}
    return Preparation((), tuple(sorted(names)), reader(year), published)


COCO_2014 = _preparation("2014", {"train": 82_783, "validation": 40_504, "test": 40_775, "test2015": 81_434})
COCO_2017 = _preparation("2017", {"train": 118_287, "validation": 5_000, "test": 40_670})
