"""What an image file says about itself, checked before a decoder sees it: sizes, lengths, checksums.

Sources: PNG Specification (Third Edition), section 5; WebP Container Specification (Google), "RIFF File Format" and
RFC 6386, section 9.1, for the sizes in its three kinds of chunks.
"""

import struct
import zlib

JPEG = b"\xff\xd8\xff"
PNG = b"\x89PNG\r\n\x1a\n"

# Twice the largest image of ImageNet; 400 MB when decoded. More is an accident or an attack.
MAX_PIXELS = 2**27


def check_size(width: int, height: int) -> None:
    """Raises ValueError for an image without pixels or with too many to decode."""
    if width < 1 or height < 1:
        raise ValueError(f"it has {width} x {height} pixels")
    if width * height > MAX_PIXELS:
        raise ValueError(f"it has {width:,} x {height:,} pixels, more than the {MAX_PIXELS:,} that are decoded")


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
