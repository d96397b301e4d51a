import pathlib
import zlib

import numpy as np
import pytest

from dnn_research.data import builtin
from dnn_research.data.builtin import photo_patches
from dnn_research.data.builtin.digits import stratified_fifth


@pytest.fixture(scope="module")
def fresh_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Data sets prepared by the code as it is now; the directory that other tests share may be older."""
    return str(tmp_path_factory.mktemp("built_in"))


def read(examples) -> tuple[np.ndarray, np.ndarray]:
    pairs = [examples[i] for i in range(len(examples))]
    return np.stack([image for image, _ in pairs]), np.array([label for _, label in pairs])


def test_mnist5k(create, fresh_dir):
    dataset = create(source="tfds:mnist5k", dir=fresh_dir, image_size=28, channels=1)
    assert (dataset.name, dataset.version, dataset.num_classes) == ("mnist5k", "1.0.0", 10)
    train_images, train_labels = read(dataset.train_examples)
    test_images, test_labels = read(dataset.eval_examples)
    assert train_images.shape == (4000, 28, 28, 1)
    assert test_images.shape == (1000, 28, 28, 1)
    assert list(np.bincount(train_labels)) == [400] * 10
    assert list(np.bincount(test_labels)) == [100] * 10
    test_bytes = {image.tobytes() for image in test_images}
    assert not test_bytes & {image.tobytes() for image in train_images}
    # The same digits in the same order on every machine.
    assert zlib.crc32(train_images.tobytes() + test_images.tobytes()) == 1676906834


def test_digits(create, fresh_dir):
    dataset = create(source="tfds:digits", dir=fresh_dir, image_size=8, channels=1)
    train_images, train_labels = read(dataset.train_examples)
    test_images, test_labels = read(dataset.eval_examples)
    assert train_images.shape[1:] == (8, 8, 1)
    assert len(train_images) + len(test_images) == 1797
    assert len(np.unique(train_images)) == 17
    assert (train_images.min(), train_images.max()) == (0, 255)
    share = np.bincount(test_labels) / (np.bincount(train_labels) + np.bincount(test_labels))
    np.testing.assert_allclose(share, 0.2, atol=0.003)
    assert zlib.crc32(train_images.tobytes() + test_images.tobytes()) == 2735072960


def test_stratified_fifth_is_not_the_first_fifth():
    labels = np.repeat([0, 1], [50, 20])
    marked = stratified_fifth(labels)
    assert (marked[:50].sum(), marked[50:].sum()) == (10, 4)
    assert not marked[:10].all()


@pytest.mark.parametrize("config", ["digits", "photo_patches"])
def test_preparing_gives_the_same_bytes_every_time(tmp_path: pathlib.Path, config):
    contents = []
    for folder in ("first", "second"):
        options = {"config": "photos"} if config == "photo_patches" else {}
        builder = builtin.BUILDERS[config](data_dir=str(tmp_path / folder), file_format="array_record", **options)
        builder.download_and_prepare()
        files = sorted(path for path in pathlib.Path(builder.data_dir).iterdir())
        contents.append({path.name: path.read_bytes() for path in files})
    assert any("array_record" in name for name in contents[0])
    assert contents[0] == contents[1]


def test_photos(create, fresh_dir):
    dataset = create(source="tfds:photo_patches/photos", dir=fresh_dir, eval_split="train", image_size=1500)
    assert dataset.num_train == 16
    seen = {}
    for i in range(16):
        image, label = dataset.train_examples[i]
        seen[dataset.class_names[label]] = image
    assert seen.keys() == photo_patches.PHOTOS.keys()
    for name, image in seen.items():
        np.testing.assert_array_equal(image, photo_patches.read_photo(name))


def test_photo_patches(create, fresh_dir):
    dataset = create(source="tfds:photo_patches", dir=fresh_dir, image_size=32)
    assert dataset.name == "photo_patches/32"
    assert dataset.class_names == tuple(photo_patches.PHOTOS)
    train_images, train_labels = read(dataset.train_examples)
    test_images, test_labels = read(dataset.eval_examples)
    assert train_images.shape == (10_240, 32, 32, 3)
    assert test_images.shape == (2_560, 32, 32, 3)
    assert list(np.bincount(train_labels)) == [640] * 16
    assert list(np.bincount(test_labels)) == [160] * 16
    flower = train_images[train_labels == dataset.class_names.index("flower")].astype(float)
    assert np.abs(flower[..., 0] - flower[..., 2]).mean() > 20


@pytest.mark.parametrize(("size", "count"), [(32, 160), (64, 80), (96, 40)])
def test_training_and_test_patches_share_no_pixel(size, count):
    for name in photo_patches.PHOTOS:
        photo = photo_patches.read_photo(name)
        covered = {}
        for split in ("train", "test"):
            covered[split] = np.zeros(photo.shape[:2], bool)
            for window in photo_patches.draw_windows(name, photo, split=split, size=size, count=count):
                assert size <= window.side <= 3 * size
                area = covered[split][window.top : window.top + window.side, window.left : window.left + window.side]
                assert area.shape == (window.side, window.side)
                area[:] = True
        assert not (covered["train"] & covered["test"]).any(), name


def test_scales_reach_three_where_the_picture_is_large_enough():
    photo = photo_patches.read_photo("retina")
    sides = [w.side for w in photo_patches.draw_windows("retina", photo, split="train", size=32, count=300)]
    assert min(sides) < 36
    assert max(sides) > 92


def test_windows_are_the_same_every_time_and_have_contrast():
    photo = photo_patches.read_photo("rocket")
    first, second = (photo_patches.draw_windows("rocket", photo, split="test", size=32, count=50) for _ in range(2))
    assert first == second
    contrasts = [photo_patches.cut(photo, window, 32).astype(float).mean(axis=2).std() for window in first]
    assert min(contrasts) > 4
