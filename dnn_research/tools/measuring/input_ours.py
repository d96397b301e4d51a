"""Our input pipeline over JPEG files, in a process of its own: decode, crop, resize bilinearly, mirror, batch.

    python -m dnn_research.tools.measuring.input_ours FOLDER

FOLDER holds `request.json` (the fields of `Request`). Beside the greeting (see `answering`):

    {"do": "run", "at_least": S}   -> {"images": N, "seconds": S}: batches for so long, after some that do not count
    {"do": "check", "file": F}     -> {}: the first images, cropped and mirrored as `windows.npz` says, into a file
    {"do": "peak"}                 -> {"bytes": B}
"""

import itertools
import json
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dnn_research import process
from dnn_research.data import images, stream
from dnn_research.data.augment import geometry
from dnn_research.data.batches import Batches
from dnn_research.data.box import Box
from dnn_research.data.damage import Reader
from dnn_research.data.folder_source import ImageFiles
from dnn_research.data.layout import LabelledFiles
from dnn_research.tools.measuring import answering, memory
from dnn_research.tools.measuring.input_turns import Request, take_batches
from dnn_research.tools.measuring.jpegs import AREA, ASPECT, CROPPED, names


class Loader:
    """From a position in the stream to an image of it: shuffled, decoded, cropped and mirrored at random."""

    def __init__(self, files: list[str]) -> None:
        examples = LabelledFiles(ImageFiles(Path(), files, channels=3), np.zeros(len(files), np.int32))
        self.reader = Reader(examples, description="the files", skip=False)
        self.order, self.numbers = stream.Shuffle(len(files), seed=0), stream.RandomNumbers(0)

    def __call__(self, position: int, out: np.ndarray | None = None) -> dict[str, Any]:
        index, rng = self.order[position], self.numbers[position]
        box = Box(0, 0, 0, 0)

        def window(height: int, width: int) -> Box:
            nonlocal box
            box = geometry.area_box(height, width, rng, area=AREA, aspect=ASPECT)
            return box

        image, *_ = self.reader.read_or_substitute(index, rng, window)
        return {"image": cropped(image, box, mirrored=rng.random() < 0.5, out=out), "index": np.int32(index)}


def read(file: str, box: Box) -> np.ndarray:
    """A file, decoded where it is needed: uint8 [h, w, 3]."""
    with open(file, "rb") as opened:
        return images.decode(opened.read(), channels=3, window=lambda *_: box)


def cropped(image: np.ndarray, box: Box, *, mirrored: bool, out: np.ndarray | None = None) -> np.ndarray:
    """A part of uint8 [h, w, 3], resized to uint8 [CROPPED, CROPPED, 3], which may be made in `out`."""
    # Without the average that `images.resize` takes of more than 2 x 2 pixels, which tf.data does not.
    size, place = (CROPPED, CROPPED), None if mirrored else out
    resized = np.asarray(cv2.resize(box.of(image), size, dst=place, interpolation=cv2.INTER_LINEAR))
    return images.mirror(resized, out=out) if mirrored else resized


class Service:
    """The requests by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.request = Request(**json.loads((folder / "request.json").read_text()))
        self.files = names(Path(self.request.files))
        size = self.request.batch_size
        positions = (range(size * step, size * (step + 1)) for step in itertools.count())
        self.batches = Batches(Loader(self.files), positions, num_workers=self.request.threads)

    def greeting(self) -> dict[str, Any]:
        """What is said unasked."""
        return {"versions": {"opencv": cv2.__version__, "python": platform.python_version()}}

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """What a request is answered with."""
        match request["do"]:
            case "run":
                return take_batches(self.batches, self.request.batch_size, request["at_least"])
            case "check":
                np.save(self.folder / request["file"], self.checked())
                return {}
            case "peak":
                return {"bytes": memory.peak()}
        raise ValueError(f"unknown request {request['do']}")

    def checked(self) -> np.ndarray:
        """The images whose windows are given: uint8 [N, CROPPED, CROPPED, 3]."""
        with np.load(self.folder / "windows.npz") as given:
            windows, mirrored = given["windows"][: self.request.checked], given["mirrored"]
        found = zip(self.files, (Box(*window) for window in windows.tolist()), mirrored.tolist(), strict=False)
        return np.stack([cropped(read(file, box), box, mirrored=flip) for file, box, flip in found])


if __name__ == "__main__":
    process.prepare()  # as the command that trains
    answering.serve(lambda: Service(Path(sys.argv[1])))
