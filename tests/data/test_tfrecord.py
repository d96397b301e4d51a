"""TFRecord without TensorFlow: the same batches as array_record, and no flipped bit that goes unseen."""

import hashlib
import itertools
import os
import pathlib
import pickle
import threading

import google_crc32c
import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds

from dnn_research import parallel
from dnn_research.data import files, tf_example, tfds_records, tfrecord
from dnn_research.data.damage import DamagedExample
from dnn_research.errors import UserError
from tests.data import fake_imagenet

PAYLOADS = [b"", b"a", b"payload " * 6, bytes(range(32))]


@pytest.fixture
def written(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "some.tfrecord"
    path.write_bytes(b"".join(map(fake_imagenet.frame, PAYLOADS)))
    return path


def read_all(path: pathlib.Path) -> list[bytes]:
    offsets = tfrecord.index_file(path).tolist()
    return [tfrecord.read_record(path, *pair) for pair in itertools.pairwise(offsets)]


def test_checksum_is_the_published_one():
    """RFC 3720, B.4, and the crc that TensorFlow 2.21 writes after the length of a record of 11,474 bytes."""
    assert google_crc32c.implementation == "c"
    assert google_crc32c.value(bytes(32)) == 0x8A9136AA
    assert google_crc32c.value(b"123456789") == 0xE3069283
    assert tfrecord.masked_crc32c((11_474).to_bytes(8, "little")) == 0xF0B5B03B


def test_records_are_what_was_written(written):
    assert read_all(written) == PAYLOADS
    written.write_bytes(b"")
    assert read_all(written) == []


def test_every_flipped_bit_is_found(written):
    """In a length when the file is indexed, elsewhere when the record is read; and by an index made before."""
    content = written.read_bytes()
    offsets = tfrecord.index_file(written).tolist()
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        written.write_bytes(damaged)
        with pytest.raises(UserError, match=r"fails its checksum|is cut short"):
            read_all(written)
        record = max(i for i, offset in enumerate(offsets) if offset <= bit // 8)
        for i in range(len(PAYLOADS)):
            if i == record:
                with pytest.raises(DamagedExample, match="fails its checksum"):
                    tfrecord.read_record(written, *offsets[i : i + 2])
            else:
                assert tfrecord.read_record(written, *offsets[i : i + 2]) == PAYLOADS[i]


def test_every_shortened_file_is_found(written):
    content = written.read_bytes()
    whole = set(tfrecord.index_file(written).tolist())
    for length in range(len(content)):
        written.write_bytes(content[:length])
        if length in whole:
            with pytest.raises(UserError, match=r"holds \d records, its data set says 4"):
                tfrecord.index_files([written], [4])
        else:
            with pytest.raises(UserError, match=r"some.tfrecord: record \d is cut short"):
                tfrecord.index_file(written)
    with pytest.raises(DamagedExample, match=r"some.tfrecord ends within it"):
        tfrecord.read_record(written, len(content) - 30, len(content))


def test_index_is_kept_and_made_anew_when_stale_or_damaged(written, cache_home, monkeypatch):
    made = []
    index_file = tfrecord.index_file
    monkeypatch.setattr(tfrecord, "index_file", lambda path: made.append(path) or index_file(path))
    before = sorted(written.parent.iterdir())
    for _ in range(2):
        (offsets,) = tfrecord.index_files([written], [4])
    assert len(made) == 1 and len(offsets) == 5
    (kept,) = (cache_home / "dnn_research" / "index").iterdir()
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    assert kept.stat().st_mode & 0o077 == 0
    assert sorted({*before, cache_home}) == sorted(written.parent.iterdir())
    content = kept.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(content)
        damaged[rng.integers(len(damaged))] ^= 1 << int(rng.integers(8))
        kept.write_bytes(damaged if rng.random() < 0.8 else content[: rng.integers(len(content))])
        np.testing.assert_array_equal(tfrecord.index_files([written], [4])[0], offsets)
    written.write_bytes(fake_imagenet.frame(b"another"))
    assert tfrecord.index_files([written], [1])[0].tolist() == [0, 23]


def test_without_a_cache_the_index_is_made_every_time(written, monkeypatch, tmp_path):
    (tmp_path / "no_folder").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "no_folder"))
    assert len(tfrecord.index_files([written], [4])[0]) == 5
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert len(tfrecord.index_files([written], [4])[0]) == 5
    assert len(list((tmp_path / "home" / ".cache" / "dnn_research" / "index").iterdir())) == 1


def test_file_that_cannot_be_read(tmp_path):
    for fail in (
        lambda path: tfrecord.index_file(path),
        lambda path: tfrecord.index_files([path], [1]),
        lambda path: files.read_at(path, 0, 1),
        lambda path: files.read_whole(path),
    ):
        with pytest.raises(UserError, match=r"cannot read .*/missing \(No such file") as raised:
            fail(tmp_path / "missing")
        assert not isinstance(raised.value, DamagedExample)


@pytest.mark.parametrize("content", [b"", b"some", bytes(3 * files.CHUNK_BYTES + 5)], ids=len)
def test_whole_files_and_pipes(content, tmp_path):
    (tmp_path / "file").write_bytes(content)
    assert files.read_whole(tmp_path / "file") == content
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(content,))
    writer.start()
    assert files.read_whole(str(tmp_path / "pipe")) == content
    writer.join()


def test_a_file_that_has_changed_since_its_size_was_asked_for(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"some content")
    stat = os.stat(tmp_path / "file")
    for size in (3, 100):
        monkeypatch.setattr(os, "fstat", lambda _, size=size: os.stat_result((*stat[:6], size, *stat[7:])))
        assert files.read_whole(tmp_path / "file") == b"some content"


# ------------------------------------------------------------------------------------------------- the same data twice


@pytest.fixture(scope="module")
def imagenets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One `imagenet2012` in both formats, three files a split."""
    directories = {}
    for file_format in ("array_record", "tfrecord"):
        directory = tmp_path_factory.mktemp(file_format)
        fake_imagenet.write(directory, num_train=41, num_validation=11, file_format=file_format, num_shards=3)
        directories[file_format] = str(directory)
    return directories


def open_imagenet(create, directory: str, **changes):
    augment = {"shorter_side": (40, 64), "flip": True, "pca_noise_std": 0.1}
    settings = {"eval_split": "validation", "image_size": 32, "augment": augment, **changes}
    return create(source="tfds:imagenet2012", dir=directory, **settings)


def digest(batches, devices: int) -> str:
    """Of the batches as they lie on the devices, brought back into the order of the global batch."""
    sha = hashlib.sha256()
    for batch in batches:
        on_devices = parallel.shard(batch)
        assert on_devices["image"].shape[0] == devices
        for name in sorted(batch):
            array = np.asarray(on_devices[name])
            sha.update(np.ascontiguousarray(array.reshape(-1, *array.shape[2:])))
    return sha.hexdigest()


def test_both_formats_give_the_same_batches_for_any_workers_and_devices(create, imagenets, monkeypatch):
    local_device_count, local_devices = jax.local_device_count(), jax.local_devices()
    digests = set()
    for directory, num_workers, devices in itertools.product(imagenets.values(), (0, 2, 4), (1, local_device_count)):
        monkeypatch.setattr(jax, "local_device_count", lambda devices=devices: devices)
        monkeypatch.setattr(jax, "local_devices", lambda devices=devices: local_devices[:devices])
        dataset = open_imagenet(create, directory, num_workers=num_workers)
        with dataset.train_batches(batch_size=16, seed=1) as batches:
            digests.add(digest(itertools.islice(batches, 4), devices))
    assert len(digests) == 1
    assert local_device_count == 8


@pytest.mark.parametrize("split", ["train[:90%]", "train[13:29]", "train[30:]+validation[:3]", "validation"])
def test_both_formats_have_the_same_parts(create, imagenets, split):
    one, other = (open_imagenet(create, directory, eval_split=split) for directory in imagenets.values())
    assert one.num_eval == other.num_eval
    for i in {0, one.num_eval // 2, one.num_eval - 1}:
        np.testing.assert_array_equal(one.eval_examples[i][0], other.eval_examples[i][0])
        assert one.eval_examples[i][1] == other.eval_examples[i][1]


def test_examples_are_those_of_tfds_itself(imagenets):
    builder = tfds.builder_from_directory(f"{imagenets['array_record']}/imagenet2012/5.1.0")
    source = builder.as_data_source(split="train", decoders={"image": tfds.decode.SkipDecoding()})
    with_tfrecord = tfds.builder_from_directory(f"{imagenets['tfrecord']}/imagenet2012/5.1.0").info
    records, _ = tfds_records.open_records(with_tfrecord, "train")
    assert len(records) == len(source) == 41
    for index, record in enumerate(pickle.loads(pickle.dumps(records))[i] for i in range(41)):
        image, label = tf_example.image_and_label(record)
        assert (image, label) == (source[index]["image"], source[index]["label"])
    with pytest.raises(IndexError):
        records[41]


def test_damage_names_file_and_record(create, imagenets, tmp_path):
    info = tfds.builder_from_directory(f"{imagenets['tfrecord']}/imagenet2012/5.1.0").info
    shard = pathlib.Path(info.splits["validation"].filepaths[1])
    content = shard.read_bytes()
    dataset = open_imagenet(create, imagenets["tfrecord"])
    first = info.splits["validation"].shard_lengths[0]
    offsets = tfrecord.index_file(shard).tolist()
    damaged = bytearray(content)
    damaged[offsets[2] + 100] ^= 4
    try:
        shard.write_bytes(damaged)
        with pytest.raises(DamagedExample, match=rf"{shard.name}, record 2: its content fails its checksum"):
            dataset.eval_examples[first + 2]
        assert dataset.eval_examples[first + 1][0].ndim == 3
        shard.write_bytes(content[: offsets[-2]])
        with pytest.raises(UserError, match=rf"{shard.name} holds {len(offsets) - 2} records, its data set says"):
            open_imagenet(create, imagenets["tfrecord"])
        with pytest.raises(DamagedExample, match=r"ends within it: the file is cut short"):
            dataset.eval_examples[first + len(offsets) - 2]
    finally:
        shard.write_bytes(content)


# -------------------------------------------------------------------------------------------------- tf.train.Example


def test_damaged_examples_are_errors(imagenets):
    """Of a message without a checksum: what is found is either a value or one kind of error, in no time."""
    info = tfds.builder_from_directory(f"{imagenets['tfrecord']}/imagenet2012/5.1.0").info
    records, _ = tfds_records.open_records(info, "train")
    record = min((records[i] for i in range(41)), key=len)
    rng = np.random.default_rng(0)
    structure = [i for i in range(len(record)) if i < 60 or i > len(record) - 60]
    errors = 0
    for _ in range(2000):
        damaged = bytearray(record)
        for position in rng.choice(structure, size=int(rng.integers(1, 4))):
            damaged[position] = rng.integers(256)
        try:
            image, label = tf_example.image_and_label(
                bytes(damaged[: None if rng.random() < 0.8 else rng.integers(200)])
            )
            assert len(image) <= len(record) and -(2**63) <= label < 2**63
        except DamagedExample:
            errors += 1
    assert errors > 1000


@pytest.mark.parametrize(
    ("encoded", "value"),
    [
        ("1a03 0a01 05", 5),  # packed
        ("1a02 0805", 5),  # not packed
        ("1a0c 0a0a ffffffffffffffffff01", -1),
        ("1a04 0a02 0506", None),  # two numbers
        ("1a02 0a00", None),  # none
        ("0a03 0a01 05", None),  # bytes
        ("", None),
    ],
)
def test_labels_as_they_may_be_written(encoded, value):
    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    label = field(1, field(1, b"label") + field(2, bytes.fromhex(encoded)))
    image = field(1, field(1, b"image") + field(2, field(1, field(1, b"JPEG"))))
    unknown = bytes([9 << 3 | 5, 0, 0, 0, 0, 10 << 3 | 1, *bytes(8), 11 << 3, 1])
    example = field(1, label + unknown + image)
    if value is None:
        with pytest.raises(
            DamagedExample, match="it has no feature 'image' with one image and 'label' with one number"
        ):
            tf_example.image_and_label(example)
    else:
        assert tf_example.image_and_label(example) == (b"JPEG", value)
