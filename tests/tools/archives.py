"""Small archives in the formats of the publishers."""

import gzip
import io
import json
import struct
import tarfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import scipy.io
from PIL import Image

CIFAR10_NAMES = [
    *("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
]  # fmt: skip
COARSE = [f"coarse {number}" for number in range(20)]
FINE = [f"fine {number}" for number in range(100)]


def images(count, seed=0, shape=(32, 32, 3)):
    return np.random.default_rng(seed).integers(0, 256, size=(count, *shape), dtype=np.uint8)


def planes(pixels):
    """As CIFAR has them: [n, 3072], red before green before blue."""
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).reshape(len(pixels), -1)


def tar(path, members, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def python2_pickle(value):
    """As Python 2's cPickle wrote it in protocol 2: byte strings are its str, and arrays name numpy.core.multiarray."""

    def write(value):
        match value:
            case dict():
                return b"}(" + b"".join(write(key) + write(item) for key, item in value.items()) + b"u"
            case list():
                return b"](" + b"".join(map(write, value)) + b"e"
            case bytes():
                return b"T" + struct.pack("<i", len(value)) + value
            case bool():
                return b"\x88" if value else b"\x89"
            case int():
                return b"J" + struct.pack("<i", value)
            case np.ndarray():
                made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + write(b"b") + b"\x87R"
                kind = b"cnumpy\ndtype\n" + write(value.dtype.str[1:].encode()) + b"K\x00K\x01\x87R"
                kind += b"(K\x03" + write(b"|") + b"NNN" + write(-1) + write(-1) + b"K\x00tb"
                shape = b"(" + b"".join(map(write, value.shape)) + b"t"
                return made + b"(K\x01" + shape + kind + b"\x89" + write(value.tobytes()) + b"tb"
        raise TypeError(type(value))

    return b"\x80\x02" + write(value) + b"."


def cifar10_binary(folder, pixels, labels, per_batch=2):
    records = np.concatenate([np.asarray(labels, np.uint8)[:, None], planes(pixels)], axis=1)
    files = [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"]
    members = {
        f"cifar-10-batches-bin/{file}": records[number * per_batch : (number + 1) * per_batch].tobytes()
        for number, file in enumerate(files)
    }
    members["cifar-10-batches-bin/batches.meta.txt"] = ("\n".join(CIFAR10_NAMES) + "\n\n").encode()
    members["cifar-10-batches-bin/readme.html"] = b"<html>"
    return tar(folder / "cifar-10-binary.tar.gz", members)


def cifar10_python(folder, pixels, labels, per_batch=2):
    files = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    members = {}
    for number, file in enumerate(files):
        part = slice(number * per_batch, (number + 1) * per_batch)
        members[f"cifar-10-batches-py/{file}"] = python2_pickle(
            {
                b"batch_label": b"training batch 1 of 5",
                b"labels": [int(label) for label in labels[part]],
                b"data": planes(pixels[part]),
                b"filenames": [b"leptodactylus_pentadactylus_s_000004.png"] * per_batch,
            }
        )
    members["cifar-10-batches-py/batches.meta"] = python2_pickle(
        {b"num_cases_per_batch": 10000, b"label_names": [name.encode() for name in CIFAR10_NAMES], b"num_vis": 3072}
    )
    return tar(folder / "cifar-10-python.tar.gz", members)


def cifar100_binary(folder, pixels, coarse, fine):
    records = np.concatenate([np.stack([coarse, fine], axis=1).astype(np.uint8), planes(pixels)], axis=1)
    half = len(pixels) // 2
    members = {
        "cifar-100-binary/train.bin": records[:half].tobytes(),
        "cifar-100-binary/test.bin": records[half:].tobytes(),
        "cifar-100-binary/coarse_label_names.txt": ("\n".join(COARSE) + "\n").encode(),
        "cifar-100-binary/fine_label_names.txt": ("\n".join(FINE) + "\n").encode(),
    }
    return tar(folder / "cifar-100-binary.tar.gz", members)


def cifar100_python(folder, pixels, coarse, fine):
    half = len(pixels) // 2
    members = {
        f"cifar-100-python/{name}": python2_pickle(
            {
                b"filenames": [b"bos_taurus_s_000507.png"] * half,
                b"batch_label": b"training batch 1 of 1",
                b"fine_labels": [int(label) for label in fine[part]],
                b"coarse_labels": [int(label) for label in coarse[part]],
                b"data": planes(pixels[part]),
            }
        )
        for name, part in (("train", slice(half)), ("test", slice(half, None)))
    }
    names = {b"fine_label_names": FINE, b"coarse_label_names": COARSE}
    members["cifar-100-python/meta"] = python2_pickle(
        {key: [name.encode() for name in value] for key, value in names.items()}
    )
    return tar(folder / "cifar-100-python.tar.gz", members)


def mnist(folder, pixels, labels, train):
    for prefix, part in (("train", slice(train)), ("t10k", slice(train, None))):
        count = len(labels[part])
        header = struct.pack(">IIII", 2051, count, *pixels.shape[1:3])
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + pixels[part].tobytes()))
        content = struct.pack(">II", 2049, count) + np.asarray(labels[part], np.uint8).tobytes()
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(content))
    return folder


def svhn(folder, pixels, digits, train):
    """Digits 0..9; a zero is stored as 10."""
    stored = np.where(np.asarray(digits) == 0, 10, digits).astype(np.uint8)[:, None]
    for name, part in (("train", slice(train)), ("test", slice(train, None))):
        arrays = {"X": pixels[part].transpose(1, 2, 3, 0), "y": stored[part]}
        scipy.io.savemat(folder / f"{name}_32x32.mat", arrays, do_compression=True)
    return folder


def smooth(seed):
    """An image that a JPEG keeps: uint8 [48, 64, 3]."""
    return cv2.resize(images(1, seed, (3, 4, 3))[0], (64, 48), interpolation=cv2.INTER_LINEAR)


def jpeg(seed, mode="RGB"):
    encoded = io.BytesIO()
    Image.fromarray(smooth(seed)).convert(mode).save(encoded, "JPEG", quality=95)
    return encoded.getvalue()


def imagenet(folder, train, validation):
    """`train`: synset -> file name -> content; `validation`: file name -> content."""
    inner = {}
    for synset, files in train.items():
        tar(folder / "inner.tar", files, "w:")
        inner[f"{synset}.tar"] = (folder / "inner.tar").read_bytes()
    (folder / "inner.tar").unlink(missing_ok=True)
    if train:
        tar(folder / "ILSVRC2012_img_train.tar", inner, "w:")
    if validation:
        tar(folder / "ILSVRC2012_img_val.tar", validation, "w:")
    return folder


def coco(folder, pictures, year="2017"):
    """`pictures`: image id -> (content, annotations) of both train and val."""
    categories = [{"id": number + 1, "name": f"thing {number}", "supercategory": "all"} for number in range(80)]
    members = {}
    for split in ("train", "val"):
        with zipfile.ZipFile(folder / f"{split}{year}.zip", "w") as archive:
            for number, (content, _) in pictures.items():
                archive.writestr(f"{split}{year}/{number:012d}.jpg", content)
        members[f"annotations/instances_{split}{year}.json"] = json.dumps(
            {
                "images": [
                    {"id": number, "file_name": f"{number:012d}.jpg", "width": 64, "height": 48} for number in pictures
                ],
                "categories": categories,
                "annotations": [
                    {"image_id": number, "segmentation": [[1.0, 2.0, 3.0, 4.0]], **thing}
                    for number, (_, things) in pictures.items()
                    for thing in things
                ],
            }
        )
    with zipfile.ZipFile(folder / f"annotations_trainval{year}.zip", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return folder


def damage(path: Path, at=0.5, length=64):
    """Overwrites bytes in the middle of a file."""
    content = bytearray(path.read_bytes())
    place = int(len(content) * at)
    content[place : place + length] = bytes(255 - byte for byte in content[place : place + length])
    path.write_bytes(bytes(content))


def cut(path: Path, share=0.6):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
