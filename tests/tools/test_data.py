"""Archives in the publishers' formats become data sets as TFDS makes them; what is wrong with a data set is found."""

import json
import pickle
import re
from pathlib import Path

import cv2
import matplotlib.image
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from dnn_research import data as data_sets
from dnn_research import recipe
from dnn_research.data import images
from dnn_research.data.tfds_source import PREPARED_FROM_ARCHIVES, open_tfds
from dnn_research.tools import data
from dnn_research.tools.preparing import PREPARATIONS, cifar, imagenet
from tests.tools import archives

QUICKSTART = str(Path(__file__).parents[2] / "configs/quickstart.py")


def prepare(capsys, name, *paths, root, partial=True):
    arguments = ["prepare", name, *map(str, paths), "--data_dir", str(root), *(["--partial"] if partial else [])]
    status = data.main(arguments)
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def examples(root, name, split):
    """All examples of a split by TFDS's own reader, without decoding images."""
    builder = tfds.builder_from_directory(next(path.parent for path in (root / name).rglob("dataset_info.json")))
    assert builder.info.file_format.value == "array_record"
    keep = {"image": tfds.decode.SkipDecoding()}
    return builder.info, list(builder.as_data_source(split=split, decoders=keep))


def prepared(root):
    """What is left in a directory for data sets, hidden files included."""
    return list(root.iterdir()) if root.exists() else []


def decoded(example, channels=3):
    return images.decode(example["image"], channels=channels)


# ------------------------------------------------------------------------------------------------------------- prepare


@pytest.mark.parametrize("kind", ["binary", "python"])
def test_cifar10(tmp_path, capsys, kind):
    pixels, labels = archives.images(12), np.arange(12) % 10
    archive = getattr(archives, f"cifar10_{kind}")(tmp_path, pixels, labels)
    status, said, _ = prepare(capsys, "cifar10", archive, root=tmp_path / "sets")
    assert status == 0
    assert "cifar10/3.0.2: train 10, test 2 examples" in said
    seen = {}
    for split in ("train", "test"):
        info, found = examples(tmp_path / "sets", "cifar10", split)
        assert info.features["label"].names == archives.CIFAR10_NAMES
        seen |= {(split, example["id"].decode()): example for example in found}
    assert sorted(key for _, key in seen) == [f"test_{n:05d}" for n in range(2)] + [f"train_{n:05d}" for n in range(10)]
    for (split, key), example in seen.items():
        place = int(key[-5:]) + (10 if split == "test" else 0)
        np.testing.assert_array_equal(decoded(example), pixels[place])
        assert example["label"] == labels[place]
    source = open_tfds("cifar10", dir=str(tmp_path / "sets"), channels=3)
    assert (source.name, source.version, source.class_names) == ("cifar10", "3.0.2", tuple(archives.CIFAR10_NAMES))
    assert len(source.split("train")) == 10


@pytest.mark.parametrize("kind", ["binary", "python"])
def test_cifar100(tmp_path, capsys, kind):
    pixels, fine = archives.images(8), np.array([3, 99, 0, 5, 7, 98, 1, 2])
    archive = getattr(archives, f"cifar100_{kind}")(tmp_path, pixels, fine // 5, fine)
    assert prepare(capsys, "cifar100", archive, root=tmp_path / "sets")[0] == 0
    info, found = examples(tmp_path / "sets", "cifar100", "train")
    assert (info.features["label"].names, info.features["coarse_label"].names) == (archives.FINE, archives.COARSE)
    for example in found:
        place = int(example["id"].decode()[-5:])
        np.testing.assert_array_equal(decoded(example), pixels[place])
        assert (example["label"], example["coarse_label"]) == (fine[place], fine[place] // 5)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "kmnist"])
def test_mnist(tmp_path, capsys, name):
    pixels, labels = archives.images(9, shape=(28, 28, 1)), np.arange(9)
    folder = archives.mnist(tmp_path, pixels, labels, train=6)
    assert prepare(capsys, name, folder, root=tmp_path / "sets")[0] == 0
    info, found = examples(tmp_path / "sets", name, "train")
    assert str(info.version) == "3.0.1"
    assert {example["label"] for example in found} == set(range(6))
    for example in found:
        np.testing.assert_array_equal(decoded(example, channels=1), pixels[example["label"]])


def test_svhn(tmp_path, capsys):
    pixels, digits = archives.images(7), np.array([0, 1, 9, 5, 0, 3, 2])
    folder = archives.svhn(tmp_path, pixels, digits, train=5)
    assert prepare(capsys, "svhn_cropped", folder, root=tmp_path / "sets")[0] == 0
    info, found = examples(tmp_path / "sets", "svhn_cropped", "train")
    assert (str(info.version), sorted(info.splits)) == ("3.1.0", ["test", "train"])
    for example in found:
        place = int(example["id"].decode()[-6:])
        assert example["label"] == digits[place]
        np.testing.assert_array_equal(decoded(example), pixels[place])


def test_imagenet(tmp_path, capsys):
    gray, png = archives.jpeg(3, "L"), cv2.imencode(".png", archives.smooth(4))[1].tobytes()
    train = {
        "n01440764": {"n01440764_10026.JPEG": archives.jpeg(1), "n01440764_2.JPEG": gray},
        "n15075141": {"n15075141_1.JPEG": archives.jpeg(5, "CMYK"), "n15075141_2.JPEG": png},
    }
    validation = {f"ILSVRC2012_val_{number:08d}.JPEG": archives.jpeg(number) for number in (1, 2, 50_000)}
    folder = archives.imagenet(tmp_path, train, validation)
    status, said, _ = prepare(capsys, "imagenet2012", folder, root=tmp_path / "sets")
    assert status == 0
    assert "imagenet2012/5.1.0: train 4, validation 3 examples" in said
    info, found = examples(tmp_path / "sets", "imagenet2012", "train")
    names = info.features["label"].names
    by_name = {example["file_name"].decode(): example for example in found}
    for synset, files in train.items():
        for name, content in files.items():
            assert names[by_name[name]["label"]] == synset
            if "n0144" in name:
                assert by_name[name]["image"] == content
            else:
                assert imagenet.components(by_name[name]["image"]) == 3
    np.testing.assert_allclose(
        decoded(by_name["n15075141_2.JPEG"]).astype(int), images.decode(png, channels=3).astype(int), atol=16
    )
    _, found = examples(tmp_path / "sets", "imagenet2012", "validation")
    labels = {example["file_name"].decode(): names[example["label"]] for example in found}
    listed = Path(tfds.core.tfds_path("datasets/imagenet2012/validation_labels.txt")).read_text().split()
    assert labels == {name: listed[int(name[15:23]) - 1] for name in validation}


def test_imagenet_components():
    assert imagenet.components(archives.jpeg(0)) == 3
    assert imagenet.components(archives.jpeg(0, "L")) == 1
    assert imagenet.components(archives.jpeg(0, "CMYK")) == 4
    assert imagenet.components(b"no image") is None
    assert imagenet.components(b"") is None


def test_coco(tmp_path, capsys):
    things = [
        {"id": 9, "bbox": [16.0, 12.0, 32.0, 24.0], "area": 768.5, "category_id": 3, "iscrowd": 0},
        {"id": 7, "bbox": [0.0, 0.0, 64.0, 48.0], "area": 3072.0, "category_id": 80, "iscrowd": 1},
    ]
    pictures = {5: (archives.jpeg(1), things), 2: (archives.jpeg(2), [])}
    folder = archives.coco(tmp_path, pictures)
    status, said, _ = prepare(capsys, "coco/2017", folder, root=tmp_path / "sets")
    assert status == 0
    assert "coco/2017/1.1.0: train 2, validation 2 examples" in said
    info, found = examples(tmp_path / "sets", "coco", "train")
    found = {int(example["image/id"]): example for example in found}
    assert {number: example["image"] for number, example in found.items()} == {n: p[0] for n, p in pictures.items()}
    objects = found[5]["objects"]
    assert [info.features["objects"]["label"].names[label] for label in objects["label"]] == ["thing 79", "thing 2"]
    np.testing.assert_allclose(objects["bbox"], [[0, 0, 1, 1], [0.25, 0.25, 0.75, 0.75]])
    assert (list(objects["is_crowd"]), list(objects["area"])) == ([True, False], [3072, 768])
    assert len(found[2]["objects"]["label"]) == 0


def test_whoever_lacks_a_data_set_is_told_the_command(tmp_path):
    assert set(PREPARED_FROM_ARCHIVES) == set(PREPARATIONS)
    for name in ("cifar10", "coco/2017"):
        with pytest.raises(data.UserError, match=rf"tools\.data prepare {name} FOLDER_WITH_THE_ARCHIVES"):
            open_tfds(name, dir=str(tmp_path), channels=3)


FEATURES = json.loads((Path(__file__).parent / "tfds_features.json").read_text())


def test_features_are_those_of_tfds(tmp_path, capsys):
    """Recorded from TFDS 4.9.10 with TensorFlow 2.21: `features.json` of its own builders."""
    archives.coco(tmp_path, {5: (archives.jpeg(1), [])})
    assert prepare(capsys, "coco/2017", tmp_path, root=tmp_path / "sets")[0] == 0
    directory = next((tmp_path / "sets").rglob("features.json"))
    assert json.loads(directory.read_text()) == FEATURES["coco/2017"]
    assert PREPARATIONS.keys() == FEATURES.keys() | {"coco/2014", "fashion_mnist", "kmnist"}


def test_a_data_set_that_is_there_is_left_alone(tmp_path, capsys):
    archive = archives.cifar10_binary(tmp_path, archives.images(12), np.arange(12) % 10)
    assert prepare(capsys, "cifar10", archive, root=tmp_path / "sets")[0] == 0
    before = {path: path.read_bytes() for path in (tmp_path / "sets").rglob("*") if path.is_file()}
    status, _, error = prepare(capsys, "cifar10", archive, root=tmp_path / "sets")
    assert (status, error.count("\n")) == (1, 1)
    assert "cifar10/3.0.2 is there already" in error
    assert {path: path.read_bytes() for path in (tmp_path / "sets").rglob("*") if path.is_file()} == before


def test_fewer_examples_than_published(tmp_path, capsys):
    archive = archives.cifar10_binary(tmp_path, archives.images(12), np.arange(12) % 10)
    status, _, error = prepare(capsys, "cifar10", archive, root=tmp_path / "sets", partial=False)
    assert status == 1
    assert "hold 10 examples for train, published are 50,000" in error
    assert not prepared(tmp_path / "sets")


def cifar_with(tmp_path, **changed):
    """A CIFAR-10 archive for Python with another value in its first batch."""
    content = {b"labels": [1, 2], b"data": archives.planes(archives.images(2))} | {
        key.encode(): value for key, value in changed.items()
    }
    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    members = {f"cifar-10-batches-py/{name}": archives.python2_pickle(content) for name in names}
    meta = {b"label_names": [name.encode() for name in archives.CIFAR10_NAMES]}
    members["cifar-10-batches-py/batches.meta"] = archives.python2_pickle(meta)
    return archives.tar(tmp_path / "cifar-10-python.tar.gz", members)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": [1]}, "the labels of data_batch_1 do not fit its images"),
        ({"labels": [1, 10]}, "the labels of data_batch_1 do not fit its images"),
        ({"labels": b"12"}, "data_batch_1 holds no labels"),
        ({"data": archives.planes(archives.images(2))[:, :100]}, "holds no images of 32 x 32"),
        ({"data": np.zeros((2, 3072), np.float32)}, "an array of b'f4' is refused"),
        ({"data": [1, 2]}, "holds no images of 32 x 32"),
    ],
)
def test_cifar_that_does_not_fit(tmp_path, capsys, changed, message):
    status, _, error = prepare(capsys, "cifar10", cifar_with(tmp_path, **changed), root=tmp_path / "sets")
    assert (status, error.count("\n")) == (1, 1)
    assert message in error
    assert not prepared(tmp_path / "sets")


class Evil:
    def __reduce__(self):
        return print, ("it ran",)


@pytest.mark.parametrize("content", [pickle.dumps(Evil()), pickle.dumps([Evil()], protocol=2)])
def test_a_pickle_that_would_run_something_is_refused(tmp_path, capsys, content):
    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch", "batches.meta"]
    archive = archives.tar(
        tmp_path / "cifar-10-python.tar.gz", {f"cifar-10-batches-py/{name}": content for name in names}
    )
    status, said, error = prepare(capsys, "cifar10", archive, root=tmp_path / "sets")
    assert (status, said) == (1, "")
    assert re.search(r"asks for '\S+' is refused", error)


def cifar10_binary(folder):
    archives.cifar10_binary(folder, archives.images(12), np.arange(12) % 10)


def cifar10_python(folder):
    archives.cifar10_python(folder, archives.images(12), np.arange(12) % 10)


def mnist(folder, labels=(0, 1, 2), shape=(28, 28, 1)):
    archives.mnist(folder, archives.images(3, shape=shape), list(labels), 2)


def svhn(folder, digits=(1, 2, 3, 4)):
    archives.svhn(folder, archives.images(4), list(digits), 3)


def coco(folder):
    archives.coco(folder, {1: (archives.jpeg(1), [])})


def an_error_page(path):
    path.write_bytes(b"<html>not found")


@pytest.mark.parametrize("spoil", [archives.damage, archives.cut, an_error_page])
@pytest.mark.parametrize(
    ("name", "make", "file"),
    [
        ("cifar10", cifar10_binary, "cifar-10-binary.tar.gz"),
        ("cifar10", cifar10_python, "cifar-10-python.tar.gz"),
        ("mnist", mnist, "train-images-idx3-ubyte.gz"),
        ("svhn_cropped", svhn, "train_32x32.mat"),
        ("coco/2017", coco, "train2017.zip"),
    ],
)
def test_damaged_archives(tmp_path, capsys, name, make, file, spoil):
    make(tmp_path)
    spoil(tmp_path / file)
    status, _, error = prepare(capsys, name, tmp_path, root=tmp_path / "sets")
    assert (status, error.count("\n")) == (1, 1)
    assert str(tmp_path / file) in error
    assert not prepared(tmp_path / "sets")


def test_imagenet_that_is_cut_short(tmp_path, capsys):
    train = {"n01440764": {f"n01440764_{n}.JPEG": archives.jpeg(n) for n in range(8)}}
    archives.imagenet(tmp_path, train, {})
    archives.cut(tmp_path / "ILSVRC2012_img_train.tar")
    status, _, error = prepare(capsys, "imagenet2012", tmp_path, root=tmp_path / "sets")
    assert (status, error.count("\n")) == (1, 1)
    assert "ILSVRC2012_img_train.tar" in error
    assert not prepared(tmp_path / "sets")


def cifar10_of_another(folder):
    archives.tar(folder / "cifar-10-python.tar.gz", {"x/y": b""})


def mnist_with_labels_for_images(folder):
    mnist(folder)
    labels = (folder / "train-labels-idx1-ubyte.gz").read_bytes()
    (folder / "train-images-idx3-ubyte.gz").write_bytes(labels)


def coco_without_annotations(folder):
    coco(folder)
    (folder / "annotations_trainval2017.zip").unlink()


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("cifar10", cifar10_of_another, "has no cifar-10-batches-py/batches.meta"),
        ("cifar10", lambda folder: None, "cifar10 needs cifar-10-python.tar.gz or cifar-10-binary.tar.gz"),
        ("mnist", mnist_with_labels_for_images, "no idx file of bytes in 3 dimensions"),
        ("mnist", lambda folder: mnist(folder, shape=(20, 28, 1)), "images of 20 x 28 pixels, not 28 x 28"),
        ("mnist", lambda folder: mnist(folder, labels=(0, 12, 2)), "a label 12"),
        ("svhn_cropped", lambda folder: svhn(folder, (1, 2, 30, 4)), "its labels are not 1 to 10"),
        ("imagenet2012", lambda folder: archives.imagenet(folder, {"n1": {"a": b"x"}}, {}), "holds n1.tar"),
        ("imagenet2012", lambda folder: archives.imagenet(folder, {}, {"dog.JPEG": b"x"}), "holds dog.JPEG"),
        ("imagenet2012", lambda folder: None, "no archive of imagenet2012"),
        ("coco/2017", coco_without_annotations, "no images with their annotations"),
    ],
)
def test_wrong_archives(tmp_path, capsys, name, make, message):
    make(tmp_path)
    status, _, error = prepare(capsys, name, tmp_path, root=tmp_path / "sets")
    assert (status, error.count("\n")) == (1, 1)
    assert message in error
    assert not prepared(tmp_path / "sets")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare", "cifar", "x"], "unknown data set 'cifar'; did you mean 'cifar10'?"),
        (["prepare", "cifar10", "/nowhere"], "there is no file or folder /nowhere"),
        (["prepare", "cifar10", QUICKSTART], "quickstart.py is no archive of cifar10"),
        (["prepare", "cifar10", "x", "--partail"], "unknown argument --partail"),
        (["prepare"], "required: name"),
        (["verify"], "required: --config"),
        (["show", "--config", QUICKSTART, "--output", "x.png", "--classes", "0"], "--classes is 0"),
        ([], "required: command"),
    ],
)
def test_wrong_arguments(capsys, arguments, message):
    assert data.main(arguments) == 1
    error = capsys.readouterr().err
    assert (error.count("\n"), message in error) == (1, True), error


# ------------------------------------------------------------------------------------------------------ verify and show


class Listed:
    """Examples of a list; an exception in it is raised."""

    def __init__(self, listed):
        self.listed = listed

    def __len__(self):
        return len(self.listed)

    def __getitem__(self, index):
        if isinstance(self.listed[index], Exception):
            raise self.listed[index]
        return self.listed[index]


@pytest.fixture
def dataset(monkeypatch):
    """What `--config` opens, with these examples."""
    create = data_sets.create

    def put(train, evaluation):
        def changed(**section):
            opened = create(**section)
            object.__setattr__(opened, "train_examples", Listed(train))
            object.__setattr__(opened, "eval_examples", Listed(evaluation))
            return opened

        monkeypatch.setattr(data_sets, "create", lambda **section: changed(**section))

    return put


SYNTHETIC = [
    "--config", QUICKSTART, "--config.data.source=synthetic", "--config.data.synthetic_classes=3",
    "--config.data.image_size=8",
]  # fmt: skip


SECTION = recipe.load(QUICKSTART, [word.removeprefix("--") for word in SYNTHETIC[2:]]).config.data.to_dict()


def labelled(count, seed=0):
    return [(image, number % 3) for number, image in enumerate(archives.images(count, seed, (8, 8, 1)))]


def test_a_sound_data_set(dataset, capsys):
    dataset(labelled(9), labelled(6, seed=1))
    assert data.main(["verify", *SYNTHETIC]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^train +9 +0 +3 of 3 +3\.\.3 +0 +8 x 8$", said, re.MULTILINE)
    assert re.search(r"^test +6 +0 +3 of 3 +2\.\.2 +0 +8 x 8$", said, re.MULTILINE)
    assert said.endswith("nothing is wrong\n")


def test_what_is_wrong_with_a_data_set(dataset, capsys):
    train, evaluation = labelled(9), labelled(6, seed=1)
    train[4] = data.UserError("the image is damaged")
    train[5] = (train[5][0], 3)
    train += [(train[0][0].copy(), 0), (archives.images(1, 7, (9, 12, 1))[0], 1)]
    evaluation = [(image, 0) for image, _ in evaluation] + [(train[2][0].copy(), 2), (train[0][0].reshape(4, 16, 1), 0)]
    dataset(train, evaluation)
    assert data.main(["verify", *SYNTHETIC]) == 1
    said = capsys.readouterr().out
    assert re.search(
        r"^train +11 +1 +3 of 3 +2\.\.4 +1 +8\.\.9 \(median 8\) x 8\.\.12 \(median 8\)$", said, re.MULTILINE
    )
    assert said.splitlines()[-4:] == [
        "train: example 4 cannot be read: the image is damaged",
        "train: label 3 is out of range, there are 3 classes",
        f"test: 1 of 3 classes have no example: {data_sets.create(**SECTION).class_names[1]}",
        "1 images of test are in train too (indices 2 = 6)",
    ]


def test_pictures_without_classes(tmp_path, capsys):
    for number in range(4):
        Image.fromarray(np.full((20, 24, 3), 60 * number, np.uint8)).save(tmp_path / f"{number}.png")
    style = str(Path(QUICKSTART).with_name("style_transfer.py"))
    words = ["--config", style, f"--config.data.source=images:{tmp_path}", "--config.data.train_split=all[:3]"]
    words += ["--config.data.eval_split=all[3:]", "--config.data.image_size=16"]
    words += ["--config.data.augment.shorter_side=(16,16)"]
    assert data.main(["verify", *words]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^all\[:3\] +3 +0 +0 +20 x 24$", said, re.MULTILINE) and said.endswith("nothing is wrong\n")
    assert data.main(["show", *words, "--output", str(tmp_path / "shown/x.png"), "--per_class", "3"]) == 0


@pytest.mark.parametrize("augmented", [False, True])
def test_show_draws_a_row_for_each_class(tmp_path, capsys, augmented):
    output = tmp_path / "pictures" / "grid.png"
    arguments = ["show", *SYNTHETIC, "--per_class", "4", "--output", str(output), *(["--augmented"] * augmented)]
    assert data.main(arguments) == 0
    height, width = matplotlib.image.imread(output).shape[:2]
    assert 0.6 < height / width < 0.9  # three rows, four columns and the names
    assert data.main(arguments) == 1
    assert "is there already; give another --output, or --overwrite" in capsys.readouterr().err
    assert data.main([*arguments, "--overwrite"]) == 0
    assert data.main([*arguments, "--overwrite", "--seed", "-1"]) == 1
    assert "--seed is -1: give 0 or more" in capsys.readouterr().err
    assert data.main([word.removesuffix(".png") for word in arguments]) == 1
    assert "give a file .png, .svg or .pdf" in capsys.readouterr().err


def test_show_does_not_search_for_ever(dataset, tmp_path, capsys):
    dataset([(image, 7) for image, _ in labelled(4)], labelled(3))
    assert data.main(["show", *SYNTHETIC, "--output", str(tmp_path / "x.png")]) == 1
    assert "none of the 3 classes was found" in capsys.readouterr().err


def test_unpickled_arrays_are_whole():
    pixels = archives.planes(archives.images(3))
    stored = cifar._unpickled(Path("x"), "y", archives.python2_pickle({b"data": pixels, b"labels": [1, -2]}))
    np.testing.assert_array_equal(stored[b"data"], pixels)
    assert stored[b"labels"] == [1, -2]
