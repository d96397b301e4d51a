"""Reading a stretch of a large file, and an index of large files that is made once and kept in the user's cache.

The cache is `$XDG_CACHE_HOME/dnn_research/index`, or else `~/.cache/dnn_research/index`: never the data directory. It
is readable by its owner alone, and only an aid: an index that is missing, damaged or made for files that have changed
since is made anew, and where no cache can be written it is made every time.
"""

import hashlib
import logging
import os
import pathlib
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Sequence

import numpy as np

from dnn_research.data.damage import DamagedExample
from dnn_research.errors import UserError

Index = dict[str, np.ndarray]

# What is read at a time where a file does not say how long it is.
CHUNK_BYTES = 2**20
# Of the layout of an index file.
VERSION = 1
STAMPS = "stamps"


def read_at(path: str | os.PathLike[str], offset: int, length: int) -> bytes:
    """Reads `length` bytes from `offset`; from any number of threads.

    The file is opened for each read: that costs microseconds, and neither the number of files nor a fork, a pickle or a
    file that was replaced meanwhile needs a thought.

    Raises:
        DamagedExample: the file ends before.
        UserError: the file cannot be read.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            content = os.pread(number, length, offset)
            while len(content) < length and (more := os.pread(number, length - len(content), offset + len(content))):
                content += more
        finally:
            os.close(number)
    except OSError as error:
        raise cannot_read(path, error) from error
    if len(content) < length:
        raise DamagedExample(f"{os.fspath(path)} ends within it: the file is cut short")
    return content


def cannot_read(path: str | os.PathLike[str], error: OSError) -> UserError:
    """The error for a file that the machine cannot read."""
    return UserError(f"cannot read {os.fspath(path)} ({error.strerror or error}): check that it is there and readable")


def read_whole(path: str | os.PathLike[str]) -> bytes:
    """The content of a file; raises UserError when it cannot be read."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(number).st_size
            # A byte more than it should have, so that this one call meets the end.
            content = os.read(number, size + 1)
            if len(content) != size or not size:  # a pipe has no size, and a file may be written to meanwhile
                content = b"".join([content, *iter(lambda: os.read(number, CHUNK_BYTES), b"")])
        finally:
            os.close(number)
    except OSError as error:
        raise cannot_read(path, error) from error
    return content


def cached_index(kind: str, paths: Sequence[pathlib.Path], make: Callable[[], Index]) -> Index:
    """The index of some files, from the cache if it was made for these very files.

    Args:
        kind: what the index holds; indices of different kinds of the same files are kept apart.
        paths: the files; each counts with its absolute path, its size and the time of its last change.
        make: makes the index.

    Returns:
        What `make` gave, now or at an earlier time.

    Raises:
        UserError: a file cannot be read; and what `make` raises.
    """
    try:
        stats = [path.stat() for path in paths]
    except OSError as error:
        raise cannot_read(error.filename, error) from error
    stamps = np.array([(stat.st_size, stat.st_mtime_ns) for stat in stats], np.int64).reshape(-1, 2)
    names = "\0".join([f"{VERSION}", kind, *(os.path.abspath(path) for path in paths)])
    directory = _private_directory()
    cached = (
        directory / f"{hashlib.sha256(names.encode('utf-8', 'surrogateescape')).hexdigest()}.npz" if directory else None
    )
    if cached is not None and (index := _load(cached, stamps)) is not None:
        return index
    index = make()
    if cached is not None:
        _save(cached, {**index, STAMPS: stamps})
    return index


def _private_directory() -> pathlib.Path | None:
    """The cache, made if need be; None where there can be none that others cannot write to."""
    base = os.environ.get("XDG_CACHE_HOME")
    # The specification has relative paths ignored.
    home = pathlib.Path(base) if base and os.path.isabs(base) else pathlib.Path("~/.cache").expanduser()
    directory = home / "dnn_research" / "index"
    try:
        directory.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        directory.mkdir(exist_ok=True, mode=0o700)
        stat = directory.stat()
        if stat.st_uid != os.geteuid():
            return None
        if stat.st_mode & 0o077:
            directory.chmod(0o700)
    except OSError:
        return None
    return directory


def _load(path: pathlib.Path, stamps: np.ndarray) -> Index | None:
    """The index in a file of the cache, or None if there is none, it is damaged, or its files have changed."""
    try:
        # Every array has a checksum in the archive. np.load leaves a file open that it cannot read.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            index = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error, struct.error):
        return None
    made_for = index.pop(STAMPS, None)
    return index if made_for is not None and np.array_equal(made_for, stamps) else None


def _save(path: pathlib.Path, index: Index) -> None:
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
            try:
                np.savez(file, allow_pickle=False, **index)
                file.close()
                os.replace(file.name, path)
            except OSError:
                os.unlink(file.name)
                raise
    except OSError as error:
        logging.getLogger(__name__).info("The index is not kept: %s", error)


def join_names(names: Sequence[str]) -> np.ndarray:
    """Names as an array of bytes, compact and without pickle, for an index."""
    return np.frombuffer("\0".join(names).encode("utf-8", "surrogateescape"), np.uint8)


def split_names(joined: np.ndarray) -> list[str]:
    """What `join_names` was given."""
    return joined.tobytes().decode("utf-8", "surrogateescape").split("\0") if joined.size else []
