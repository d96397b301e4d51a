import json
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from dnn_research.data import protocols, tfds_source
from dnn_research.errors import UserError
from tests.data import fake_imagenet


@pytest.fixture
def prepared(create, data_dir: str, tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of a prepared data set under a name that is not built in."""
    create(source="tfds:digits", channels=1)
    directory = tmp_path / "my_digits" / "1.0.0"
    shutil.copytree(pathlib.Path(data_dir) / "digits" / "1.0.0", directory)
    return directory


def error_of(create, **changes) -> str:
    with pytest.raises(UserError) as raised:
        create(**{"channels": 1, **changes})
    return str(raised.value)


def test_unknown_kind(create):
    message = error_of(create, source="tfsd:mnist")
    assert message == (
        "unknown data.source 'tfsd:mnist': the kinds are tfds:NAME[/CONFIG][:VERSION], "
        "folder:PATH, tar:PATH, npz:PATH, images:PATH, synthetic"
    )


def test_unreadable_locator(create):
    assert "write it as tfds:NAME[/CONFIG][:VERSION]" in error_of(create, source="tfds:")
    assert "write it as tfds:NAME[/CONFIG][:VERSION]" in error_of(create, source="tfds:mnist:3")


def test_unknown_name_suggests_and_lists(create, prepared):
    message = error_of(create, source="tfds:cifar_10", dir=str(prepared.parents[1]))
    assert message.startswith("unknown data set 'cifar_10'; did you mean 'cifar10'")
    assert "built in: mnist5k, digits, photo_patches" in message
    assert "my_digits" in message
    assert "\n" not in message


def test_not_prepared_gives_the_commands(create, tmp_path):
    lines = error_of(create, source="tfds:cifar10", dir=str(tmp_path)).splitlines()
    assert lines[0].startswith(f"data set cifar10 is not prepared in {tmp_path}: ")
    assert all(line.startswith("    ") for line in lines[1:])
    assert lines[1] == "    python -m dnn_research.tools.data prepare cifar10 FOLDER_WITH_THE_ARCHIVES"
    assert "tensorflow-cpu tensorflow-datasets importlib_resources" in lines[4]
    assert f"tfds.builder('cifar10', data_dir='{tmp_path}', file_format='array_record')" in lines[5]


def test_imagenet_not_prepared_names_the_files(create, tmp_path):
    message = error_of(create, source="tfds:imagenet2012:5.1.0", dir=str(tmp_path))
    assert "put ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar" in message
    assert str(tmp_path / "downloads" / "manual") in message
    assert "tfds.builder('imagenet2012:5.1.0'" in message


def test_directory_falls_back_to_the_environment(create, monkeypatch, prepared):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared.parents[1]))
    assert create(source="tfds:my_digits", dir=None, channels=1).num_train == 1438
    monkeypatch.delenv("TFDS_DATA_DIR")
    assert tfds_source.root_directory(None) == pathlib.Path.home() / "tensorflow_datasets"
    assert tfds_source.root_directory("~/data") == pathlib.Path.home() / "data"


def test_newest_version_or_the_one_asked_for(create, prepared):
    base = prepared.parent
    for version in ("1.9.0", "1.10.0"):
        shutil.copytree(prepared, base / version)
        info = json.loads((base / version / "dataset_info.json").read_text())
        (base / version / "dataset_info.json").write_text(json.dumps({**info, "version": version}))
    root = str(base.parent)
    assert create(source="tfds:my_digits", dir=root, channels=1).version == "1.10.0"
    assert create(source="tfds:my_digits:1.9.0", dir=root, channels=1).version == "1.9.0"
    assert "prepared there are 1.0.0, 1.9.0, 1.10.0" in error_of(create, source="tfds:my_digits:2.0.0", dir=root)


def test_configurations(create, prepared):
    root, base = prepared.parents[1], prepared.parents[1] / "with_configs"
    shutil.copytree(prepared, base / "small" / "1.0.0")
    assert create(source="tfds:with_configs", dir=str(root), channels=1).num_train == 1438
    shutil.copytree(prepared, base / "large" / "1.0.0")
    assert "choose with_configs/{large|small}" in error_of(create, source="tfds:with_configs", dir=str(root))
    assert create(source="tfds:with_configs/large", dir=str(root), channels=1).num_train == 1438


def test_built_in_configurations_and_versions(create):
    assert "choose from 32, 64, 96, photos" in error_of(create, source="tfds:photo_patches/48")
    assert "it has none, leave it out" in error_of(create, source="tfds:mnist5k/32")
    assert "has no version 2.0.0: this package makes 1.0.0" in error_of(create, source="tfds:digits:2.0.0")


def test_splits(create):
    digits = {"source": "tfds:digits", "channels": 1}
    dataset = create(**digits, train_split="train[:90%]", eval_split="train[90%:]")
    whole = create(**digits)
    assert dataset.num_train + dataset.num_eval == whole.num_train == 1438
    np.testing.assert_array_equal(dataset.eval_examples[0][0], whole.train_examples[dataset.num_train][0])
    assert "has no split 'validation': it has " in error_of(create, **digits, eval_split="validation")
    assert "is empty" in error_of(create, **digits, eval_split="train[:0]")


def test_another_format_is_refused_with_the_command(create, prepared):
    info = json.loads((prepared / "dataset_info.json").read_text())
    (prepared / "dataset_info.json").write_text(json.dumps({**info, "fileFormat": "riegeli"}))
    message = error_of(create, source="tfds:my_digits", dir=str(prepared.parents[1]))
    assert f"the data set in {prepared} is prepared as riegeli" in message
    assert f"convert_format --dataset_version_dir={prepared} --out_file_format=array_record" in message


def test_damaged_directories(create, prepared):
    root = str(prepared.parents[1])
    (shard,) = prepared.glob("*-train.array_record-*")
    content = shard.read_bytes()
    shard.unlink()
    assert f"lacks its file {shard}" in error_of(create, source="tfds:my_digits", dir=root)
    shard.write_bytes(content[: len(content) // 2])
    dataset = create(source="tfds:my_digits", dir=root, channels=1)
    with pytest.raises(UserError, match=r"example \d+ of digits, split train: .*, record \d+: it cannot"):
        list(zip(range(100), dataset.train_batches(batch_size=16, seed=0), strict=False))
    (prepared / "features.json").write_text("{")
    assert "is damaged" in error_of(create, source="tfds:my_digits", dir=root)


def test_directory_that_cannot_be_made(create, tmp_path):
    (tmp_path / "file").write_text("")
    message = error_of(create, source="tfds:digits", dir=str(tmp_path / "file"))
    assert "set data.dir or TFDS_DATA_DIR to a directory with room that you may write to" in message


def test_data_without_images_and_labels(create, tmp_path):
    with tfds.core.registered.skip_registration():

        class Words(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.0.0")

            def _info(self):
                features = tfds.features.FeaturesDict({"text": tfds.features.Text()})
                return tfds.core.DatasetInfo(builder=self, features=features)

            def _split_generators(self, dl_manager):
                return {"train": self._generate_examples()}

            def _generate_examples(self):
                yield 0, {"text": "no image"}

    Words(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
    assert "its features are text" in error_of(create, source="tfds:words", dir=str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 0}, "data.image_size is 0"),
        ({"channels": 4, "mean": (0.0,) * 4, "std": (1.0,) * 4}, "data.channels is 4"),
        ({"num_workers": -1}, "data.num_workers is -1"),
        ({"mean": (0.0, 0.0)}, "data.mean has 2 values, data.channels is 1"),
        ({"mean": (-0.5,)}, "units of 0..255"),
        ({"std": (0.0,)}, "data.std is"),
        ({"synthetic_classes": 0}, "data.synthetic_classes is 0"),
        ({"synthetic_examples": 0}, "data.synthetic_examples is 0"),
        (
            {"synthetic_classes": 10**22},
            "data.synthetic_classes is 10000000000000000000000: give 1 or more, up to 65,536",
        ),
        ({"synthetic_examples": 2**31}, "data.synthetic_examples is 2147483648: give 1 or more, up to 2,147,483,647"),
    ],
)
def test_values_out_of_range(create, changes, message):
    assert message in error_of(create, **changes)


def test_label_out_of_range(create, prepared):
    """As in the test split of imagenet2012, whose labels are all -1."""
    features = json.loads((prepared / "features.json").read_text())
    features["featuresDict"]["features"]["label"]["classLabel"]["numClasses"] = "7"
    (prepared / "features.json").write_text(json.dumps(features))
    dataset = create(source="tfds:my_digits", dir=str(prepared.parents[1]), channels=1, damaged="skip")
    with pytest.raises(UserError, match=r"train\.array_record-.*, record \d+: its label [789] is not one of the 7"):
        list(zip(range(100), dataset.train_batches(batch_size=16, seed=0), strict=False))


@pytest.fixture(scope="module")
def imagenet_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("imagenet")
    fake_imagenet.write(directory, num_train=24, num_validation=10)
    return str(directory)


def test_imagenet_from_jpegs_of_every_size(create, imagenet_dir):
    dataset = create(
        source="tfds:imagenet2012",
        dir=imagenet_dir,
        eval_split="validation",
        image_size=64,
        augment={"shorter_side": (72, 120), "flip": True, "pca_noise_std": 0.1},
        num_workers=2,
    )
    assert (dataset.version, dataset.num_classes, dataset.num_train, dataset.num_eval) == ("5.1.0", 1000, 24, 10)
    assert dataset.class_names[0] == "n01440764"
    shapes = {dataset.train_examples[i][0].shape for i in range(24)}
    assert len(shapes) > 20
    with dataset.train_batches(batch_size=24, seed=0) as batches:
        batch = next(batches)
    assert batch["image"].shape == (24, 64, 64, 3)
    assert sorted(batch["index"]) == list(range(24))
    gray = [i for i in range(24) if (np.ptp(dataset.train_examples[i][0], axis=2) == 0).all()]
    assert len(gray) >= 1
    protocol = protocols.create(name="single_crop", resize=72, image_size=64)
    with dataset.eval_batches(protocol=protocol, batch_size=4) as batches:
        assert sum(batch["weight"].sum() for batch in batches) == 10
