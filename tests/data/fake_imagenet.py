"""A small `imagenet2012` with TFDS's real features, made of the built-in photographs.

python tests/data/fake_imagenet.py DIR [--train 512] [--validation 128] [--format array_record|tfrecord]
"""

import argparse
import io
import pathlib
import struct
import sys
from collections.abc import Iterator

import google_crc32c
import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from PIL import Image

GRAY_EXAMPLE = 1
CMYK_EXAMPLE = 2

with tfds.core.registered.skip_registration():

    class Imagenet2012(tfds.core.GeneratorBasedBuilder):
        """JPEGs of varied sizes with the features, label names and version of the stock builder."""

        VERSION = tfds.core.Version("5.1.0")

        def __init__(self, *, num_train: int, num_validation: int, **kwargs):
            self._sizes = {"train": num_train, "validation": num_validation}
            super().__init__(**kwargs)

        def _info(self) -> tfds.core.DatasetInfo:
            labels = pathlib.Path(tfds.__file__).parent / "datasets" / "imagenet2012" / "labels.txt"
            return tfds.core.DatasetInfo(
                builder=self,
                description=self.__doc__,
                features=tfds.features.FeaturesDict(
                    {
                        "image": tfds.features.Image(encoding_format="jpeg"),
                        "label": tfds.features.ClassLabel(names_file=labels),
                        "file_name": tfds.features.Text(),
                    }
                ),
                supervised_keys=("image", "label"),
            )

        def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
            return {split: self._generate_examples(split) for split in self._sizes}

        def _generate_examples(self, split: str) -> Iterator:
            # Imported here because, run as a script, the package is found only once the path is set.
            from dnn_research.data.builtin import photo_patches

            photos = [Image.fromarray(photo_patches.read_photo(name)) for name in photo_patches.PHOTOS]
            rng = np.random.RandomState(split == "train")
            for number in range(self._sizes[split]):
                which = number % len(photos)
                width, height = photos[which].size
                side = rng.uniform(0.5, 1.0, size=2) * (width, height)
                left, top = rng.uniform(size=2) * ((width, height) - side)
                size = rng.randint(160, 560, size=2)
                image = photos[which].resize(
                    (int(size[0]), int(size[1])), box=(left, top, left + side[0], top + side[1])
                )
                if number == GRAY_EXAMPLE:
                    image = image.convert("L")
                elif number == CMYK_EXAMPLE:
                    image = image.convert("CMYK")
                encoded = io.BytesIO()
                image.save(encoded, "JPEG", quality=90)
                yield (
                    number,
                    {
                        "image": encoded.getvalue(),
                        "label": 61 * which,
                        "file_name": f"{split}_{number}.JPEG",
                    },
                )


def write(
    directory: str | pathlib.Path,
    *,
    num_train: int,
    num_validation: int,
    file_format: str = "array_record",
    num_shards: int = 1,
) -> None:
    """Writes `imagenet2012/5.1.0` into a directory for data sets, each split in so many files."""
    builder = Imagenet2012(
        num_train=num_train, num_validation=num_validation, data_dir=str(directory), file_format="array_record"
    )
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=num_shards))
    if file_format == "tfrecord":
        convert_to_tfrecord(pathlib.Path(builder.data_dir))


def convert_to_tfrecord(directory: pathlib.Path) -> None:
    """Turns a prepared data set into what TensorFlow Datasets writes as TFRecord, which takes TensorFlow there."""
    for path in sorted(directory.glob("*.array_record-*")):
        reader = array_record_module.ArrayRecordReader(str(path))
        with open(str(path).replace(".array_record-", ".tfrecord-"), "wb") as file:
            for payload in reader.read_all():
                file.write(frame(payload))
        reader.close()
        path.unlink()
    info = directory / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))


def frame(payload: bytes) -> bytes:
    """A record of a TFRecord file."""
    length = struct.pack("<Q", len(payload))
    return length + masked_crc(length) + payload + masked_crc(payload)


def masked_crc(content: bytes) -> bytes:
    crc = google_crc32c.value(content)
    return struct.pack("<I", ((crc >> 15 | (crc << 17 & 0xFFFFFFFF)) + 0xA282EAD8) % 2**32)


if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory")
    parser.add_argument("--train", type=int, default=512)
    parser.add_argument("--validation", type=int, default=128)
    parser.add_argument("--format", choices=("array_record", "tfrecord"), default="array_record")
    arguments = parser.parse_args()
    write(
        arguments.directory,
        num_train=arguments.train,
        num_validation=arguments.validation,
        file_format=arguments.format,
        num_shards=4,
    )
