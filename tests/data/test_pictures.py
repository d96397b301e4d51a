"""Pictures as people have them are read upright and in colour, and written without loss of what they had."""

import contextlib
import io

import numpy as np
import pytest
from PIL import Image

from dnn_research.data import pictures
from dnn_research.errors import UserError

GRADIENT = np.dstack([np.linspace(0, 255, 12 * 16).reshape(12, 16)] * 3).astype(np.uint8)
GRADIENT[:4, :4] = (200, 30, 60)


def saved(path, image, **options):
    image.save(path, **options)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_respected(tmp_path, orientation):
    tag = Image.Exif()
    tag[0x0112] = orientation
    read = pictures.read(saved(tmp_path / "a.png", Image.fromarray(GRADIENT), exif=tag.tobytes())).frames[0]
    # https://exiftool.org/TagNames/EXIF.html: what row 0 and column 0 of the file are in the picture.
    turned = {
        1: GRADIENT, 2: GRADIENT[:, ::-1], 3: GRADIENT[::-1, ::-1], 4: GRADIENT[::-1],
        5: GRADIENT.transpose(1, 0, 2), 6: np.rot90(GRADIENT, -1), 7: GRADIENT.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(GRADIENT, 1),
    }  # fmt: skip
    np.testing.assert_array_equal(read, turned[orientation])


def test_gray_16_bit_palette_and_cmyk_become_rgb(tmp_path):
    gray = np.arange(0, 65536, 512, dtype=np.uint16).reshape(8, 16)
    deep = pictures.read(saved(tmp_path / "deep.png", Image.fromarray(gray))).frames[0]
    np.testing.assert_array_equal(deep[..., 1], np.rint(gray / 257).astype(np.uint8))
    flat = pictures.read(saved(tmp_path / "gray.png", Image.fromarray(GRADIENT[..., 0]))).frames[0]
    np.testing.assert_array_equal(flat, np.dstack([GRADIENT[..., 0]] * 3))
    cmyk = pictures.read(saved(tmp_path / "cmyk.jpg", Image.fromarray(GRADIENT).convert("CMYK"), quality=100))
    assert np.abs(cmyk.frames[0].astype(int) - GRADIENT).mean() < 8
    indexed = Image.fromarray(GRADIENT).quantize(256)
    assert np.abs(pictures.read(saved(tmp_path / "p.png", indexed)).frames[0].astype(int) - GRADIENT).mean() < 3


def test_transparency_is_kept_or_goes_on_white(tmp_path):
    alpha = np.zeros((12, 16), np.uint8)
    alpha[:, 8:] = 255
    picture = pictures.read(saved(tmp_path / "a.png", Image.fromarray(np.dstack([GRADIENT, alpha]), "RGBA")))
    np.testing.assert_array_equal(picture.alphas[0], alpha)
    pictures.write(tmp_path / "b.png", picture, overwrite=False)
    np.testing.assert_array_equal(pictures.read(tmp_path / "b.png").alphas[0], alpha)
    pictures.write(tmp_path / "b.bmp", picture, overwrite=False)
    opaque = pictures.read(tmp_path / "b.bmp")
    assert opaque.alphas == (None,)
    assert (opaque.frames[0][:, :8] == 255).all()
    np.testing.assert_array_equal(opaque.frames[0][:, 8:], GRADIENT[:, 8:])


def test_animations_keep_frames_and_durations(tmp_path):
    frames = [Image.fromarray(np.full((10, 10, 3), value, np.uint8)) for value in (0, 120, 250)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=[50, 100, 150], loop=3)
    picture = pictures.read(tmp_path / "a.gif")
    assert (len(picture.frames), picture.durations, picture.plays) == (3, (50, 100, 150), 4)
    pictures.write(tmp_path / "b.gif", picture, overwrite=False)
    again = pictures.read(tmp_path / "b.gif")
    assert (again.durations, again.plays) == ((50, 100, 150), 4)
    assert [int(frame.mean()) for frame in again.frames] == [0, 120, 250]


def test_a_gif_that_plays_once_still_does(tmp_path):
    frames = [Image.fromarray(np.full((10, 10, 3), value, np.uint8)) for value in (0, 120)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    picture = pictures.read(tmp_path / "a.gif")
    assert picture.plays == 1
    for before, after in (("a.gif", "b.gif"), ("b.gif", "c.webp"), ("c.webp", "d.png"), ("d.png", "e.gif")):
        pictures.write(tmp_path / after, pictures.read(tmp_path / before), overwrite=False)
        assert pictures.read(tmp_path / after).plays == 1, after


def test_the_second_picture_of_a_cameras_file_is_no_frame(tmp_path):
    one, other = (Image.fromarray(np.full((16, 16, 3), value, np.uint8)) for value in (50, 200))
    one.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[other])
    picture = pictures.read(tmp_path / "a.jpg")
    assert (len(picture.frames), picture.durations, int(picture.frames[0].mean())) == (1, (), 50)
    pictures.write(tmp_path / "b.jpg", picture, overwrite=False)


def test_an_animation_needs_a_format_of_several_frames(tmp_path):
    frame = np.zeros((4, 4, 3), np.uint8)
    animation = pictures.Picture((frame, frame), (None, None), (100, 100))
    with pytest.raises(UserError, match=r"'\.jpg' holds one frame, not 2; take \.gif, \.webp or \.png"):
        pictures.write(tmp_path / "a.jpg", animation, overwrite=False)


def test_fractions_of_one_are_no_blacks(tmp_path):
    Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32)).save(tmp_path / "a.tif")
    assert pictures.read(tmp_path / "a.tif").frames[0][0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "MPO", "JPEG", "PNG", "WEBP"])
def test_damaged_pictures_are_one_line_whatever_their_reader_comes_upon(kind):
    rng, encoded = np.random.default_rng(0), io.BytesIO()
    Image.fromarray(GRADIENT).save(encoded, format=kind)
    for _ in range(300):
        damaged = bytearray(encoded.getvalue())
        for place in rng.integers(0, min(len(damaged), 400), 3):
            damaged[place] = rng.integers(256)
        with contextlib.suppress(UserError):
            pictures.decode(bytes(damaged), "a picture")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is not a picture"),
        (b"not an image at all", "is not a picture"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "a.png is"),
    ],
)
def test_what_is_no_picture_is_one_line(tmp_path, content, complaint):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UserError, match=complaint) as raised:
        pictures.read(tmp_path / "a.png")
    assert "\n" not in str(raised.value)


def test_a_picture_cut_short_and_one_that_is_missing(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(buffer, "PNG")
    (tmp_path / "a.png").write_bytes(buffer.getvalue()[:3000])
    with pytest.raises(UserError, match="damaged"):
        pictures.read(tmp_path / "a.png")
    with pytest.raises(UserError, match="No such file"):
        pictures.read(tmp_path / "b.png")


def test_huge_pictures_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    path = saved(tmp_path / "a.png", Image.fromarray(GRADIENT))
    monkeypatch.setattr(pictures, "MOST_PIXELS", 100)
    with pytest.raises(UserError, match="16x12 pixels: too many"):
        pictures.read(path)


def test_nothing_is_overwritten_untold(tmp_path):
    picture = pictures.Picture((GRADIENT,), (None,))
    pictures.write(tmp_path / "a.png", picture, overwrite=False)
    with pytest.raises(UserError, match="exists; give another --output, or --overwrite"):
        pictures.write(tmp_path / "a.png", picture, overwrite=False)
    pictures.write(tmp_path / "a.png", picture, overwrite=True)
    for name, complaint in (("a.xyz", "is no format of pictures"), ("none/a.png", "there is no folder")):
        with pytest.raises(UserError, match=complaint):
            pictures.write(tmp_path / name, picture, overwrite=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png"]


def test_built_in_pictures_have_names():
    assert pictures.read_still("builtin:cat").shape == (300, 451, 3)
    with pytest.raises(UserError, match="there is no built-in picture 'dog'"):
        pictures.read_still("builtin:dog")
