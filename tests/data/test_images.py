import importlib.util
import io
import struct
import types
import zlib

import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from dnn_research.data import formats, images, turbojpeg
from dnn_research.data.box import Box
from dnn_research.data.builtin import photo_patches
from dnn_research.data.damage import DamagedExample


def encode(image: Image.Image, file_format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.fromarray(photo_patches.read_photo("coffee"))


def test_png_keeps_every_pixel(photo):
    np.testing.assert_array_equal(images.decode(encode(photo, "PNG"), channels=3), np.asarray(photo))
    gray = photo.convert("L")
    np.testing.assert_array_equal(images.decode(encode(gray, "PNG"), channels=1)[..., 0], np.asarray(gray))


def test_gray_is_repeated_and_colour_becomes_luma(photo):
    gray = np.asarray(photo.convert("L"))
    repeated = images.decode(encode(photo.convert("L"), "PNG"), channels=3)
    np.testing.assert_array_equal(repeated, np.repeat(gray[..., None], 3, axis=2))
    luma = images.decode(encode(photo, "PNG"), channels=1)
    assert luma.shape == (*gray.shape, 1)
    np.testing.assert_allclose(luma[..., 0].astype(int), gray, atol=1)


def with_pillow(encoded: bytes, channels: int) -> np.ndarray:
    image = Image.open(io.BytesIO(encoded)).convert({1: "L", 3: "RGB"}[channels])
    return np.asarray(image).reshape(image.height, image.width, channels).astype(int)


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"subsampling": 1}, {"progressive": True}], ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_of_every_kind(photo, mode, options):
    """Pillow writes CMYK as Adobe does, with the inks inverted, and by `subsampling` factors that are rare there."""
    encoded = encode(photo.convert(mode), "JPEG", quality=95, **options)
    np.testing.assert_array_equal(images.decode(encoded, channels=3), with_pillow(encoded, 3))
    original = np.asarray(photo.convert(mode).convert("RGB")).astype(int)
    assert np.abs(images.decode(encoded, channels=3) - original).mean() < 3
    # Luma is stored in a JPEG; Pillow computes it from rounded RGB instead.
    difference = np.abs(images.decode(encoded, channels=1) - with_pillow(encoded, 1))
    assert difference.mean() < 0.5


def test_cmyk_without_adobes_marker_is_taken_for_inverted_too(photo):
    """As Pillow and OpenCV take it."""
    encoded = encode(photo.convert("CMYK"), "JPEG", quality=95)
    start = encoded.index(b"\xff\xee")
    length = int.from_bytes(encoded[start + 2 : start + 4], "big")
    plain = encoded[:start] + encoded[start + 2 + length :]
    np.testing.assert_array_equal(images.decode(plain, channels=3), images.decode(encoded, channels=3))


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "BMP", "GIF", "PPM", "TIFF"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "RGBA", "LA"])
def test_other_formats_are_as_pillow_reads_them(photo, file_format, mode):
    small = photo.resize((61, 47)).convert("RGB" if mode in ("RGBA", "P") else "L")
    if mode in ("RGBA", "LA"):
        small.putalpha(Image.linear_gradient("L").resize(small.size))
    elif mode in ("P", "1"):
        small = small.quantize(32) if mode == "P" else small.convert("1")
    writable = {"PPM": ("RGB", "L", "1"), "BMP": ("RGB", "L", "P", "1"), "GIF": ("L", "P", "1")}
    if mode not in writable.get(file_format, (mode,)):
        pytest.skip(f"Pillow writes no {file_format} of mode {mode}")
    encoded = encode(small, file_format, **({"lossless": True, "exact": True} if file_format == "WEBP" else {}))
    for channels in (1, 3):
        expected = with_pillow(encoded, channels)
        np.testing.assert_allclose(images.decode(encoded, channels=channels), expected, atol=0 if channels == 3 else 1)


@pytest.mark.parametrize("lossless", [False, True])
def test_webp(photo, lossless):
    encoded = encode(photo, "WEBP", lossless=lossless, quality=90)
    np.testing.assert_allclose(images.decode(encoded, channels=3), with_pillow(encoded, 3), atol=1)


def test_palette_with_a_transparent_colour(photo):
    palette = photo.quantize(64)
    encoded = encode(palette, "PNG", transparency=3)
    np.testing.assert_array_equal(images.decode(encoded, channels=3), np.asarray(palette.convert("RGB")))


def test_16_bits_are_scaled():
    """Not cut off: 65535 is 255 and 128 is rounded up, in files of Pillow's and of OpenCV's making."""
    values = np.array([[0, 128, 129, 257, 385, 386, 32768, 65406, 65407, 65535]], np.uint16)
    expected = np.rint(values / 257).astype(np.uint8)
    for encoded in (
        encode(Image.fromarray(values), "PNG"),
        encode(Image.fromarray(values), "TIFF"),
        cv2.imencode(".png", values)[1].tobytes(),
        b"P5 10 1 65535\n" + values.astype(">u2").tobytes(),
        cv2.imencode(".png", np.repeat(values[..., None], 3, axis=2))[1].tobytes(),
    ):
        np.testing.assert_array_equal(images.decode(encoded, channels=1)[..., 0], expected)
        np.testing.assert_array_equal(images.decode(encoded, channels=3), np.repeat(expected[..., None], 3, axis=2))
    colours = np.stack([values, values[:, ::-1], values // 2], axis=2)
    encoded = cv2.imencode(".png", colours[..., ::-1])[1].tobytes()
    np.testing.assert_array_equal(images.decode(encoded, channels=3), np.rint(colours / 257).astype(np.uint8))


def test_misnamed_files_are_known_by_their_content(photo):
    """As the PNG among ImageNet's JPEGs: no name is looked at. What is no image says so."""
    for content in (
        b"GIF89a",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        b"<svg/>",
        b"PK\x03\x04",
        bytes(100),
        b"RIFF\x10\0\0\0WEBP",
    ):
        with pytest.raises(DamagedExample, match="the image is damaged or of an unknown format"):
            images.decode(content, channels=3)


def test_alpha_and_palette_become_rgb(photo):
    with_alpha = photo.copy()
    with_alpha.putalpha(77)
    np.testing.assert_array_equal(images.decode(encode(with_alpha, "PNG"), channels=3), np.asarray(photo))
    palette = photo.quantize(64)
    decoded = images.decode(encode(palette, "PNG"), channels=3)
    np.testing.assert_array_equal(decoded, np.asarray(palette.convert("RGB")))


def test_orientation_tag_is_ignored(photo):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert images.decode(encode(photo, "JPEG", exif=exif), channels=3).shape == (photo.height, photo.width, 3)


@pytest.fixture(scope="module")
def small(photo) -> dict[str, bytes]:
    image = photo.resize((64, 48))
    kinds = {f"{name}": encode(image, name) for name in ("PNG", "WEBP", "BMP", "GIF", "PPM", "TIFF")}
    kinds |= {"JPEG": encode(image, "JPEG"), "progressive": encode(image, "JPEG", progressive=True)}
    return kinds | {
        "CMYK": encode(image.convert("CMYK"), "JPEG"),
        "restarts": encode(image, "JPEG", restart_marker_blocks=4),
        "lossless": encode(image, "WEBP", lossless=True),
    }


KINDS = ["JPEG", "progressive", "CMYK", "restarts", "PNG", "WEBP", "lossless", "BMP", "GIF", "PPM", "TIFF"]


# Pillow warns of what it then raises as an error.
@pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")
@pytest.mark.parametrize("kind", KINDS)
def test_every_file_cut_short_is_an_error(small, kind):
    """Or it is the whole image: some formats end with bytes that hold none of it."""
    encoded = small[kind]
    whole = images.decode(encoded, channels=3)
    messages = set()
    for length in {*range(0, len(encoded), 7), *range(len(encoded) - 40, len(encoded))}:
        try:
            image = images.decode(encoded[:length], channels=3)
        except DamagedExample as error:
            messages.add(str(error))
        else:
            assert length > len(encoded) - 30 and kind not in ("JPEG", "PNG", "WEBP", "progressive", "restarts")
            np.testing.assert_array_equal(image, whole)
    assert all(message.startswith("the image is damaged") and "\n" not in message for message in messages)


@pytest.mark.parametrize("kind", ["JPEG", "progressive", "CMYK", "restarts"])
def test_jpeg_whose_end_was_lost_and_mended_is_an_error(small, kind):
    """OpenCV decodes these into a picture that is gray from there on."""
    encoded = small[kind]
    for position in range(encoded.rindex(b"\xff\xda") + 20, len(encoded) - 2, 11):
        damaged = encoded[:position] + b"\xff\xd9"
        assert cv2.imdecode(np.frombuffer(damaged, np.uint8), cv2.IMREAD_COLOR) is not None
        with pytest.raises(DamagedExample, match=r"premature end of data segment|extraneous bytes"):
            images.decode(damaged, channels=3)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")
@pytest.mark.parametrize("kind", KINDS)
def test_flipped_bits_crash_nothing(small, kind):
    """PNGs carry checksums: every flip is found. JPEG has none: what decodes without a warning is an image."""
    encoded = small[kind]
    whole = images.decode(encoded, channels=3)
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(encoded)
        for _ in range(int(rng.integers(1, 4))):
            damaged[rng.integers(len(damaged))] ^= 1 << int(rng.integers(8))
        try:
            image = images.decode(bytes(damaged), channels=3)
        except DamagedExample:
            continue
        else:
            assert image.dtype == np.uint8 and image.ndim == 3 and image.size <= 3 * formats.MAX_PIXELS
            assert kind != "PNG" or np.array_equal(image, whole)


def top(encoded: bytes, needed: int, channels: int = 3) -> np.ndarray:
    """The image as it is decoded when so many rows of it are needed."""
    sizes = []

    def window(height: int, width: int) -> Box:
        sizes.append((height, width))
        return Box(0, 0, min(needed, height), width)

    image = images.decode(encoded, channels=channels, window=window)
    assert len(sizes) == 1 and min(needed, sizes[0][0]) <= len(image) <= sizes[0][0]
    return image


@pytest.fixture
def without_turbojpeg(monkeypatch):
    monkeypatch.setattr(turbojpeg, "library", lambda: None)


@pytest.fixture(params=["simplejpeg", "turbojpeg"])
def decoder(request) -> str:
    """Each of what decodes a part of a JPEG."""
    if request.param == "simplejpeg":
        request.getfixturevalue("without_turbojpeg")
    elif turbojpeg.library() is None:
        pytest.skip("no TurboJPEG 3 is installed")
    return request.param


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "4:1:1", "gray", "restarts"])
@pytest.mark.usefixtures("without_turbojpeg")
def test_the_upper_rows_of_a_jpeg_are_those_of_the_whole(photo, subsampling):
    """Whatever stands below is not decoded, and changes nothing above, smooth chroma included."""
    image = photo.crop((0, 0, 61, 117)).convert("L" if subsampling == "gray" else "RGB")
    restarts = {"restart_marker_blocks": 3} if subsampling == "restarts" else {}
    chroma = {"subsampling": subsampling} if subsampling[0] == "4" else {}
    encoded = encode(image, "JPEG", **chroma, **restarts)
    for channels in (1, 3):
        whole = images.decode(encoded, channels=channels)
        for needed in range(1, 118):
            upper = top(encoded, needed, channels)
            np.testing.assert_array_equal(upper, whole[: len(upper)])
    # Marks for a new start stand between the rows that are left out: there the decoder says something else.
    assert len(top(encoded, 30)) == (117 if subsampling == "restarts" else 30)


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:4:0", "4:2:2", "4:2:0", "4:1:1", "gray", "restarts"])
def test_a_part_of_a_jpeg_is_that_of_the_whole(photo, subsampling, decoder):
    """Wherever it lies and however small it is; what is beside it is not looked at."""
    rng = np.random.default_rng(0)
    for height, width in [(1, 1), (7, 95), (117, 61), (48, 64)]:
        pixels = np.asarray(photo.crop((0, 0, width, height)))
        if subsampling == "4:4:0":
            encoded = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), colorsubsampling="440")
        else:
            restarts = {"restart_marker_blocks": 3} if subsampling == "restarts" else {}
            chroma = {"subsampling": subsampling} if subsampling[0] == "4" else {}
            image = Image.fromarray(pixels).convert("L" if subsampling == "gray" else "RGB")
            encoded = encode(image, "JPEG", **chroma, **restarts)
        for channels in (1, 3):
            whole = images.decode(encoded, channels=channels)
            for _ in range(40):
                high, wide = int(rng.integers(1, height + 1)), int(rng.integers(1, width + 1))
                box = Box(int(rng.integers(height - high + 1)), int(rng.integers(width - wide + 1)), high, wide)
                part = images.decode(encoded, channels=channels, window=lambda *_, box=box: box)
                if decoder == "turbojpeg":
                    jpeg = formats.baseline_jpeg(encoded)
                    assert jpeg is not None
                    assert turbojpeg.decode_box(encoded, jpeg, box, channels=channels) is not None
                np.testing.assert_array_equal(box.of(part), box.of(whole))


def test_turbojpeg_is_passed_over_where_it_is_too_old_or_unwanted(monkeypatch):
    """libc stands for a library without the function; a package in Python, as PyTurboJPEG, is none."""
    find, tried = turbojpeg.library.__wrapped__, []

    class Tried(turbojpeg.Library):
        def __init__(self, path):
            tried.append(path)
            super().__init__(path)

    monkeypatch.setattr(turbojpeg, "Library", Tried)
    monkeypatch.setattr(turbojpeg, "NAMES", ("libc.so.6",))
    for origin in ("libm.so.6", "/nowhere/turbojpeg.so", "/somewhere/turbojpeg.py", None):
        spec = types.SimpleNamespace(origin=origin)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, spec=spec: spec)
        assert find() is None
    assert {"libc.so.6", "libm.so.6", "/nowhere/turbojpeg.so"} < {*tried}
    assert "/somewhere/turbojpeg.py" not in tried
    tried.clear()
    monkeypatch.setenv("DNN_TURBOJPEG", "0")
    assert find() is None and not tried


@pytest.mark.parametrize("decoder", ["turbojpeg"], indirect=True)
def test_turbojpeg_decodes_nothing_else(photo, monkeypatch, decoder):
    """But whole blocks on the left and a margin around."""
    encoded = encode(photo, "JPEG")
    jpeg = formats.baseline_jpeg(encoded)
    assert jpeg is not None
    monkeypatch.setattr(np, "empty", np.zeros)
    part = turbojpeg.decode_box(encoded, jpeg, Box(200, 300, 50, 40), channels=3)
    assert part is not None and part.shape == (252, photo.width, 3)
    assert part[198:, 288:342].all(axis=-1).any(axis=0).all()
    part[198:, 288:342] = 0
    assert not part.any()


@pytest.mark.parametrize("decoder", ["turbojpeg"], indirect=True)
def test_what_turbojpeg_warns_of_is_decoded_whole(small, decoder):
    """So that it is reported as everywhere else: a file without its end, one with bytes after it, two with damage."""
    encoded = small["JPEG"]
    jpeg = formats.baseline_jpeg(encoded)
    assert jpeg is not None
    box = Box(0, 0, 40, 40)
    damaged = bytearray(encoded)
    damaged[len(encoded) // 2 : len(encoded) // 2 + 2] = b"\xff\xd4"
    broken = bytearray(encoded)  # a table that is no table: it would go on refusing
    broken[encoded.index(b"\xff\xc4") + 5] = 0xFF
    for other in (encoded[:-1], encoded + b"\0", bytes(damaged), bytes(broken)):
        assert turbojpeg.decode_box(other, jpeg, box, channels=3) is None
        assert turbojpeg.decode_box(encoded, jpeg, box, channels=3) is not None
    with pytest.raises(DamagedExample):
        images.decode(bytes(damaged), channels=3, window=lambda *_: box)
    kept = images.decode(encoded + b"\0", channels=3, window=lambda *_: box)
    np.testing.assert_array_equal(box.of(kept), box.of(images.decode(encoded, channels=3)))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")
@pytest.mark.parametrize("kind", sorted({*KINDS} - {"JPEG", "restarts"}))
def test_other_files_are_decoded_whole(small, kind):
    np.testing.assert_array_equal(top(small[kind], 20), images.decode(small[kind], channels=3))


@pytest.mark.usefixtures("decoder")
def test_a_lost_end_is_found_below_what_is_needed_too(small):
    encoded = small["JPEG"]
    for length in range(0, len(encoded) - 1, 5):
        for damaged in (encoded[:length], encoded[:length] + b"\xff"):
            with pytest.raises(DamagedExample):
                top(damaged, 10)
    assert len(top(encoded, 10)) < 48


def test_flipped_bits_below_what_is_needed_change_nothing(small, decoder):
    """And those above are an error or an image, as without rows that are left out."""
    encoded = small["JPEG"]
    rng = np.random.default_rng(0)
    shorter = 0
    for _ in range(1000):
        damaged = bytearray(encoded)
        damaged[rng.integers(len(damaged))] ^= 1 << int(rng.integers(8))
        try:
            image = top(bytes(damaged), 10)
        except DamagedExample:
            continue
        shorter += len(image) == (10 if decoder == "simplejpeg" else 10 + turbojpeg.MARGIN)
        try:
            whole = images.decode(bytes(damaged), channels=3)
        except DamagedExample:
            continue
        np.testing.assert_array_equal(image[:10], whole[:10])
    assert shorter > 300


def test_png_checksums_find_every_flipped_bit(small):
    """Whatever the decoder would make of it; the signature is what makes the file a PNG."""
    encoded = small["PNG"]
    formats.check_png(encoded)
    for bit in range(8 * len(formats.PNG), 8 * len(encoded), 11):
        damaged = bytearray(encoded)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match=r"checksum|cut short"):
            formats.check_png(bytes(damaged))


def test_sizes_are_looked_at_before_decoding(small, monkeypatch):
    """Each kind of file says its size where only its header needs to be read."""
    monkeypatch.setattr(formats, "MAX_PIXELS", 64 * 48)
    for kind in KINDS:
        assert images.decode(small[kind], channels=3).shape == (48, 64, 3)
    monkeypatch.setattr(formats, "MAX_PIXELS", 64 * 48 - 1)
    for decoder in ((cv2, "imdecode"), (simplejpeg, "decode_jpeg"), (Image.Image, "convert")):
        monkeypatch.setattr(*decoder, None)
    for kind in KINDS:
        with pytest.raises(DamagedExample, match="it has 64 x 48 pixels, more than the 3,071 that are decoded"):
            images.decode(small[kind], channels=3)


def test_decompression_bombs():
    """Of a few bytes, which would be 40 GB."""
    header = struct.pack(">IIBBBBB", 120_000, 120_000, 8, 2, 0, 0, 0)
    chunk = lambda kind, content: (  # noqa: E731
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    )
    png = formats.PNG + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    gif = encode(Image.new("L", (8, 8)), "GIF")
    gif = gif[:6] + struct.pack("<HH", 65_000, 65_000) + gif[10:]
    jpeg = bytearray(encode(Image.new("L", (8, 8)), "JPEG"))
    size = jpeg.index(b"\xff\xc0") + 5
    jpeg[size : size + 4] = struct.pack(">HH", 65_000, 65_000)
    for encoded in (png, gif, bytes(jpeg)):
        with pytest.raises(DamagedExample, match=r"more than the 134,217,728 that are decoded|decompression bomb"):
            images.decode(encoded, channels=3)


def test_strong_reduction_averages():
    points = np.zeros((64, 64, 1), np.uint8)
    points[::4, ::4] = 160
    reduced = images.resize(points, 16, 16)
    assert reduced.shape == (16, 16, 1)
    np.testing.assert_array_equal(reduced, 10)


def test_resize_to_its_own_size_is_the_image():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(images.resize(image, 5, 7), image)


def test_odd_padding_goes_below_and_right():
    padded = images.pad_to(np.zeros((3, 4, 1), np.uint8), 6, 5, np.array([9], np.uint8))
    assert padded.shape == (6, 5, 1)
    np.testing.assert_array_equal(padded[..., 0] == 0, np.pad(np.ones((3, 4), bool), ((1, 2), (0, 1))))
