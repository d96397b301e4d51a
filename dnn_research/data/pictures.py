"""Pictures as people have them: any format, orientation, colour or depth, with transparency, animated.

Training data goes through `images.py`, which is faster and follows the reference pipelines.
"""

import dataclasses
import hashlib
import io
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from dnn_research.data import images
from dnn_research.data.builtin import photo_patches
from dnn_research.errors import UserError, first_line

# Beyond this a file is taken for a mistake or an attack: decoded, its pixels alone would fill 3 GB.
MOST_PIXELS = 2**30
BUILTIN = "builtin:"
# Formats that keep transparency; into others a picture goes on white.
TRANSPARENT = (".png", ".webp", ".tif", ".tiff", ".gif")


@dataclasses.dataclass(frozen=True)
class Picture:
    """A still picture, or the frames of an animation.

    Attributes:
        frames: uint8 [h, w, 3] each, RGB, upright.
        alphas: uint8 [h, w], the opacity of each frame; None where all is opaque.
        durations: of each frame in milliseconds; empty for a still picture.
        plays: how often an animation runs, 0 for ever.
    """

    frames: tuple[np.ndarray, ...]
    alphas: tuple[np.ndarray | None, ...]
    durations: tuple[int, ...] = ()
    plays: int = 0


def read(path: Path) -> Picture:
    """Reads a picture: turned upright by its EXIF tag, gray and CMYK as RGB, 16 bits as 8.

    Raises:
        UserError: it is not there, not a picture, damaged, or too large.
    """
    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error
    return decode(encoded, str(path))


def decode(encoded: bytes, name: str) -> Picture:
    """Decodes a picture's file; `name` is what a complaint calls it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            file = Image.open(io.BytesIO(encoded))
        if file.width * file.height * getattr(file, "n_frames", 1) > MOST_PIXELS:
            raise UserError(f"{name} has {file.width}x{file.height} pixels: too many; scale it down first")
        return _frames(file)
    except UserError:
        raise
    except Image.DecompressionBombError as error:
        raise UserError(f"{name} has too many pixels ({first_line(error)}); scale it down first") from error
    except UnidentifiedImageError as error:
        # 16 bits in each of three channels: OpenCV reads what Pillow does not.
        try:
            return Picture((images.decode(encoded, channels=3),), (None,))
        except UserError:
            raise UserError(f"{name} is not a picture ({len(encoded):,} bytes)") from error
    except Exception as error:
        # Pillow's readers of damaged files raise whatever they come upon: SyntaxError, TypeError, struct.error.
        raise UserError(f"{name} is damaged: {first_line(error)}") from error


def _frames(file: Image.Image) -> Picture:
    frames, alphas, durations = [], [], []
    # Cameras put a preview or a second view behind the picture.
    animated = getattr(file, "n_frames", 1) > 1 and file.format != "MPO"
    for number in range(getattr(file, "n_frames", 1) if animated else 1):
        file.seek(number)
        frame, alpha = _rgb(ImageOps.exif_transpose(file))
        frames.append(frame)
        alphas.append(alpha)
        durations.append(int(file.info.get("duration", 100)))
    # A GIF counts how often it is repeated, and without a count it is not; others count how often they run.
    plays = int(file.info.get("loop", 0))
    if file.format == "GIF" and (plays or "loop" not in file.info):
        plays += 1
    return Picture(tuple(frames), tuple(alphas), tuple(durations) if animated else (), plays)


def _rgb(image: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """Colours, and opacity where there is any transparency."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image).astype(np.float64)
        # 16-bit gray; of wider types the range in use tells what is white, and of fractions 1 is.
        white = 65535.0 if image.mode.startswith("I;16") or values.max() > 255 else 255.0
        white = 1.0 if image.mode == "F" and values.max() <= 1 else white
        gray = np.clip(np.rint(255 * values / white), 0, 255).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=-1), None
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = np.asarray(image.convert("RGBA"))
        alpha = rgba[..., 3]
        return np.ascontiguousarray(rgba[..., :3]), None if (alpha == 255).all() else alpha
    return np.asarray(image.convert("RGB")), None


def write(path: Path, picture: Picture, *, overwrite: bool) -> None:
    """Writes a picture in the format that the path's suffix names; transparency goes on white where it must.

    Raises:
        UserError: the file is there already, or the format or the place does not take it.
    """
    check_writable(path, overwrite=overwrite, frames=len(picture.frames))
    keeps = path.suffix.lower() in TRANSPARENT
    made = [_image(frame, alpha, keeps) for frame, alpha in zip(picture.frames, picture.alphas, strict=True)]
    animation: dict[str, Any] = {}
    if len(made) > 1:
        animation = {"save_all": True, "append_images": made[1:], "duration": list(picture.durations)}
        if _format(path) != "GIF":
            animation["loop"] = picture.plays
        elif picture.plays != 1:
            animation["loop"] = max(0, picture.plays - 1)
    quality = {"quality": 95} if path.suffix.lower() in (".jpg", ".jpeg", ".webp") else {}
    # Written aside and moved into place: whoever looks sees a whole file.
    aside = path.with_name(f".{path.name}.tmp")
    try:
        made[0].save(aside, format=_format(path), **animation, **quality)
        aside.replace(path)
    except (OSError, ValueError) as error:
        aside.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {first_line(error)}") from error


def check_writable(path: Path, *, overwrite: bool, frames: int = 1) -> None:
    """Raises UserError unless a picture of so many frames may be written there."""
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists; give another --output, or --overwrite")
    if frames > 1 and _format(path) not in Image.SAVE_ALL:
        raise UserError(f"cannot write {path}: '{path.suffix}' holds one frame, not {frames}; take .gif, .webp or .png")
    _format(path)
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {path.parent} to write {path.name} into")


def _format(path: Path) -> str:
    Image.init()
    name = Image.EXTENSION.get(path.suffix.lower())
    if name is None or name not in Image.SAVE:
        raise UserError(f"cannot write {path}: '{path.suffix}' is no format of pictures; take .png, .jpg or .gif")
    return name


def _image(frame: np.ndarray, alpha: np.ndarray | None, keeps_alpha: bool) -> Image.Image:
    if alpha is None:
        return Image.fromarray(frame)
    if keeps_alpha:
        return Image.fromarray(np.dstack([frame, alpha]), "RGBA")
    opacity = alpha[..., None].astype(np.float32) / 255
    return Image.fromarray(np.rint(frame * opacity + 255 * (1 - opacity)).astype(np.uint8))


def read_still(locator: str) -> np.ndarray:
    """The colours of a picture, or of an animation's first frame: uint8 [h, w, 3].

    Args:
        locator: a path, or `builtin:NAME` for one of the built-in photographs and textures.
    """
    if not locator.startswith(BUILTIN):
        return read(Path(locator)).frames[0]
    name = locator.removeprefix(BUILTIN)
    if name not in photo_patches.PHOTOS:
        raise UserError(f"there is no built-in picture '{name}'; there are: {', '.join(photo_patches.PHOTOS)}")
    return photo_patches.read_photo(name)


def fit(image: np.ndarray, longer_side: int | None) -> np.ndarray:
    """Scales uint8 [h, w, C] to that length of its longer side; None leaves it as it is.

    Raises:
        UserError: a length that no picture has.
    """
    if longer_side is None:
        return image
    most = math.isqrt(MOST_PIXELS)
    if not 1 <= longer_side <= most:
        raise UserError(f"a picture's longer side can be made 1 to {most:,} pixels long, not {longer_side}")
    scale = longer_side / max(image.shape[:2])
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return images.resize(image, height, width)


def digest(image: np.ndarray) -> str:
    """SHA-256 of a picture's size and pixels."""
    return hashlib.sha256(f"{image.shape}".encode() + np.ascontiguousarray(image).tobytes()).hexdigest()


def names(locators: Sequence[str]) -> list[str]:
    """Short names of pictures: the file's without suffix, or the built-in one's."""
    return [Path(locator.removeprefix(BUILTIN)).stem for locator in locators]
