"""Colours against Pillow's, and the ranges of what is drawn."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from dnn_research.data.augment import color


def photograph(channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (24, 32, channels), np.uint8)


ENHANCERS = {
    color.adjust_brightness: ImageEnhance.Brightness,
    color.adjust_contrast: ImageEnhance.Contrast,
    color.adjust_color: ImageEnhance.Color,
}


@pytest.mark.parametrize("factor", [0.0, 0.5, 0.9, 1.0, 1.4, 2.0])
@pytest.mark.parametrize("ours", ENHANCERS, ids=lambda function: function.__name__)
def test_enhancement_is_pillows(ours, factor):
    image = photograph()
    theirs = np.asarray(ENHANCERS[ours](Image.fromarray(image)).enhance(factor), int)
    # Pillow rounds down, and rounds the luma in between.
    assert np.abs(ours(image, factor).astype(int) - theirs).max() <= 2
    if factor == 1:
        np.testing.assert_array_equal(ours(image, factor), image)


@pytest.mark.parametrize("turn", [0.1, -0.25, 0.5])
def test_hue_is_pillows(turn):
    image = photograph()
    hsv = np.array(Image.fromarray(image).convert("HSV"))
    hsv[..., 0] += np.uint8(round(256 * turn) % 256)
    theirs = np.asarray(Image.fromarray(hsv, "HSV").convert("RGB"), int)
    difference = np.abs(color.turn_hue(image, turn).astype(int) - theirs)
    assert difference.mean() < 2 and difference.max() <= 12


def test_half_a_turn_of_the_hues_swaps_red_and_cyan():
    red = np.full((2, 2, 3), (200, 10, 10), np.uint8)
    assert np.abs(color.turn_hue(red, 0.5).astype(int) - (10, 200, 200)).max() <= 3
    image = photograph()
    assert color.turn_hue(image, 0.0) is image
    np.testing.assert_array_equal(color.turn_hue(image, 1.25), color.turn_hue(image, 0.25))


def test_gray_images_have_brightness_and_contrast_alone():
    image = photograph(1)
    assert color.adjust_color(image, 0.3) is image
    np.testing.assert_allclose(color.adjust_brightness(image, 0.5), image / 2, atol=0.51)
    assert color.adjust_contrast(image, 0.0).std() == 0


def test_factors_are_uniform_and_their_order_is_random():
    white, rng = np.full((2, 2, 3), 100, np.uint8), np.random.default_rng(0)
    nothing = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
    values = [int(color.jitter(white, rng, **{**nothing, "brightness": 0.4})[0, 0, 0]) for _ in range(2000)]
    assert min(values) == 60 and max(values) == 140
    assert np.histogram(values, 4, (60, 140))[0] / 2000 == pytest.approx(0.25, abs=0.05)
    assert color.jitter(white, rng, **nothing) is white


def test_the_order_of_the_changes_is_random(monkeypatch):
    order = []
    monkeypatch.setattr(color, "adjust_brightness", lambda image, _: order.append("brightness") or image)
    monkeypatch.setattr(color, "adjust_contrast", lambda image, _: order.append("contrast") or image)
    rng = np.random.default_rng(0)
    for _ in range(400):
        color.jitter(photograph(), rng, brightness=0.4, contrast=0.4, saturation=0.0, hue=0.0)
    first = order[::2]
    assert len(order) == 800 and 150 < first.count("brightness") < 250


def test_a_basis_of_ones_own_moves_along_its_axes():
    basis = color.ColorBasis(np.array([30.0, 0.0, 0.0]), np.eye(3))
    shifts = np.stack([color.pca_noise(np.random.default_rng(i), std=0.1, basis=basis) for i in range(500)])
    assert (shifts[:, 1:] == 0).all()
    assert shifts[:, 0].std() == pytest.approx(3, rel=0.1)
