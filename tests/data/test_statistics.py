"""Statistics of the training split against NumPy's, and how a run keeps them."""

import numpy as np
import pytest

from dnn_research.data import statistics
from dnn_research.data.augment import Augment
from dnn_research.errors import UserError

COLOR = {"pca_noise_std": 0.1, "pca_basis": "train"}


def images(dataset) -> np.ndarray:
    return np.stack([dataset.train_examples[i][0] for i in range(dataset.num_train)])


def test_nothing_is_computed_that_nobody_needs(create):
    assert create().statistics == {} == create(normalization="gcn", std=(1, 1, 1)).statistics


@pytest.mark.parametrize("num_workers", [0, 4])
def test_mean_image_and_components(create, num_workers):
    # More than one chunk, the last one not full.
    dataset = create(
        normalization="pixel_mean", augment=COLOR, synthetic_examples=300, num_workers=num_workers, image_size=6
    )
    found, pixels = dataset.statistics, images(dataset).astype(np.float64)
    assert found.keys() == {"pixel_mean", "color_stds", "color_axes"}
    np.testing.assert_allclose(found["pixel_mean"], pixels.mean(axis=0), rtol=1e-6)
    assert found["pixel_mean"].dtype == np.float32
    covariance = np.cov(pixels.reshape(-1, 3).T, bias=True)
    axes, stds = found["color_axes"], found["color_stds"]
    np.testing.assert_allclose(axes @ np.diag(stds**2) @ axes.T, covariance, rtol=1e-9)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-12)
    assert list(stds) == sorted(stds, reverse=True)


def test_colour_noise_follows_the_training_split(create):
    dataset = create(augment=COLOR, synthetic_examples=50)
    with dataset.train_batches(batch_size=1000, seed=0) as batches:
        shifts = next(batches)["color_shift"].astype(np.float64)
    axes, stds = dataset.statistics["color_axes"], dataset.statistics["color_stds"]
    assert (shifts @ axes).std(axis=0) == pytest.approx(0.1 * stds, rel=0.15)


def test_images_count_as_training_shows_them(create):
    shown = {"shorter_side": (10, 20)}
    dataset = create(normalization="pixel_mean", augment=shown, image_size=8, synthetic_examples=20)
    center = [dataset.augment.without_chance(image, image_size=8, fill=dataset.fill) for image in images(dataset)]
    np.testing.assert_allclose(dataset.statistics["pixel_mean"], np.mean(center, axis=0), rtol=1e-6)


def test_the_central_square_counts_where_training_takes_it():
    augment = Augment(central_square=True)
    image = np.random.default_rng(0).integers(0, 256, (20, 32, 3), np.uint8)
    fill = np.zeros(3, np.uint8)
    trained = augment(image, np.random.default_rng(0), image_size=32, fill=fill)["image"]
    np.testing.assert_array_equal(augment.without_chance(image, image_size=32, fill=fill), trained)


def test_whitening_of_large_images_is_refused(create):
    with pytest.raises(UserError, match="'gcn_zca' whitens all 12,675 values of an image at once"):
        _ = create(normalization="gcn_zca", std=(1, 1, 1), image_size=65).statistics


def test_a_run_keeps_its_statistics(create, tmp_path):
    first = create(normalization="pixel_mean", synthetic_examples=20)
    first.save_statistics(tmp_path)
    again = {"normalization": "pixel_mean", "synthetic_examples": 30, "workdir": tmp_path}
    # Without a run.json the run was not begun, and the data set may be another one.
    assert (create(**again).statistics["pixel_mean"] != first.statistics["pixel_mean"]).any()
    (tmp_path / "run.json").write_text("{}")
    np.testing.assert_array_equal(create(**again).statistics["pixel_mean"], first.statistics["pixel_mean"])
    create(synthetic_examples=20).save_statistics(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_damaged_and_missing_statistics(tmp_path):
    with pytest.raises(UserError, match=r"lacks statistics.npz, .*; restore it from a copy"):
        statistics.load(tmp_path)
    statistics.save(tmp_path, {"pixel_mean": np.ones((8, 8, 3), np.float32)})
    whole = (tmp_path / statistics.FILE).read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    for damaged in (b"", whole[: len(whole) // 3], flipped):
        (tmp_path / statistics.FILE).write_bytes(damaged)
        with pytest.raises(UserError, match=r"statistics.npz is damaged"):
            statistics.load(tmp_path)
