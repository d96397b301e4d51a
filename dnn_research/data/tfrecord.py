"""TFRecord files, read at random positions without TensorFlow.

A record is (TensorFlow, tensorflow/core/lib/io/record_writer.h):

    uint64 length, uint32 masked crc32c of the length, the payload, uint32 masked crc32c of the payload

all little-endian, one after the other and nothing else. Random access needs an index of where each record begins, which
takes one pass over the lengths; they are verified then, and a payload whenever it is read.
"""

import concurrent.futures
import os
import pathlib
import struct
from collections.abc import Sequence

import google_crc32c
import numpy as np

from dnn_research.data import files
from dnn_research.data.damage import DamagedExample
from dnn_research.errors import UserError

HEADER_BYTES = 12
FOOTER_BYTES = 4

# Indexing waits for storage, not for the processor.
INDEXING_THREADS = 16


def masked_crc32c(content: bytes) -> int:
    """TFRecord's checksum: crc32c rotated right by 15 bits plus a constant (tensorflow/core/lib/hash/crc32c.h)."""
    crc = google_crc32c.value(content)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def index_file(path: pathlib.Path) -> np.ndarray:
    """Where the records of a file begin: int64 [records + 1], the last is the end of the file.

    Raises:
        UserError: the file cannot be read, is cut short, or a length is not the one that was written.
    """
    offsets = [0]
    try:
        with open(path, "rb") as file:
            number, size = file.fileno(), os.fstat(file.fileno()).st_size
            while (offset := offsets[-1]) < size:
                header = os.pread(number, HEADER_BYTES, offset)
                if len(header) < HEADER_BYTES:
                    raise UserError(_unreadable(path, len(offsets) - 1, "is cut short"))
                length, crc = struct.unpack("<QI", header)
                if masked_crc32c(header[:8]) != crc:
                    raise UserError(_unreadable(path, len(offsets) - 1, "has a length that fails its checksum"))
                end = offset + HEADER_BYTES + length + FOOTER_BYTES
                if end > size:
                    raise UserError(_unreadable(path, len(offsets) - 1, "is cut short"))
                offsets.append(end)
    except OSError as error:
        raise files.cannot_read(path, error) from error
    return np.array(offsets, np.int64)


def _unreadable(path: pathlib.Path, record: int, how: str) -> str:
    return f"{path}: record {record} {how}, and what follows cannot be found: copy the file again"


def index_files(paths: Sequence[pathlib.Path], num_records: Sequence[int]) -> list[np.ndarray]:
    """Where the records of some files begin, as `index_file` gives it; kept in the user's cache.

    Args:
        paths: the files.
        num_records: how many records each of them has to hold.

    Raises:
        UserError: what `index_file` raises, or a file has another number of records.
    """

    def make() -> files.Index:
        with concurrent.futures.ThreadPoolExecutor(INDEXING_THREADS) as pool:
            offsets = list(pool.map(index_file, paths))
        return {"offsets": np.concatenate(offsets), "lengths": np.array([len(part) for part in offsets])}

    index = files.cached_index("tfrecord", paths, make)
    offsets = np.split(index["offsets"], np.cumsum(index["lengths"])[:-1])
    for path, part, expected in zip(paths, offsets, num_records, strict=True):
        if len(part) - 1 != expected:
            raise UserError(
                f"{path} holds {len(part) - 1:,} records, its data set says {expected:,}: copy or prepare it again"
            )
    return offsets


def read_record(path: pathlib.Path, start: int, end: int) -> bytes:
    """The payload of the record between two offsets of the file's index.

    Raises:
        DamagedExample: a checksum is wrong, or the file ends before.
        UserError: the file cannot be read.
    """
    record = files.read_at(path, start, end - start)
    length, length_crc = struct.unpack_from("<QI", record)
    if masked_crc32c(record[:8]) != length_crc or length != len(record) - HEADER_BYTES - FOOTER_BYTES:
        raise DamagedExample("its length fails its checksum: copy the file again")
    payload = record[HEADER_BYTES:-FOOTER_BYTES]
    if masked_crc32c(payload).to_bytes(4, "little") != record[-FOOTER_BYTES:]:
        raise DamagedExample("its content fails its checksum: copy the file again")
    return payload
