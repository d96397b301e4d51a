"""What an image file says about itself, checked before a decoder sees it: sizes, lengths, checksums.

Sources: PNG Specification (Third Edition), section 5; WebP Container Specification (Google), "RIFF File Format" and
RFC 6386, section 9.1, for the sizes in its three kinds of chunks.
"""

import struct
import zlib
from typing import NamedTuple

JPEG = b"\xff\xd8\xff"
PNG = b"\x89PNG\r\n\x1a\n"

# Markers of a JPEG: of sequential, Huffman-coded frames; and of what may come before one, tables, comments and
# application data, but neither another frame nor a scan.
SEQUENTIAL_FRAMES = (0xC0, 0xC1)
BEFORE_A_FRAME = frozenset((0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)))

# Twice the largest image of ImageNet; 400 MB when decoded. More is an accident or an attack.
MAX_PIXELS = 2**27


def check_size(width: int, height: int) -> None:
    """Raises ValueError for an image without pixels or with too many to decode."""
    if width < 1 or height < 1:
        raise ValueError(f"it has {width} x {height} pixels")
    if width * height > MAX_PIXELS:
        raise ValueError(f"it has {width:,} x {height:,} pixels, more than the {MAX_PIXELS:,} that are decoded")


class BaselineJpeg(NamedTuple):
    """What the frame header of a sequential JPEG says (ITU-T T.81, B.2.2).

    Attributes:
        height, width: in pixels.
        unit_height, unit_width: of the pixels that are coded together.
        height_at: where in the file the height stands, two bytes, the most significant first.
    """

    height: int
    width: int
    unit_height: int
    unit_width: int
    height_at: int


def baseline_jpeg(encoded: bytes) -> BaselineJpeg | None:
    """The frame header of a sequential, Huffman-coded JPEG of one or three components of 8 bits; None for others."""
    if not encoded.startswith(JPEG):
        return None
    position = 2
    while position + 20 < len(encoded) and encoded[position] == 0xFF:
        marker, length = encoded[position + 1], int.from_bytes(encoded[position + 2 : position + 4], "big")
        if marker in SEQUENTIAL_FRAMES:
            height, width, components = struct.unpack_from(">HHB", encoded, position + 5)
            factors = encoded[position + 11 : position + 11 + 3 * components : 3]
            down, across = [factor & 15 for factor in factors], [factor >> 4 for factor in factors]
            if encoded[position + 4] != 8 or components not in (1, 3) or length != 8 + 3 * components:
                return None
            if 0 in (height, width, *down, *across):
                return None
            # A single component is coded in blocks of 8 x 8, whatever its sampling factors.
            if components == 1:
                return BaselineJpeg(height, width, 8, 8, position + 5)
            return BaselineJpeg(height, width, 8 * max(down), 8 * max(across), position + 5)
        if marker not in BEFORE_A_FRAME:
            return None
        position += 2 + length
    return None


def check_png(encoded: bytes) -> None:
    """Raises ValueError unless all chunks of a PNG are there, with the checksums that they carry."""
    position, kind = len(PNG), b""
    view = memoryview(encoded)
    while kind != b"IEND":
        if position + 12 > len(encoded):
            raise ValueError("it is cut short")
        length, kind = struct.unpack_from(">I4s", encoded, position)
        end = position + 8 + length
        if end + 4 > len(encoded):
            raise ValueError("it is cut short")
        if zlib.crc32(view[position + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            raise ValueError(f"a checksum at byte {end:,} is wrong")
        if position == len(PNG):
            if kind != b"IHDR" or length != 13:
                raise ValueError("its header is missing")
            check_size(*struct.unpack_from(">II", encoded, position + 8))
        position = end + 4


def is_webp(encoded: bytes) -> bool:
    """Whether the file starts as WebP files do."""
    return encoded[:4] == b"RIFF" and encoded[8:12] == b"WEBP"


def check_webp(encoded: bytes) -> None:
    """Raises ValueError unless a WebP file is as long as it says, and no larger than can be decoded."""
    if len(encoded) < 30 or 8 + int.from_bytes(encoded[4:8], "little") > len(encoded):
        raise ValueError("it is cut short")
    match encoded[12:16]:
        case b"VP8 ":
            width, height = (size & 0x3FFF for size in struct.unpack_from("<HH", encoded, 26))
        case b"VP8L":
            bits = int.from_bytes(encoded[21:25], "little")
            width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            width, height = (int.from_bytes(encoded[i : i + 3], "little") + 1 for i in (24, 27))
        case kind:
            raise ValueError(f"its first chunk is of the unknown kind {kind!r}")
    check_size(width, height)
