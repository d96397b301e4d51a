"""The input pipeline of `input_ours` in tf.data, as its performance guide has it; run in the peer's Python.

    PEER_PYTHON -m dnn_research.tools.measuring.input_tf_data FOLDER

Only the crop is decoded (`decode_and_crop_jpeg`), the map is parallel, batches are made ahead, no order is kept, the
threads are as many as ours. The requests are those of `input_ours`, and {"do": "prepare", "variant": V} first:

    drawn       the parallelism is left to tf.data, and each image's crop and mirroring are drawn when it is read, as
                ours are and as ImageNet pipelines do (`sample_distorted_bounding_box`)
    autotune    the same, with crops and mirrorings listed beforehand in `windows.npz`: no time goes to drawing them
    fixed       as `autotune`, with as many parallel calls as threads
    fast_dct    as `autotune`, with TensorFlow's default inverse cosine transform, a faster, coarser one; the others
                have the accurate one, which is libjpeg's default and gives our pixels
"""

import importlib
import json
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dnn_research.tools.measuring import answering, memory
from dnn_research.tools.measuring.input_turns import Request, take_batches
from dnn_research.tools.measuring.jpegs import AREA, ASPECT, CROPPED, TRIES, names

VARIANTS = ("drawn", "autotune", "fixed", "fast_dct")


class Service:
    """The requests by name."""

    def __init__(self, folder: Path) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        # Not by an import statement: in our own Python there is no TensorFlow.
        self.tf: Any = importlib.import_module("tensorflow")
        self.folder = folder
        self.request = Request(**json.loads((folder / "request.json").read_text()))
        with np.load(folder / "windows.npz") as given:
            self.windows, self.mirrored = given["windows"], given["mirrored"]
        self.files = names(Path(self.request.files))
        self.dct_method = "INTEGER_ACCURATE"
        self.batches: Any = None

    def greeting(self) -> dict[str, Any]:
        """What is said unasked."""
        return {"versions": {"tensorflow": self.tf.__version__, "python": platform.python_version()}}

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """What a request is answered with."""
        match request["do"]:
            case "prepare":
                if request["variant"] == "fast_dct":
                    self.dct_method = "INTEGER_FAST"
                self.batches = iter(self.pipeline(request["variant"]))
                return {}
            case "run":
                return take_batches(self.batches, self.request.batch_size, request["at_least"])
            case "check":
                count = self.request.checked
                examples = zip(self.files[:count], self.windows[:count], self.mirrored[:count], strict=True)
                np.save(self.folder / request["file"], np.stack([self.listed(*example) for example in examples]))
                return {}
            case "peak":
                return {"bytes": memory.peak()}
        raise ValueError(f"unknown request {request['do']}")

    def listed(self, file: Any, window: Any, mirrored: Any) -> Any:
        """An example whose crop and mirroring are given."""
        return self.cropped(self.tf.io.read_file(file), window, mirrored)

    def drawn(self, file: Any, *_: Any) -> Any:
        """An example whose crop and mirroring are drawn here."""
        tf = self.tf
        encoded = tf.io.read_file(file)
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            tf.image.extract_jpeg_shape(encoded),
            tf.zeros((1, 0, 4)),
            min_object_covered=0.0,
            aspect_ratio_range=ASPECT,
            area_range=AREA,
            max_attempts=TRIES,
            use_image_if_no_bounding_boxes=True,
        )
        return self.cropped(encoded, tf.concat((begin[:2], size[:2]), 0), tf.random.uniform(()) < 0.5)

    def cropped(self, encoded: Any, window: Any, mirrored: Any) -> Any:
        """The crop (top, left, height, width) of an encoded image, resized and mirrored."""
        tf = self.tf
        image = tf.image.decode_and_crop_jpeg(encoded, window, channels=3, dct_method=self.dct_method)
        image = tf.image.resize(image, (CROPPED, CROPPED), method="bilinear")
        image = tf.cond(mirrored, lambda: tf.reverse(image, [1]), lambda: image)
        return tf.cast(image + 0.5, tf.uint8)

    def pipeline(self, variant: str) -> Any:
        """The pipeline, endless."""
        tf = self.tf
        parallel = self.request.threads if variant == "fixed" else tf.data.AUTOTUNE
        options = tf.data.Options()
        options.deterministic = False
        options.threading.private_threadpool_size = self.request.threads
        options.threading.max_intra_op_parallelism = 1
        return (
            tf.data.Dataset.from_tensor_slices((self.files, self.windows, self.mirrored))
            .shuffle(len(self.files))
            .repeat()
            .map(self.drawn if variant == "drawn" else self.listed, num_parallel_calls=parallel)
            .batch(self.request.batch_size, drop_remainder=True)
            .prefetch(tf.data.AUTOTUNE)
            .with_options(options)
        )


if __name__ == "__main__":
    answering.serve(lambda: Service(Path(sys.argv[1])))
