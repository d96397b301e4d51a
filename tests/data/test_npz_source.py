import numpy as np
import pytest

from dnn_research.data import npz_source
from dnn_research.errors import UserError

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (12, 8, 8), dtype=np.uint8)
RGB = RNG.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
LABELS = np.arange(12) % 3


@pytest.fixture
def save(tmp_path):
    def write(**arrays) -> str:
        np.savez(tmp_path / "some.npz", **arrays)
        return f"npz:{tmp_path / 'some.npz'}"

    return write


@pytest.mark.parametrize("names", [("x_{}", "y_{}"), ("{}_images", "{}_labels")])
@pytest.mark.parametrize("images", [GRAY, GRAY[..., None], RGB], ids=["gray", "one channel", "rgb"])
def test_pairs_of_arrays(create, save, names, images):
    x, y = names
    arrays = {x.format("train"): images, y.format("train"): LABELS.astype(np.uint8)[:, None]}
    arrays |= {x.format("test"): images[:5], y.format("test"): LABELS[:5]}
    source = save(**arrays)
    dataset = create(source=source, eval_split="validation")
    assert (dataset.num_train, dataset.num_eval, dataset.class_names) == (12, 5, ("0", "1", "2"))
    image, label = dataset.train_examples[4]
    expected = images[4] if images is RGB else np.repeat(images[4].reshape(8, 8, 1), 3, axis=2)
    np.testing.assert_array_equal(image, expected)
    assert label == 1
    gray = create(source=source, channels=1).train_examples[4][0]
    assert gray.shape == (8, 8, 1)
    luma = RGB[4] @ [0.299, 0.587, 0.114] if images is RGB else images[4].reshape(8, 8)
    np.testing.assert_allclose(gray[..., 0], luma, atol=1)


def test_a_single_pair_is_divided(create, save):
    dataset = create(source=save(image=GRAY, label=LABELS), eval_split="test", holdout_fraction=0.25)
    assert (dataset.num_train, dataset.num_eval) == (9, 3)
    assert sorted(label for _, label in map(dataset.eval_examples.__getitem__, range(3))) == [0, 1, 2]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": GRAY}, "has no images and labels by name: it has a"),
        (
            {"x_train": GRAY.astype(np.float32), "y_train": LABELS},
            r"images are float32 \[12, 8, 8, 1\]: make them uint8",
        ),
        ({"x_train": GRAY, "y_train": LABELS + 0.5}, r"labels are float64 \[12\]: make them whole numbers"),
        ({"x_train": GRAY, "y_train": np.eye(12, dtype=int)}, r"labels are int64 \[12, 12\]"),
        ({"x_train": GRAY, "y_train": LABELS[:5]}, "12 images and 5 labels: they must agree"),
        ({"x_train": GRAY, "y_train": LABELS - 1}, "labels are -1 .. 1: count classes from 0"),
        ({"x_train": GRAY, "y_train": LABELS + 10**6}, "to 65,535 at most"),
        (
            {"x_train": GRAY, "y_train": LABELS, "x_test": GRAY, "y_test": LABELS + 1},
            "split test has the label 3, the labels of train are 0 .. 2",
        ),
        ({"x_train": np.array([{}]), "y_train": LABELS}, "is damaged or holds Python objects"),
    ],
)
def test_arrays_that_are_no_data_set(create, save, arrays, message):
    with pytest.raises(UserError, match=message) as raised:
        create(source=save(**arrays))
    assert "some.npz" in str(raised.value) and "\n" not in str(raised.value)


def test_damaged_archives(create, save, tmp_path):
    source = save(x_train=GRAY, y_train=LABELS, x_test=GRAY, y_test=LABELS)
    path = tmp_path / "some.npz"
    content = path.read_bytes()
    whole = create(source=source).version
    rng = np.random.default_rng(0)
    for _ in range(100):
        damaged = bytearray(content)
        damaged[rng.integers(len(damaged))] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged if rng.random() < 0.7 else content[: rng.integers(len(content))])
        try:
            # A flip in what no reader looks at, such as a date, changes nothing.
            assert create(source=source).version == whole
        except UserError as error:
            message = str(error)
            assert "some.npz" in message and "\n" not in message  # both endings are right
    path.unlink()
    with pytest.raises(UserError, match="write it as npz:PATH"):
        create(source=source)


def test_an_archive_that_unpacks_to_more_than_the_memory_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, image=np.zeros((1000, 32, 32, 1), np.uint8), label=np.zeros(1000, np.int64))
    monkeypatch.setattr(npz_source, "_memory_bytes", lambda: 10**6)
    with pytest.raises(UserError, match="does not fit into memory"):
        npz_source.open_npz(str(path), channels=1, holdout_fraction=0.1, holdout_seed=0)
