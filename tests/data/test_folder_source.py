import pathlib
import pickle

import numpy as np
import pytest
from PIL import Image

from dnn_research.data import layout
from dnn_research.data.damage import DamagedExample
from dnn_research.errors import UserError


def colour(number: int) -> tuple[int, int, int]:
    return number % 256, 7 * number % 256, 100


def fill(root: pathlib.Path, *names: str) -> pathlib.Path:
    """Images of 8 x 8 pixels, each of a colour of its own, in the order of the names."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), colour(number)).save(path, "PNG")
    return root


def names_of(examples) -> list[tuple[int, int]]:
    """The number of the file, which is its red, and the label."""
    return [(int(image[0, 0, 0]), label) for image, label in map(examples.__getitem__, range(len(examples)))]


SPLITS = ("train/cat/b.png", "train/cat/a.PNG", "train/Dog/c.jpeg", "val/cat/d.png", "val/Dog/deep/er/e.webp")


def test_splits_and_sorted_classes(create, tmp_path):
    root = fill(tmp_path / "pets", *SPLITS)
    (root / "train" / "cat" / "notes.txt").write_text("no image")
    (root / "train" / ".hidden").mkdir()
    dataset = create(source=f"folder:{root}", eval_split="validation")
    assert (dataset.name, dataset.class_names) == ("pets", ("Dog", "cat"))
    assert names_of(dataset.train_examples) == [(2, 0), (1, 1), (0, 1)]
    assert names_of(pickle.loads(pickle.dumps(dataset.eval_examples))) == [(4, 0), (3, 1)]
    again = create(source=f"folder:{root}", eval_split="validation")
    assert again.version == dataset.version
    fill(root, "train/cat/new.png")
    assert create(source=f"folder:{root}", eval_split="validation").version != dataset.version


@pytest.mark.parametrize(
    ("there", "asked", "found"),
    [
        (("train", "val"), "validation", "val"),
        (("train", "val"), "test", "val"),
        (("Train", "Test"), "validation", "test"),
        (("training", "valid", "test"), "test", "test"),
        (("training", "valid", "test"), "validation", "valid"),
    ],
)
def test_a_recipes_word_finds_the_nearest_split(create, tmp_path, there, asked, found):
    for split in there:
        for number in range(1 + there.index(split)):
            fill(tmp_path, f"{split}/one/{number}.png", f"{split}/two/{number}.png")
    dataset = create(source=f"folder:{tmp_path}", eval_split=asked)
    assert dataset.num_eval == 2 + 2 * [split.lower() for split in there].index(found)
    assert dataset.num_train == 2


def test_held_out_part_is_stratified_and_always_the_same(create, tmp_path):
    fill(
        tmp_path, *(f"{label}/{i}.png" for label, n in (("a", 20), ("b", 5), ("c", 2), ("train", 1)) for i in range(n))
    )

    def split(**changes):
        dataset = create(source=f"folder:{tmp_path}", eval_split="validation", **changes)
        return names_of(dataset.train_examples), names_of(dataset.eval_examples)

    train, held = split(holdout_fraction=0.2)
    assert sorted(train + held) == sorted((number, label) for number, label in train + held)
    assert len(set(train + held)) == 28
    assert np.bincount([label for _, label in held]).tolist() == [4, 1, 1]
    assert split(holdout_fraction=0.2) == (train, held)
    assert split(holdout_fraction=0.2, holdout_seed=1) != (train, held)
    fill(tmp_path / "other" / "train", "a/0.png", "a/1.png", "b/0.png", "b/1.png")
    only_train = create(source=f"folder:{tmp_path / 'other'}", eval_split="test", holdout_fraction=0.5)
    assert (only_train.num_train, only_train.num_eval) == (2, 2)


def test_parts_of_splits(create, tmp_path):
    fill(tmp_path, *(f"train/a/{i:02}.png" for i in range(10)), "test/a/0.png", "test/a/1.png")

    def part(expression: str) -> list[int]:
        dataset = create(source=f"folder:{tmp_path}", eval_split=expression)
        return [number for number, _ in names_of(dataset.eval_examples)]

    assert part("train[:25%]") == [0, 1]
    assert part("train[7:]+test[:1]") == [7, 8, 9, 10]
    assert part("train[-20%:]") == [8, 9]
    for wrong, message in (("train[:0]", "is empty"), ("extra", "it has test, train"), ("train[", "has no split")):
        with pytest.raises(UserError, match=message):
            part(wrong)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "holds no images"),
        (("a.png", "x/b.png"), "has the image a.png in no folder: put it into a folder of its class"),
        (
            ("train/a/1.png", "train/b/1.png", "val/a/1.png"),
            r"classes in val are not those in train: 1 are missing \(b\)",
        ),
        (
            ("train/a/1.png", "val/a/1.png", "val/c/1.png"),
            r"classes in val are not those in train: 1 are unknown \(c\)",
        ),
        (("train/a/1.png", "val/a/1.png", "val/sheet.png"), "the image val/sheet.png, which is in no class of theirs"),
        (
            ("bus/s/1.png", "car/s/1.png", "train/s/1.png"),
            "has the splits train and the image bus/s/1.png, which is in",
        ),
        (
            ("train/a/1.png", "val/1.png"),
            "has the splits train and the image val/1.png, which is in no class of theirs",
        ),
        (
            ("train/a/1.png", "test/a/1.png", "val/1.png"),
            "has the splits test, train and the image val/1.png, which is",
        ),
        (("bus/1.png", "train/steam/1.png"), "has the splits train and the image bus/1.png, which is in no class of"),
        (("bus/1.png", "train/1.png", "train/extra/2.png"), "has the splits train and the image bus/1.png, which"),
        (("train/a/1.png", "train/a\n/1.png"), r"the class folder 'a\\n' has a name that is no line of text"),
        (("train/a/1.png", "val/a/1.png", "train/a/photo"), "has train/a/photo, whose name is not that of an image"),
        (("a/1.png", "b/1.png"), "no class has two images"),
    ],
)
def test_folders_that_are_no_data_set(create, tmp_path, names, message):
    with pytest.raises(UserError, match=message) as raised:
        create(source=f"folder:{fill(tmp_path, *names)}", eval_split="validation")
    assert "\n" not in str(raised.value)


def test_class_folder_without_images(create, tmp_path):
    root = fill(tmp_path, *SPLITS)
    (root / "train" / "cow").mkdir()
    with pytest.raises(UserError, match="the class folder train/cow has no images: fill or remove it"):
        create(source=f"folder:{root}", eval_split="validation")


def test_split_folder_without_images(create, tmp_path):
    """A copy that was cut short, say: what is evaluated must not change in silence."""
    root = fill(tmp_path, "train/a/1.png", "train/a/2.png")
    (root / "val" / "a").mkdir(parents=True)
    with pytest.raises(UserError, match="the split folder val has no images: fill or remove it"):
        create(source=f"folder:{root}", eval_split="validation")


def test_what_is_in_no_class_beside_whole_splits_is_left_out_and_told(create, tmp_path, caplog):
    root = fill(tmp_path, *SPLITS, "test/1.png", "test/2.png", "docs/logo.png", "raw/old/1.png")
    (root / "testing").mkdir()
    with caplog.at_level("INFO"):
        dataset = create(source=f"folder:{root}", eval_split="validation")
    assert (dataset.num_train, dataset.num_eval, dataset.class_names) == (3, 2, ("Dog", "cat"))
    told = [message.partition(": ")[2] for message in caplog.messages if message.startswith("Left out of")]
    assert sorted(told) == [f"{folder} images in no class of a split" for folder in ("docs, 1", "raw, 1", "test, 2")]


def test_split_folder_without_images_beside_another(create, tmp_path):
    """Else the test split would be what a recipe's `validation` finds."""
    root = fill(tmp_path, "train/a/1.png", "test/a/1.png")
    (root / "val").mkdir()
    with pytest.raises(UserError, match="the split folder val has no images"):
        create(source=f"folder:{root}", eval_split="validation")


def test_unlabelled_images_do_not_keep_a_part_from_being_held_out(create, tmp_path):
    root = fill(tmp_path, *(f"train/a/{number}.png" for number in range(8)), "test/1.png")
    dataset = create(source=f"folder:{root}", eval_split="validation", holdout_fraction=0.25)
    assert (dataset.num_train, dataset.num_eval) == (6, 2)


def test_results_on_other_parts_that_are_held_out_do_not_compare(create, tmp_path):
    root = fill(tmp_path, *(f"a/{number}.png" for number in range(8)))
    opened = [
        create(source=f"folder:{root}", eval_split="validation", holdout_fraction=0.25, holdout_seed=seed)
        for seed in (0, 1)
    ]
    assert [one.eval_split for one in opened] == [
        "validation (0.25 held out by seed 0)", "validation (0.25 held out by seed 1)",
    ]  # fmt: skip
    assert opened[0].version == opened[1].version  # a run that is resumed goes by it
    fill(root / "whole", *SPLITS)
    assert create(source=f"folder:{root / 'whole'}", eval_split="validation").eval_split == "validation"


def test_folder_that_is_not_there(create, tmp_path):
    for path in ("", tmp_path / "none"):
        with pytest.raises(UserError, match="which is not there: write it as folder:PATH"):
            create(source=f"folder:{path}")


@pytest.mark.parametrize(
    ("name", "value"), [("holdout_fraction", 0.0), ("holdout_fraction", 1.0), ("holdout_seed", -1)]
)
def test_holdout_out_of_range(create, tmp_path, name, value):
    fill(tmp_path, "a/1.png", "a/2.png")
    with pytest.raises(UserError, match=f"data.{name} is {value}"):
        create(source=f"folder:{tmp_path}", **{name: value})


def test_damaged_and_missing_files_are_named(create, tmp_path):
    root = fill(tmp_path, *SPLITS)
    dataset = create(source=f"folder:{root}", eval_split="validation")
    path = root / "val" / "cat" / "d.png"
    for content in (b"", b"no image", path.read_bytes()[:60]):
        path.write_bytes(content)
        with pytest.raises(DamagedExample, match=rf"{path}: the image is damaged .*{len(content)} bytes"):
            dataset.eval_examples[1]
    path.unlink()
    with pytest.raises(UserError, match=f"cannot read {path}") as raised:
        dataset.eval_examples[1]
    assert not isinstance(raised.value, DamagedExample)


def test_joined_parts_end():
    part = layout.Labelled(lambda index: np.zeros((1, 1, 1), np.uint8), np.arange(3))
    joined = layout.Joined((part, part))
    assert [joined[i][1] for i in range(6)] == [0, 1, 2, 0, 1, 2]
    with pytest.raises(IndexError):
        joined[6]
