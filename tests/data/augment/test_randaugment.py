"""RandAugment's operations against Pillow's, their strength, and how they are drawn."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from dnn_research.data.augment import randaugment

FILL = np.array([120, 110, 100], np.uint8)


def photograph(low: int = 0, high: int = 256, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(low, high, (24, 32, channels), np.uint8)


FLAT = np.full((24, 32, 3), 77, np.uint8)


@pytest.mark.parametrize(
    "image", [photograph(), photograph(40, 180), photograph(90, 95), FLAT], ids=["all", "middle", "narrow", "flat"]
)
def test_autocontrast_and_equalize_are_pillows(image):
    pillow = Image.fromarray(image)
    np.testing.assert_array_equal(randaugment.autocontrast(image), np.asarray(ImageOps.autocontrast(pillow)))
    np.testing.assert_array_equal(randaugment.equalize(image), np.asarray(ImageOps.equalize(pillow)))


def test_posterize_and_solarize_are_pillows():
    image = photograph()
    for bits in range(4, 9):
        theirs = ImageOps.posterize(Image.fromarray(image), bits)
        np.testing.assert_array_equal(randaugment.posterize(image, bits), np.asarray(theirs))
    for threshold in (0, 100, 256):
        theirs = ImageOps.solarize(Image.fromarray(image), threshold)
        np.testing.assert_array_equal(randaugment.solarize(image, threshold), np.asarray(theirs))


@pytest.mark.parametrize("factor", [0.1, 0.5, 1.0, 1.9])
def test_sharpness_is_pillows(factor):
    image = photograph()
    theirs = np.asarray(ImageEnhance.Sharpness(Image.fromarray(image)).enhance(factor), int)
    assert np.abs(randaugment.sharpen(image, factor).astype(int) - theirs).max() <= 1


def test_there_are_the_fourteen_of_the_paper():
    assert len(randaugment.OPERATIONS) == 14


@pytest.mark.parametrize("name", sorted(set(randaugment.OPERATIONS) - {"autocontrast", "equalize"}))
def test_no_magnitude_changes_nothing_and_more_changes_more(name):
    image, operation = np.sort(photograph(0, 256), axis=0), randaugment.OPERATIONS[name]
    image = np.sort(image, axis=1)
    np.testing.assert_array_equal(operation(image, 0.0, FILL), image)
    changes = [np.abs(operation(image, strength, FILL).astype(int) - image).sum() for strength in (0.3, 1.0)]
    assert changes[0] < changes[1] or name == "identity"
    assert operation(image, -0.7, FILL).shape == image.shape


@pytest.mark.parametrize("name", randaugment.OPERATIONS)
def test_gray_images_keep_their_shape(name):
    assert randaugment.OPERATIONS[name](photograph(channels=1), 0.7, FILL[:1]).shape == (24, 32, 1)


def test_operations_are_drawn_evenly_with_either_sign(monkeypatch):
    drawn = []

    def record(name):
        return lambda image, strength, fill: drawn.append((name, strength)) or image

    monkeypatch.setattr(randaugment, "OPERATIONS", {name: record(name) for name in randaugment.OPERATIONS})
    rng = np.random.default_rng(0)
    for _ in range(1400):
        randaugment.apply(photograph(), rng, ops=2, magnitude=9.0, fill=FILL)
    names, strengths = zip(*drawn, strict=True)
    assert len(names) == 2800 and all(140 < names.count(name) < 260 for name in set(names)) and len(set(names)) == 14
    assert set(strengths) == {0.9, -0.9} and 1250 < strengths.count(0.9) < 1550
