"""A part of a JPEG, decoded alone by TurboJPEG 3 where that is installed: the same pixels for less work.

Its `tj3SetCroppingRegion` (libjpeg-turbo from 3.0 on, whose first betas call themselves 2.1.9x) still reads every bit
down to the part's lower edge, but transforms and colours nothing beside or above it. simplejpeg is made of the same
library and does not offer this; so it is looked for in this Python's own prefix (conda), where the system keeps
libraries, and last in the package `turbojpeg`, which brings a beta. What is older is passed over, and so is Windows.
`DNN_TURBOJPEG=0` does without.
"""

import ctypes
import functools
import importlib.util
import os
import sys
import threading

import numpy as np

from dnn_research.data.box import Box
from dnn_research.data.formats import BaselineJpeg

NAMES = ("libturbojpeg.so.0", "libturbojpeg.0.dylib")
END = b"\xff\xd9"

# turbojpeg.h
DECOMPRESS = 1
STOP_ON_WARNING = 0
PIXEL_FORMATS = {1: 6, 3: 0}

# What smooth upsampling of chroma looks at beyond a pixel: its neighbour in a plane of half the size.
MARGIN = 2


class Region(ctypes.Structure):
    """`tjregion`."""

    _fields_ = (("x", ctypes.c_int), ("y", ctypes.c_int), ("w", ctypes.c_int), ("h", ctypes.c_int))


class Library:
    """TurboJPEG's functions. `decompress` lets other threads of Python run meanwhile; the others take no time."""

    def __init__(self, path: str) -> None:
        """Raises OSError or AttributeError where there is no such library, or one that is too old."""
        quick = ctypes.PyDLL(path)
        self.init = quick.tj3Init
        self.init.argtypes, self.init.restype = [ctypes.c_int], ctypes.c_void_p
        self.destroy = quick.tj3Destroy
        self.destroy.argtypes, self.destroy.restype = [ctypes.c_void_p], None
        self.set = quick.tj3Set
        self.set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
        self.read_header = quick.tj3DecompressHeader
        self.read_header.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
        self.set_region = quick.tj3SetCroppingRegion
        self.set_region.argtypes = [ctypes.c_void_p, Region]
        self.decompress = ctypes.CDLL(path).tj3Decompress8
        self.decompress.argtypes = [*self.read_header.argtypes, ctypes.c_void_p, ctypes.c_int, ctypes.c_int]


class Decoder:
    """An instance of TurboJPEG, for one thread at a time."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._handle = library.init(DECOMPRESS)
        if not self._handle:
            raise MemoryError("TurboJPEG cannot start")
        library.set(self._handle, STOP_ON_WARNING, 1)

    def __del__(self) -> None:
        self._library.destroy(self._handle)  # which may be none

    def decode(self, encoded: bytes, jpeg: BaselineJpeg, box: Box, channels: int) -> np.ndarray | None:
        """See `decode_box`."""
        library, size = self._library, len(encoded)
        left = max(box.left - MARGIN, 0) // jpeg.unit_width * jpeg.unit_width
        top = max(box.top - MARGIN, 0)
        right, bottom = min(box.right + MARGIN, jpeg.width), min(box.bottom + MARGIN, jpeg.height)
        image = np.empty((bottom, jpeg.width, channels), np.uint8)
        pitch = channels * jpeg.width
        address = image.__array_interface__["data"][0] + top * pitch + left * channels
        failed = (
            library.read_header(self._handle, encoded, size)
            or library.set_region(self._handle, Region(left, top, right - left, bottom - top))
            or library.decompress(self._handle, encoded, size, address, pitch, PIXEL_FORMATS[channels])
        )
        return None if failed else image


_of_thread = threading.local()


@functools.cache
def library() -> Library | None:
    """TurboJPEG 3, if it is installed and wanted."""
    if os.environ.get("DNN_TURBOJPEG") == "0":
        return None
    paths = [f"{prefix}/lib/{name}" for prefix in (sys.prefix, sys.base_prefix) for name in NAMES] + [*NAMES]
    package = importlib.util.find_spec("turbojpeg")
    # What an extension is linked with is found through it. PyTurboJPEG has the same name and is none.
    if package and package.origin and not package.origin.endswith(".py"):
        paths.append(package.origin)
    for path in paths:
        try:
            return Library(path)
        except (OSError, AttributeError):
            continue
    return None


def decode_box(encoded: bytes, jpeg: BaselineJpeg, box: Box, *, channels: int) -> np.ndarray | None:
    """Decodes a part of a sequential JPEG.

    Args:
        encoded: the whole file.
        jpeg: its frame header.
        box: the part.
        channels: 3 for RGB, 1 for gray.

    Returns:
        uint8 [at least box.bottom, width, channels], whose pixels within `box` are those of the whole image and whose
        others are anything; None where there is no TurboJPEG 3, where it refuses the file or warns, or where the
        file's last bytes are not the end of an image: nothing is said then about what is in it.
    """
    found = library()
    if found is None or not encoded.endswith(END):
        return None
    decoder = getattr(_of_thread, "decoder", None)
    if decoder is None:
        decoder = _of_thread.decoder = Decoder(found)
    image = decoder.decode(encoded, jpeg, box, channels)
    if image is None:
        del _of_thread.decoder  # after a header that it refused it would go on refusing
    return image
