"""Random crops and movements: their ranges, what they leave alone, and Pillow's where the definitions agree."""

import numpy as np
import pytest
from PIL import Image

from dnn_research.data.augment import Augment, geometry

FILL = np.array([120, 110, 100], np.uint8)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def coordinates(height: int, width: int) -> np.ndarray:
    """An image whose first channel is the row and whose second is the column."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.arange(height)[:, None]
    image[..., 1] = np.arange(width)
    return image


def smooth(height: int, width: int, channels: int = 3) -> np.ndarray:
    rows, columns, k = np.meshgrid(*map(np.arange, (height, width, channels)), indexing="ij")
    waves = np.sin(rows / (5 + k)) + np.cos(columns / (7 - k)) + np.sin((rows + columns) / 9 + k)
    return np.rint(127 + 40 * waves).astype(np.uint8)


def covered(crop: np.ndarray) -> tuple[float, float]:
    """Rows and columns of `coordinates` that a crop covers."""
    image = crop.astype(float)
    steps = len(image) - 1
    return (image[-1, 0, 0] - image[0, 0, 0]) * (1 + 1 / steps), (image[0, -1, 1] - image[0, 0, 1]) * (1 + 1 / steps)


def test_area_crop_covers_its_areas_and_shapes_uniformly():
    image, source = coordinates(200, 200), rng()
    boxes = [geometry.area_box(200, 200, source, area=(0.08, 0.5), aspect=(3 / 4, 4 / 3)) for _ in range(1500)]
    crops = [geometry.resize(box.of(image), 64, "area") for box in boxes]
    rows, columns = np.array([covered(crop) for crop in crops]).T
    shares, ratios = rows * columns / 200**2, np.log(columns / rows)
    # Up to half the area every shape fits, so nothing is drawn again and the shares are uniform.
    assert np.histogram(shares, 5, (0.08, 0.5))[0] / 1500 == pytest.approx(0.2, abs=0.045)
    assert shares.min() == pytest.approx(0.08, abs=0.01) and shares.max() == pytest.approx(0.5, abs=0.02)
    assert np.histogram(ratios, 4, (np.log(3 / 4), np.log(4 / 3)))[0] / 1500 == pytest.approx(0.25, abs=0.05)
    assert np.abs(ratios).max() < np.log(4 / 3) + 0.06
    tops = np.array([crop[0, 0, 0] for crop in crops])
    assert tops.min() <= 2 and (tops + rows).max() >= 197


def test_area_crops_are_within_a_wide_image_and_as_large_as_asked():
    source = rng()
    boxes = [geometry.area_box(375, 500, source, area=(0.08, 1.0), aspect=(3 / 4, 4 / 3)) for _ in range(4000)]
    top, left, height, width = np.array(boxes).T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height).max() <= 375
    assert (left + width).max() <= 500
    area, aspect = height * width / (375 * 500), width / height
    assert area.min() == pytest.approx(0.08, abs=0.003)
    assert area.max() > 0.95
    assert 0.74 < aspect.min() < 0.76 < 1.32 < aspect.max() < 1.345
    # Large ones that are high do not fit into an image that is wide.
    assert np.median(aspect[area < 0.3]) == pytest.approx(1.0, abs=0.02)


def test_area_crop_that_never_fits_is_the_largest_central_one():
    assert geometry.area_box(20, 200, rng(), area=(1, 1), aspect=(1, 1)) == (0, 90, 20, 20)


def test_whole_area_of_a_square_is_the_image_itself():
    image = smooth(24, 24)
    for interpolation in geometry.INTERPOLATIONS:
        augment = Augment(area=(1, 1), aspect=(1, 1), interpolation=interpolation)
        np.testing.assert_array_equal(augment(image, rng(), image_size=24, fill=FILL)["image"], image)


def test_random_interpolation_takes_each_a_quarter_of_the_time():
    image, source = smooth(40, 40), rng()
    methods = {geometry.resize(image, 24, name).tobytes(): name for name in geometry.INTERPOLATIONS}
    assert len(methods) == 4
    augment = Augment(area=(1, 1), aspect=(1, 1), interpolation=geometry.RANDOM)
    found = [methods[augment(image, source, image_size=24, fill=FILL)["image"].tobytes()] for _ in range(800)]
    assert all(150 < found.count(name) < 250 for name in geometry.INTERPOLATIONS)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_enlarging_is_pillows(interpolation):
    image = smooth(20, 20)
    ours = geometry.resize(image, 50, interpolation).astype(int)
    theirs = np.asarray(Image.fromarray(image).resize((50, 50), Image.Resampling[interpolation.upper()]), int)
    # Pillow's cubic kernel has another constant, -0.5 instead of -0.75.
    assert np.abs(ours - theirs).max() <= {"nearest": 0, "bilinear": 1, "bicubic": 3}[interpolation]


def test_central_square_then_crop_is_alexnets():
    image, source = coordinates(100, 161), rng()
    augment = Augment(central_square=True, shorter_side=(100, 100))
    lefts = []
    for _ in range(300):
        crop = augment(image, source, image_size=88, fill=FILL)["image"]
        top, left = crop[0, 0, :2].tolist()
        np.testing.assert_array_equal(crop, image[top : top + 88, left : left + 88])
        lefts.append(left)
    # The square begins at column 30; 12 pixels are left to choose from.
    assert set(lefts) == set(range(30, 43))


def test_what_does_not_move_is_the_same_image():
    image = smooth(17, 23)
    assert geometry.affine(image, fill=FILL) is image
    still = {"rotation_degrees": 0.0, "vertical_shift": 0.0, "horizontal_shift": 0.0, "zoom": ()}
    assert geometry.random_affine(image, rng(), fill=FILL, **still) is image
    # A zoom that is drawn as 1 goes through the same test.
    np.testing.assert_array_equal(geometry.random_affine(image, rng(), fill=FILL, **{**still, "zoom": (1, 1)}), image)


def test_quarter_turns_and_whole_shifts_are_exact():
    image = smooth(20, 20)
    for turns in (1, 2, 3):
        turned = geometry.affine(image, fill=FILL, rotation_degrees=90 * turns)
        assert np.abs(turned.astype(int) - np.rot90(image, turns)).max() <= 1
    moved = geometry.affine(image, fill=FILL, shift=(3, -5))
    np.testing.assert_array_equal(moved[3:, :15], image[:17, 5:])
    assert (moved[:3] == FILL).all() and (moved[:, 15:] == FILL).all()


def test_gray_images_keep_their_axis():
    image = smooth(16, 16, 1)
    assert geometry.affine(image, fill=FILL[:1], rotation_degrees=10).shape == (16, 16, 1)
    assert geometry.resize(image, 9, "area").shape == (9, 9, 1)


@pytest.mark.parametrize("angle", [-30, 7, 45])
def test_rotation_is_pillows(angle):
    image = smooth(64, 64)
    ours = geometry.affine(image, fill=FILL, rotation_degrees=angle).astype(int)
    theirs = np.asarray(Image.fromarray(image).rotate(angle, Image.Resampling.BILINEAR, fillcolor=tuple(FILL)), int)
    # Inside; at the edge Pillow takes the fill where we blend with it.
    rows, columns = np.meshgrid(np.arange(64) - 31.5, np.arange(64) - 31.5, indexing="ij")
    inside = np.hypot(rows, columns) < 30
    assert np.abs(ours - theirs)[inside].max() <= 2


def test_shift_zoom_and_shear_are_pillows():
    image = smooth(64, 64)
    ours = geometry.affine(image, fill=FILL, shift=(4.5, -2.25), zoom=1.25, shear=(0.2, 0.0)).astype(int)
    # Pillow takes the map from the result to the image, in coordinates of pixel corners.
    forward = 1.25 * np.array([[1, 0.2], [0, 1]])
    backward = np.linalg.inv(forward)
    offset = np.array([32, 32]) - backward @ np.array([32 - 2.25, 32 + 4.5])
    data = tuple(np.column_stack([backward, offset]).ravel())
    theirs = Image.fromarray(image).transform((64, 64), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)
    assert np.abs(ours - np.asarray(theirs, int))[8:-8, 8:-8].max() <= 2


def test_random_movements_cover_their_ranges():
    square = np.zeros((61, 61, 1), np.uint8)
    square[25:36, 25:36] = 255
    source, fill = rng(), np.zeros(1, np.uint8)

    def moments(**moves: object) -> np.ndarray:
        still = {"rotation_degrees": 0.0, "vertical_shift": 0.0, "horizontal_shift": 0.0, "zoom": ()}
        found = []
        for _ in range(400):
            image = geometry.random_affine(square, source, fill=fill, **{**still, **moves})[..., 0].astype(float)
            rows, columns = np.meshgrid(np.arange(61), np.arange(61), indexing="ij")
            mass = image.sum()
            found.append(((rows * image).sum() / mass - 30, (columns * image).sum() / mass - 30, mass / 255 / 121))
        return np.array(found).T

    down, right, size = moments(vertical_shift=0.2)
    assert np.abs(down).max() == pytest.approx(12.2, abs=0.3) and abs(down.mean()) < 1.2
    assert np.abs(right).max() < 0.05 and size == pytest.approx(1, abs=0.01)
    down, right, size = moments(horizontal_shift=0.1)
    assert np.abs(right).max() == pytest.approx(6.1, abs=0.3) and np.abs(down).max() < 0.05
    down, right, size = moments(zoom=(0.5, 2.0))
    assert np.sqrt([size.min(), size.max()]) == pytest.approx([0.5, 2.0], rel=0.1)
    assert np.mean(np.log(size)) == pytest.approx(0, abs=0.12)
