"""The input pipeline of `input_ours` in tf.data, as its performance guide has it; run in the peer's Python.

    PEER_PYTHON -m dnn_research.tools.measuring.input_tf_data FOLDER

Only the crop is decoded (`decode_and_crop_jpeg`), the map is parallel, batches are made ahead, no order is kept, the
threads are as many as ours. Files, crops and mirrorings are listed beforehand in `windows.npz`, so that no time goes to
drawing them. The requests are those of `input_ours`, and {"do": "prepare", "variant": V} first: `autotune` leaves the
parallelism to tf.data, `fixed` gives it the number of threads. Both have the accurate inverse cosine transform, which
is libjpeg's default and gives our pixels; `fast_dct` is `autotune` with TensorFlow's default, a faster, coarser one.
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
from dnn_research.tools.measuring.jpegs import CROPPED, names

VARIANTS = ("autotune", "fixed", "fast_dct")


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
                np.save(self.folder / request["file"], np.stack([self.load(*example) for example in examples]))
                return {}
            case "peak":
                return {"bytes": memory.peak()}
        raise ValueError(f"unknown request {request['do']}")

    def load(self, file: Any, window: Any, mirrored: Any) -> Any:
        """One example."""
        tf = self.tf
        encoded = tf.io.read_file(file)
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
            .map(self.load, num_parallel_calls=parallel)
            .batch(self.request.batch_size, drop_remainder=True)
            .prefetch(tf.data.AUTOTUNE)
            .with_options(options)
        )


if __name__ == "__main__":
    answering.serve(lambda: Service(Path(sys.argv[1])))
