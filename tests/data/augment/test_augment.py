import numpy as np
import pytest

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
        ({"flipp": True}, "does not know 'flipp'; did you mean 'flip'"),
    ],
)
def test_what_cannot_be(create, augment, message):
    with pytest.raises(UserError, match=message):
        create(augment=augment, channels=1)
