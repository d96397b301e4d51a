"""Decoding, resizing and padding of 8-bit images: rows x columns x channels, RGB or gray, values 0..255.

JPEGs are decoded by libjpeg-turbo (simplejpeg; a part of one by `turbojpeg`, if it can), whose every warning is an
error here: OpenCV and Pillow keep it to themselves and give a picture that is partly gray or shifted. JPEG has no
checksum, so damage after which the bits still make an image cannot be seen by anybody; a lost end can. PNG and WebP are
decoded by OpenCV after a check of what the file says about itself, rarer formats by Pillow. All of them let go of
Python's global lock while they work, so decoding threads run side by side; OpenCV's own threads are switched off, or
every one of ours would start a pool.
"""

import io
from typing import Any

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from dnn_research.data import formats, turbojpeg
from dnn_research.data.box import Window
from dnn_research.data.damage import DamagedExample

cv2.setNumThreads(0)
# A damaged file is reported once, by the exception.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

# Orientation tags are ignored, as the reference pipelines for ImageNet ignore them; only TIFFs come upright out of
# Pillow. 16 bits stay 16.
DECODE_FLAGS = {
    1: cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION | cv2.IMREAD_ANYDEPTH,
    3: cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION | cv2.IMREAD_ANYDEPTH,
}
# The next row of chroma below, which smooth upsampling looks at.
ROWS_BELOW = 2
PILLOW_MODES = {1: "L", 3: "RGB"}
PILLOW_FORMATS = ("BMP", "GIF", "PPM", "TIFF")


def decode(encoded: bytes, *, channels: int, window: Window | None = None) -> np.ndarray:
    """Decodes a JPEG, PNG, WebP, BMP, GIF (the first frame), PPM or TIFF, recognized by its content.

    Args:
        encoded: the whole file. CMYK and palette images are converted, 16 bits become 8 by rounding v / 257, an alpha
            channel is dropped.
        channels: 3 for RGB (a gray image is repeated), 1 for gray (a colour image becomes its luma, ITU-R BT.601).
        window: if given, called once before an image is returned. Rows below the part that is needed may be missing
            then, other pixels outside of it may be anything, and damage there is not found. A lost end of the file
            always is.

    Returns:
        uint8 [height, width, channels]; with `window`, of at least as many rows as the part reaches down.

    Raises:
        DamagedExample: the file is damaged, cut short, not an image or too large.
    """
    if window is not None:
        return _decode_window(encoded, channels, window)
    try:
        if encoded.startswith(formats.JPEG):
            image = _decode_jpeg(encoded, channels)
        elif encoded.startswith(formats.PNG):
            formats.check_png(encoded)
            image = _decode_opencv(encoded, channels)
        elif formats.is_webp(encoded):
            formats.check_webp(encoded)
            image = _decode_opencv(encoded, channels)
        else:
            image = _decode_pillow(encoded, channels, PILLOW_FORMATS)
    # What the decoders raise for bad bytes: simplejpeg and formats, Pillow, OpenCV.
    except (ValueError, OSError, SyntaxError, Image.DecompressionBombError, cv2.error) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DamagedExample(
            f"the image is damaged or of an unknown format ({len(encoded):,} bytes: {reason})"
        ) from error
    return image.reshape(*image.shape[:2], channels)


def _decode_window(encoded: bytes, channels: int, window: Window) -> np.ndarray:
    """Of a sequential JPEG what is needed, where TurboJPEG 3 is installed, or all down to there; anything else whole.

    simplejpeg is told a smaller height, and goes on from its last row to the end of the file at once. Its first
    warning, the only one that it tells, is then of the bytes in between, up to the end of the image (0xd9); whatever
    else it says, or if it says nothing, the image is decoded as it is.
    """
    jpeg = formats.baseline_jpeg(encoded)
    if jpeg is None or jpeg.height * jpeg.width > formats.MAX_PIXELS:
        image = decode(encoded, channels=channels)
        window(*image.shape[:2])
        return image
    box = window(jpeg.height, jpeg.width)
    image = turbojpeg.decode_box(encoded, jpeg, box, channels=channels)
    if image is not None:
        return image
    height = box.bottom + ROWS_BELOW
    if -(-height // jpeg.unit_height) < -(-jpeg.height // jpeg.unit_height):
        top = np.empty((height, jpeg.width, channels), np.uint8)
        shortened = bytearray(encoded)
        shortened[jpeg.height_at : jpeg.height_at + 2] = height.to_bytes(2, "big")
        try:
            simplejpeg.decode_jpeg(shortened, "GRAY" if channels == 1 else "RGB", buffer=top)
        except ValueError as error:
            if str(error).endswith("extraneous bytes before marker 0xd9"):
                return top[: height - ROWS_BELOW]
    return decode(encoded, channels=channels)


def _decode_jpeg(encoded: bytes, channels: int) -> np.ndarray:
    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(encoded)
    except ValueError as error:
        if "subsampling" not in str(error):
            raise
        # Sampling factors that no camera writes but the standard allows: Pillow knows them.
        return _decode_pillow(encoded, channels, ("JPEG",))
    formats.check_size(int(width), int(height))
    if colors in ("CMYK", "YCCK"):
        # Decoded for its warnings. Pillow takes the inks for inverted, as Adobe and so everybody writes them.
        simplejpeg.decode_jpeg(encoded, "CMYK")
        return _decode_pillow(encoded, channels, ("JPEG",))
    return simplejpeg.decode_jpeg(encoded, "GRAY" if channels == 1 else "RGB")


def _decode_opencv(encoded: bytes, channels: int) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), DECODE_FLAGS[channels])
    if image is None:
        raise ValueError("it does not decode")
    return _to_8_bits(np.asarray(image))


def _decode_pillow(encoded: bytes, channels: int, kinds: tuple[str, ...]) -> np.ndarray:
    try:
        file = Image.open(io.BytesIO(encoded), formats=kinds)
    except Image.UnidentifiedImageError:
        raise ValueError("its first bytes are of no known format") from None
    with file:
        formats.check_size(*file.size)
        if file.mode.startswith("I;16") or (file.format == "PPM" and file.mode == "I"):
            gray = _to_8_bits(np.asarray(file).astype(np.uint16))
            return gray if channels == 1 else np.repeat(gray[..., None], 3, axis=2)
        if file.mode in ("I", "F"):
            raise ValueError(f"its pixels are of Pillow's mode {file.mode}, which has no range")
        return np.asarray(file.convert("RGBA" if file.mode == "P" else file.mode).convert(PILLOW_MODES[channels]))


def _to_8_bits(image: np.ndarray) -> np.ndarray:
    """From 0..65535 to 0..255: 65535 is 257 x 255."""
    return image if image.dtype == np.uint8 else ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)


def resize(image: np.ndarray, height: int, width: int, *, out: np.ndarray | None = None) -> np.ndarray:
    """Resizes uint8 [h, w, C] to [height, width, C], which may be made in `out`, if that is given.

    Bilinear between the nearest four pixels: down to half the size every pixel still counts. Below that, where pixels
    would be skipped, it is the average over the area that a new pixel covers (several times slower in OpenCV).
    """
    if image.shape[:2] == (height, width):
        return image
    skips_pixels = 2 * height < image.shape[0] or 2 * width < image.shape[1]
    interpolation = cv2.INTER_AREA if skips_pixels else cv2.INTER_LINEAR
    return with_channels(cv2.resize(image, (width, height), dst=out, interpolation=interpolation))


def mirror(image: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """Exchanges left and right of uint8 [h, w, C]; the result may be made in `out`, if that is given."""
    return with_channels(cv2.flip(image, 1, dst=out))


def with_channels(image: Any) -> np.ndarray:
    """What OpenCV returns, as [h, w, C]: it leaves a single channel's axis out. No new array where there is one."""
    return image if image.ndim == 3 else image[..., None]


def pad_to(image: np.ndarray, height: int, width: int, fill: np.ndarray) -> np.ndarray:
    """Centres uint8 [h, w, C] on a canvas of at least [height, width, C] filled with the colour `fill` [C].

    An odd row or column goes to the bottom or to the right. A side that is long enough already stays as it is.
    """
    missing = np.maximum(np.array([height, width]) - image.shape[:2], 0)
    top, left = missing // 2
    bottom, right = missing - missing // 2
    return pad(image, (int(top), int(bottom)), (int(left), int(right)), fill)


def pad(image: np.ndarray, rows: tuple[int, int], columns: tuple[int, int], fill: np.ndarray) -> np.ndarray:
    """Puts rows (above, below) and columns (left, right) of the colour `fill` [C] around uint8 [h, w, C]."""
    if not any((*rows, *columns)):
        return image
    height, width, channels = image.shape
    padded = np.empty((height + sum(rows), width + sum(columns), channels), np.uint8)
    padded[:] = fill
    padded[rows[0] : rows[0] + height, columns[0] : columns[0] + width] = image
    return padded
