import dataclasses
from pathlib import Path

import numpy as np
import pytest

from dnn_research import recipe
from dnn_research.data.augment import Augment
from dnn_research.data.augment.color import IMAGENET_BASIS
from dnn_research.errors import UserError

FILL = np.array([200, 210, 220], np.uint8)


def coordinates(height: int, width: int) -> np.ndarray:
    """An image whose first channel is the row and whose second is the column."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.arange(height)[:, None]
    image[..., 1] = np.arange(width)
    return image


def repeat(augment: Augment, image: np.ndarray, image_size: int, count: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [augment(image, rng, image_size=image_size, fill=FILL) for _ in range(count)]


def test_nothing_by_default():
    image = coordinates(16, 16)
    (augmented,) = repeat(Augment(), image, 16, 1)
    assert augmented.keys() == {"image"}
    np.testing.assert_array_equal(augmented["image"], image)


def test_small_image_is_centred_on_the_mean_colour():
    (augmented,) = repeat(Augment(), coordinates(28, 27), 32, 1)
    np.testing.assert_array_equal(augmented["image"][2:30, 2:29], coordinates(28, 27))
    outside = np.ones((32, 32), bool)
    outside[2:30, 2:29] = False
    assert (augmented["image"][outside] == FILL).all()


def test_pad_and_crop_reaches_every_offset_equally():
    image = coordinates(32, 32)
    padded = np.empty((40, 40, 3), np.uint8)
    padded[:] = FILL
    padded[4:36, 4:36] = image
    counts = np.zeros((9, 9), int)
    windows = {padded[y : y + 32, x : x + 32].tobytes(): (y, x) for y in range(9) for x in range(9)}
    for augmented in repeat(Augment(pad=4), image, 32, 8100):
        counts[windows[augmented["image"].tobytes()]] += 1
    # 100 expected in each of 81 cells; chi-square with 80 degrees of freedom has mean 80 and deviation 12.6.
    assert 40 < ((counts - 100) ** 2 / 100).sum() < 130


def test_flip_is_a_fair_coin():
    image = coordinates(8, 8)
    flips = 0
    for augmented in repeat(Augment(flip=True), image, 8, 2000):
        is_flipped = augmented["image"][0, 0, 1] == 7
        np.testing.assert_array_equal(augmented["image"], image[:, ::-1] if is_flipped else image)
        flips += is_flipped
    assert 900 < flips < 1100


def test_random_shorter_side_covers_its_range_and_keeps_the_shape():
    image = coordinates(160, 240)
    sides, tops, lefts = [], [], []
    for augmented in repeat(Augment(shorter_side=(40, 80)), image, 40, 1500):
        crop = augmented["image"].astype(float)
        assert crop.shape == (40, 40, 3)
        rows, columns = crop[:, 0, 0], crop[0, :, 1]
        side = (rows[-1] - rows[0]) * 40 / 39
        assert side == pytest.approx((columns[-1] - columns[0]) * 40 / 39, abs=2.5)
        sides.append(side)
        tops.append(rows[0])
        lefts.append(columns[0])
    # A crop of 40 out of a shorter side of 40..80 covers 160..80 of the 160 rows.
    assert min(sides) == pytest.approx(80, abs=2)
    assert max(sides) == pytest.approx(160, abs=2)
    lengths = 40 * 160 / np.array(sides)
    assert np.mean(lengths) == pytest.approx(60, abs=1.5)
    assert min(tops) <= 1
    assert max(tops) >= 76
    assert min(lefts) <= 1
    assert max(lefts) >= 150


def test_shorter_side_of_the_image_itself_is_a_plain_crop():
    image = coordinates(20, 30)
    for augmented in repeat(Augment(shorter_side=(20, 20)), image, 12, 50):
        top, left = augmented["image"][0, 0, :2]
        np.testing.assert_array_equal(augmented["image"], image[top : top + 12, left : left + 12])


def test_color_noise_has_the_distribution_of_the_paper():
    augmented = repeat(Augment(pca_noise_std=0.1), coordinates(4, 4), 4, 20_000)
    np.testing.assert_array_equal(augmented[0]["image"], coordinates(4, 4))
    shifts = np.stack([example["color_shift"] for example in augmented])
    covariance = IMAGENET_BASIS.axes @ np.diag((0.1 * IMAGENET_BASIS.stds) ** 2) @ IMAGENET_BASIS.axes.T
    np.testing.assert_allclose(shifts.mean(axis=0), 0, atol=0.1)
    np.testing.assert_allclose(np.cov(shifts.T), covariance, rtol=0.05, atol=0.1)
    # The eigenvectors are orthonormal to the four digits that are published; brightness varies most, by 5.5 of 255.
    np.testing.assert_allclose(IMAGENET_BASIS.axes.T @ IMAGENET_BASIS.axes, np.eye(3), atol=1e-3)
    assert np.sqrt(np.linalg.eigvalsh(covariance)[-1]) == pytest.approx(5.546, abs=0.01)


EVERYTHING = {
    "shorter_side": (16, 24), "central_square": True, "interpolation": "random", "flip": True, "rotation_degrees": 20.0,
    "vertical_shift": 0.1, "horizontal_shift": 0.1, "zoom": (0.8, 1.25), "brightness": 0.4, "contrast": 0.4,
    "saturation": 0.4, "hue": 0.1, "randaugment_ops": 2, "erasing_probability": 0.5, "pca_noise_std": 0.1,
    "mixup_alpha": 0.2, "cutmix_alpha": 1.0,
}  # fmt: skip


def test_the_image_at_hand_is_never_written_to():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    image.flags.writeable = False
    before = image.copy()
    for augmented in repeat(Augment(**EVERYTHING), image, 16, 50):
        assert augmented["image"].shape == (16, 16, 3) and augmented["image"].dtype == np.uint8
        assert augmented["image"].flags.c_contiguous
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "fields",
    [{"area": (0.08, 1.0), "flip": True}, {"area": (0.08, 1.0), "interpolation": "random"}, {"pad": 2}, EVERYTHING],
)
def test_the_place_given_for_the_image_changes_nothing(fields, channels):
    colors = ("saturation", "hue", "pca_noise_std")
    augment = Augment(**{name: value for name, value in fields.items() if channels == 3 or name not in colors})
    image = np.random.default_rng(0).integers(0, 256, (16, 16) if augment.pad else (60, 50), np.uint8)
    image = np.repeat(image[..., None], channels, axis=2)
    made_there = 0
    for seed in range(30):
        out = np.zeros((16, 16, channels), np.uint8)
        one, other = (
            augment(image, np.random.default_rng(seed), image_size=16, fill=FILL[:channels], out=place)["image"]
            for place in (None, out)
        )
        np.testing.assert_array_equal(one, other)
        made_there += np.shares_memory(other, out)
    assert (made_there > 5) == ("area" in fields)


@pytest.mark.parametrize("item", sorted(EVERYTHING.keys() - {"interpolation", "central_square", "pca_noise_std"}))
def test_every_item_changes_what_is_shown(item):
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    item = {item: EVERYTHING[item]} if item != "shorter_side" else {"shorter_side": (32, 40)}
    plain, changed = (repeat(Augment(**fields), image, 32, 8) for fields in ({}, item))
    is_drawn = {"mixup_alpha", "cutmix_alpha"} & set(item)
    assert any((a["image"] != b["image"]).any() or is_drawn for a, b in zip(plain, changed, strict=True))
    assert {key for one in changed for key in one} == ({"image", "lam", "mix_box"} if is_drawn else {"image"})


def test_an_item_that_draws_last_leaves_the_others_as_they_were():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    few = {name: EVERYTHING[name] for name in ("shorter_side", "flip", "rotation_degrees")}
    for more in ({"pca_noise_std": 0.1}, {"mixup_alpha": 0.2}):
        one, other = (
            Augment(**fields)(image, np.random.default_rng(5), image_size=16, fill=FILL)["image"]
            for fields in (few, {**few, **more})
        )
        np.testing.assert_array_equal(one, other)


def test_without_chance_is_the_middle_of_what_is_shown():
    image = coordinates(40, 60)
    for augment in (Augment(shorter_side=(40, 80)), Augment(shorter_side=(40, 40), central_square=True, flip=True)):
        np.testing.assert_array_equal(augment.without_chance(image, image_size=32, fill=FILL), image[4:36, 14:46])
    area = Augment(area=(0.08, 1.0)).without_chance(image, image_size=40, fill=FILL)
    np.testing.assert_array_equal(area, image[:, 10:50])
    padded = Augment(pad=4).without_chance(coordinates(28, 28), image_size=32, fill=FILL)
    np.testing.assert_array_equal(padded[2:30, 2:30], coordinates(28, 28))
    assert (padded[0] == FILL).all()


def test_larger_image_without_a_way_to_shrink_it():
    with pytest.raises(UserError, match=r"40 x 20 pixels, data.image_size is 32: set data.augment.shorter_side"):
        repeat(Augment(pad=4), coordinates(40, 20), 32, 1)


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        ({"pad": -1}, "pad is -1"),
        ({"pca_noise_std": -0.1}, "pca_noise_std is -0.1"),
        ({"pca_noise_std": 0.1}, "channels is 1"),
        ({"shorter_side": (480, 256)}, r"shorter_side is \(480, 256\)"),
        ({"shorter_side": (256,)}, r"shorter_side is \(256,\)"),
        ({"shorter_side": (6, 9)}, "starts at 6, less than data.image_size 8"),
        ({"shorter_side": (9, 9), "pad": 4}, "choose one"),
        ({"area": (0.08, 1.5)}, r"area is \(0.08, 1.5\): give the smallest and the largest, such as"),
        ({"area": (0.08, 1.0), "aspect": ()}, r"aspect is \(\)"),
        ({"area": (0.08, 1.0), "shorter_side": (9, 9)}, "shorter_side .* and area .*: choose one"),
        ({"interpolation": "cubic"}, "unknown data.augment.interpolation 'cubic'; did you mean 'bicubic'"),
        ({"pca_basis": "cifar"}, "unknown data.augment.pca_basis 'cifar'"),
        ({"rotation_degrees": 200.0}, "rotation_degrees is 200.0: give a number from 0 to 180"),
        ({"vertical_shift": -0.1}, "vertical_shift is -0.1: give a number from 0 to 1"),
        ({"zoom": (0.0, 1.0)}, "zoom is"),
        ({"saturation": 0.4}, "saturation is 0.4, but data.channels is 1: it needs 3"),
        ({"hue": 0.6}, "hue is 0.6: give a number from 0 to 0.5"),
        ({"randaugment_magnitude": 11.0}, "magnitude is 11.0: give a number from 0 to 10"),
        ({"mixup_alpha": -1.0}, "mixup_alpha is -1.0: give 0 or more"),
        ({"flipp": True}, "does not know 'flipp'; did you mean 'flip'"),
    ],
)
def test_what_cannot_be(create, augment, message):
    with pytest.raises(UserError, match=message):
        create(augment=augment, channels=1)


CONFIGS = sorted((Path(__file__).parents[3] / "configs").glob("*.py"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_recipe_lists_every_field(path):
    """So that each item can be switched on the command line and in a row of an experiment."""
    assert set(recipe.load(str(path)).config.data.augment) == {field.name for field in dataclasses.fields(Augment)}
