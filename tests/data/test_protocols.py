import numpy as np
import pytest

from dnn_research.data import protocols
from dnn_research.errors import UserError

FILL = np.array([7, 8, 9], np.uint8)


def coordinates(height: int, width: int) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.arange(height)[:, None]
    image[..., 1] = np.arange(width)
    return image


def test_single_crop_of_an_image_of_the_right_size_is_its_centre():
    protocol = protocols.create(name="single_crop", resize=6, image_size=4)
    np.testing.assert_array_equal(protocol(coordinates(6, 11), fill=FILL), coordinates(6, 11)[1:5, 3:7])
    np.testing.assert_array_equal(protocol(coordinates(10, 6), fill=FILL), coordinates(10, 6)[3:7, 1:5])


@pytest.mark.parametrize(("height", "width"), [(120, 200), (200, 120), (150, 150), (20, 31), (250, 60)])
def test_single_crop_is_the_centre_at_the_right_scale(height, width):
    crop = protocols.create(name="single_crop", resize=64, image_size=56)(coordinates(height, width), fill=FILL)
    assert crop.shape == (56, 56, 3)
    scale = min(height, width) / 64
    rows, columns = crop[:, :, 0].astype(float), crop[:, :, 1].astype(float)
    assert rows.mean() == pytest.approx((height - 1) / 2, abs=scale)
    assert columns.mean() == pytest.approx((width - 1) / 2, abs=scale)
    assert rows[-1, 0] - rows[0, 0] == pytest.approx(55 * scale, abs=0.03 * 64 * scale)
    assert columns[0, -1] - columns[0, 0] == pytest.approx(55 * scale, abs=0.03 * 64 * scale)


def test_original_keeps_the_image_or_centres_it():
    protocol = protocols.create(name="original", resize=None, image_size=8)
    np.testing.assert_array_equal(protocol(coordinates(8, 8), fill=FILL), coordinates(8, 8))
    padded = protocol(coordinates(5, 8), fill=FILL)
    np.testing.assert_array_equal(padded[1:6], coordinates(5, 8))
    assert (padded[[0, 6, 7]] == FILL).all()
    with pytest.raises(UserError, match="9 x 8 pixels, the network takes 8"):
        protocol(coordinates(9, 8), fill=FILL)


def test_descriptions():
    describe = {
        name: protocols.create(name=name, resize=256, scales=(256, 384), image_size=224).description
        for name in protocols.PROTOCOLS
    }
    assert describe["single_crop"] == "single_crop(shorter side 256, centre 224)"
    assert describe["original"] == "original(224)"
    assert all(description.startswith(f"{name}(") for name, description in describe.items())
    mirrored = protocols.create(name="single_crop", resize=256, flip=True, image_size=224)
    assert mirrored.description == "single_crop(shorter side 256, centre 224, also mirrored; mean of softmax)"


@pytest.mark.parametrize(
    ("name", "resize", "message"),
    [
        (
            "singel_crop",
            256,
            "unknown eval.protocol 'singel_crop'; did you mean 'single_crop'.*; known: single_crop, original, ten_crop",
        ),
        ("single_crop", 200, "eval.resize is 200, less than the image size 224"),
        ("single_crop", None, "needs eval.resize"),
    ],
)
def test_what_cannot_be(name, resize, message):
    with pytest.raises(UserError, match=message):
        protocols.create(name=name, resize=resize, image_size=224)
