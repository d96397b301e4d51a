"""Files of weights: one function that reads them all, and safetensors written.

    torch        torch.save of a state_dict, as zip archive or as the stream of pickles before torch 1.6
    safetensors
    Keras        .keras, .weights.h5 of Keras 3, and .h5 of any Keras, whole models or weights only
    Caffe        HDF5 snapshots
    NumPy        .npz

The format is found by content, never by name, and a file is data from a stranger: nothing of it is run, and what is
damaged, cut short or asks for far more memory than it has bytes ends as an error with the file's name.
"""

import contextlib
import hashlib
import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from dnn_research.errors import UserError, first_line
from dnn_research.weights import apart, arrays, keras_file, torch_file

KNOWN = "torch (.pth, .pt), safetensors, Keras (.keras, .h5), Caffe's HDF5 snapshots and NumPy (.npz)"

# As the header of safetensors calls them; bfloat16 is read as its bits.
SAFETENSORS_DTYPES: dict[str, str] = {
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "U16": "<u2",
    "I16": "<i2",
    "U32": "<u4",
    "I32": "<i4",
    "U64": "<u8",
    "I64": "<i8",
    "F16": "<f2",
    "BF16": "<u2",
    "F32": "<f4",
    "F64": "<f8",
}


def read(path: Path) -> dict[str, np.ndarray]:
    """All weights of a file, name -> array, in the file's order and of the dtypes stored, bfloat16 as float32.

    Names are the file's own; of Keras `layer/variable` (`conv1_conv/kernel`), whatever its version, and of Caffe
    `layer/0` and `layer/1`.

    Raises:
        UserError: the file is not there, damaged, of no known format, or asks for more than weights.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    try:
        found = _read(path)
    except UserError:
        raise
    except Exception as error:  # what the libraries raise on damaged bytes is of every kind
        raise UserError(f"{path} is damaged or cut short: {first_line(error)}") from error
    if not found:
        raise UserError(f"{path} holds no weights")
    return found


def _read(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(b"PK"):
        return _read_zip(path)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return apart.read(path)
    if torch_file.is_legacy(head):
        return torch_file.read_legacy(path)
    if head[8:9] == b"{":
        return _read_safetensors(path)
    if head.startswith(b"\x80"):
        raise UserError(f"{path} is a plain pickle; save the weights with torch.save, safetensors or numpy.savez")
    raise UserError(f"{path} is of no known format; known: {KNOWN}")


def _read_zip(path: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if torch_file.is_zip(names):
            return torch_file.read_zip(path, archive)
        if keras_file.is_zip(names):
            return apart.read(path)
        if names and all(name.endswith(".npy") for name in names):
            return _read_npz(path, archive)
    raise UserError(f"{path} is a zip archive of no known format; known: {KNOWN}")


def _read_npz(path: Path, archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    headers = {"1.0": np.lib.format.read_array_header_1_0, "2.0": np.lib.format.read_array_header_2_0}
    num_bytes = 0
    for info in archive.infolist():
        with archive.open(info) as stream:
            version = ".".join(str(number) for number in np.lib.format.read_magic(stream))
            if version not in headers:
                raise UserError(f"{path} is refused: '{info.filename}' has the NumPy format {version}")
            shape, _, dtype = headers[version](stream)
        arrays.check_dtype(path, info.filename.removesuffix(".npy"), dtype)
        num_bytes += math.prod(shape) * dtype.itemsize
    arrays.check_total(path, num_bytes)
    with np.load(path, allow_pickle=False) as loaded:
        return {name: arrays.native(loaded[name]) for name in loaded.files}


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    with safetensors.safe_open(path, "np") as file:  # checks header and offsets
        order = file.offset_keys()
    stored = dict(safetensors.deserialize(path.read_bytes()))
    found: dict[str, np.ndarray] = {}
    for name in order:
        dtype, shape, data = (stored[name][key] for key in ("dtype", "shape", "data"))
        if dtype not in SAFETENSORS_DTYPES:
            raise UserError(f"{path} is refused: '{name}' holds {dtype}, which is no kind of weight")
        array = np.frombuffer(data, SAFETENSORS_DTYPES[dtype]).reshape(shape)
        found[name] = arrays.from_bfloat16(array) if dtype == "BF16" else arrays.native(array)
    return found


def write_safetensors(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Writes a file that is either whole or not there, and never over another.

    Args:
        metadata: what the file says about itself; any strings.
    """
    if path.exists():
        raise UserError(f"{path} exists already; give another name or remove it")
    # The library writes memory as it lies: a transposed array would come back with its numbers in another order.
    content = {name: np.array(array, array.dtype.newbyteorder("="), order="C") for name, array in tensors.items()}
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.touch()
        mode = partial.stat().st_mode
        safetensors.numpy.save_file(content, partial, metadata=dict(metadata))
        partial.chmod(mode)  # the library's own is for the owner alone
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.rename(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"cannot write {path}: {first_line(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
