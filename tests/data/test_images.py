import io

import numpy as np
import pytest
from PIL import Image

from dnn_research.data import images
from dnn_research.data.builtin import photo_patches
from dnn_research.errors import UserError


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


def test_jpeg_of_every_kind(photo):
    pixels = np.asarray(photo).astype(float)
    for mode, channels in (("RGB", 3), ("CMYK", 3)):
        decoded = images.decode(encode(photo.convert(mode), "JPEG", quality=95), channels=channels)
        assert np.abs(decoded - pixels).mean() < 3
    decoded = images.decode(encode(photo.convert("L"), "JPEG", quality=95), channels=3)
    assert np.abs(decoded[..., 0] - np.asarray(photo.convert("L")).astype(float)).mean() < 3


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


@pytest.mark.parametrize("length", [0, 3, 1000, -100])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_file_cut_short(photo, file_format, length):
    with pytest.raises(UserError, match="the image is damaged or of an unknown format"):
        images.decode(encode(photo, file_format)[:length], channels=3)


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
