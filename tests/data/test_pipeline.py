import dataclasses
import itertools
import threading
import time

import numpy as np
import pytest

from dnn_research.data import images, protocols
from dnn_research.data.sources import Cached
from dnn_research.errors import UserError

ORIGINAL = protocols.create(name="original", resize=None, image_size=8)
EVERYTHING = {"pad": 2, "flip": True, "pca_noise_std": 0.1}


def take(batches, count):
    with batches:
        return list(itertools.islice(batches, count))


def assert_equal(batches, expected):
    assert len(batches) == len(expected)
    for batch, wanted in zip(batches, expected, strict=True):
        assert batch.keys() == wanted.keys()
        for key in wanted:
            np.testing.assert_array_equal(batch[key], wanted[key], err_msg=key)


@pytest.mark.parametrize("size", [0, -1, 11_586, 10**22])
def test_an_image_size_that_no_image_has(create, size):
    with pytest.raises(UserError, match=rf"data.image_size is {size}: give the height and width in pixels, from 1 to"):
        create(image_size=size)


def test_batch_has_the_promised_types(create):
    dataset = create(augment=EVERYTHING)
    (batch,) = take(dataset.train_batches(batch_size=6, seed=0), 1)
    assert {key: (value.dtype.name, value.shape) for key, value in batch.items()} == {
        "image": ("uint8", (6, 8, 8, 3)),
        "label": ("int32", (6,)),
        "index": ("int32", (6,)),
        "color_shift": ("float32", (6, 3)),
    }
    with dataset.eval_batches(protocol=ORIGINAL, batch_size=6) as batches:
        batch = next(batches)
    assert {key: (value.dtype.name, value.shape) for key, value in batch.items()} == {
        "image": ("uint8", (6, 8, 8, 3)),
        "label": ("int32", (6,)),
        "index": ("int32", (6,)),
        "weight": ("float32", (6,)),
    }


@pytest.mark.parametrize("num_workers", [1, 2, 16])
def test_batches_do_not_depend_on_the_number_of_threads(create, num_workers):
    expected = take(create(augment=EVERYTHING).train_batches(batch_size=12, seed=3), 20)
    threaded = create(augment=EVERYTHING, num_workers=num_workers)
    assert_equal(take(threaded.train_batches(batch_size=12, seed=3), 20), expected)


@pytest.mark.parametrize("process_count", [2, 4])
def test_processes_share_the_global_batch_in_turn(create, process_count):
    dataset = create(augment=EVERYTHING)
    whole = take(dataset.train_batches(batch_size=12, seed=3), 20)
    for p in range(process_count):
        local = dataset.train_batches(batch_size=12, seed=3, process_index=p, process_count=process_count)
        share = [{key: value[p::process_count] for key, value in batch.items()} for batch in whole]
        assert_equal(take(local, 20), share)


@pytest.mark.parametrize("start_step", [1, 7, 19])
def test_start_step_continues_the_same_stream(create, start_step):
    dataset = create(augment=EVERYTHING, num_workers=2)
    whole = take(dataset.train_batches(batch_size=12, seed=3), 24)
    rest = take(dataset.train_batches(batch_size=12, seed=3, start_step=start_step), 24 - start_step)
    assert_equal(rest, whole[start_step:])


def test_a_late_start_costs_no_time(create):
    dataset = create()
    began = time.perf_counter()
    take(dataset.train_batches(batch_size=256, seed=0, start_step=10**9), 1)
    assert time.perf_counter() - began < 2


def test_every_epoch_is_another_order_of_all_examples(create):
    batches = take(create().train_batches(batch_size=30, seed=0), 10)
    epochs = np.concatenate([batch["index"] for batch in batches]).reshape(3, 100)
    for epoch in epochs:
        assert sorted(epoch) == list(range(100))
        assert list(epoch) != list(range(100))
    assert len({tuple(epoch) for epoch in epochs}) == 3
    (other,) = take(create().train_batches(batch_size=30, seed=1), 1)
    assert list(other["index"]) != list(batches[0]["index"])


def test_augmentation_differs_from_epoch_to_epoch(create):
    dataset = create(augment={"pca_noise_std": 0.1}, synthetic_examples=4)
    batches = take(dataset.train_batches(batch_size=4, seed=0), 50)
    shifts = np.concatenate([batch["color_shift"] for batch in batches])
    assert len(np.unique(shifts, axis=0)) == 200


def test_batch_larger_than_the_split(create):
    (batch,) = take(create(synthetic_examples=7).train_batches(batch_size=21, seed=0), 1)
    assert sorted(batch["index"]) == sorted(list(range(7)) * 3)


def test_batches_of_one_example(create):
    dataset = create()
    order = [int(batch["index"][0]) for batch in take(dataset.train_batches(batch_size=1, seed=0), 6)]
    assert order == [int(i) for batch in take(dataset.train_batches(batch_size=3, seed=0), 2) for i in batch["index"]]
    local = take(dataset.train_batches(batch_size=3, seed=0, process_index=1, process_count=3), 2)
    assert [int(batch["index"][0]) for batch in local] == [order[1], order[4]]


def test_labels_and_images_belong_to_the_index(create):
    dataset = create()
    for batch in take(dataset.train_batches(batch_size=10, seed=0), 3):
        for image, label, index in zip(batch["image"], batch["label"], batch["index"].tolist(), strict=True):
            np.testing.assert_array_equal(image, dataset.train_examples[index][0])
            assert label == dataset.train_examples[index][1] == index % 10


@pytest.mark.parametrize("process_count", [1, 2, 4])
@pytest.mark.parametrize("batch_size", [4, 32, 100, 128])
def test_evaluation_gives_every_example_once(create, batch_size, process_count):
    dataset = create(num_workers=2)
    shares = []
    for p in range(process_count):
        batches = dataset.eval_batches(
            protocol=ORIGINAL, batch_size=batch_size, process_index=p, process_count=process_count
        )
        with batches:
            shares.append(list(batches))
    assert {len(share) for share in shares} == {-(-100 // batch_size)}
    order = []
    for local in zip(*shares, strict=True):
        assert {batch["image"].shape for batch in local} == {(batch_size // process_count, 8, 8, 3)}
        index = np.stack([batch["index"] for batch in local], axis=1).ravel()
        weight = np.stack([batch["weight"] for batch in local], axis=1).ravel()
        assert set(weight[index >= 0]) == {1.0}
        assert set(weight[index < 0]) <= {0.0}
        order += list(index[weight == 1])
    assert order == list(range(100))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_evaluation_reads_the_evaluation_split(create, num_workers):
    dataset = create(num_workers=num_workers)
    with dataset.eval_batches(protocol=ORIGINAL, batch_size=50) as batches:
        batch = next(batches)
    for i in range(50):
        np.testing.assert_array_equal(batch["image"][i], dataset.eval_examples[i][0])
        assert not np.array_equal(batch["image"][i], dataset.train_examples[i][0])


def test_close_ends_the_threads(create):
    before = set(threading.enumerate())
    for closing in (lambda batches: batches.close(), lambda batches: batches.__exit__(None, None, None)):
        batches = create(num_workers=4).train_batches(batch_size=8, seed=0)
        next(batches)
        assert set(threading.enumerate()) - before  # threads of tests before may end meanwhile
        closing(batches)
        deadline = time.monotonic() + 10
        while set(threading.enumerate()) - before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not set(threading.enumerate()) - before


class Damaged:
    def __len__(self):
        return 10

    def __getitem__(self, index):
        return images.decode(b"\xff\xd8\xff no image", channels=3), 0


@pytest.mark.parametrize("num_workers", [0, 2])
def test_damaged_image_names_its_place(create, num_workers):
    dataset = create(num_workers=num_workers)
    dataset = dataclasses.replace(dataset, train_examples=Damaged(), eval_examples=Damaged())
    with (
        dataset.train_batches(batch_size=1, seed=0) as batches,
        pytest.raises(UserError, match=r"example \d of synthetic, split train: the image is damaged"),
    ):
        next(batches)
    with (
        dataset.eval_batches(protocol=ORIGINAL, batch_size=1) as batches,
        pytest.raises(UserError, match=r"example 0 of synthetic, split test: the image is damaged"),
    ):
        next(batches)


@pytest.mark.parametrize(("batch_size", "process_count"), [(0, 1), (-4, 2), (10, 4)])
def test_batch_that_processes_do_not_divide(create, batch_size, process_count):
    with pytest.raises(UserError, match=f"batch size {batch_size} cannot be divided among {process_count}"):
        create().train_batches(batch_size=batch_size, seed=0, process_count=process_count)
    with pytest.raises(UserError, match=f"batch size {batch_size} cannot be divided among {process_count}"):
        create().eval_batches(protocol=ORIGINAL, batch_size=batch_size, process_count=process_count)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seed_out_of_range(create, seed):
    with pytest.raises(UserError, match=f"seed is {seed}"):
        create().train_batches(batch_size=1, seed=seed)


def test_protocol_of_another_size(create):
    larger = protocols.create(name="original", resize=None, image_size=16)
    with create().eval_batches(protocol=larger, batch_size=1) as batches, pytest.raises(UserError, match="16, 16, 3"):
        next(batches)


def test_normalize(create):
    dataset = create()
    image = np.arange(2 * 2 * 8 * 8 * 3, dtype=np.uint8).reshape(2, 2, 8, 8, 3)
    shift = np.arange(12, dtype=np.float32).reshape(2, 2, 3) - 6
    normalized = dataset.normalize(image)
    assert normalized.dtype == np.float32
    expected = (image.astype(np.float64) - [120, 110, 100]) / [50, 60, 70]
    np.testing.assert_allclose(normalized, expected, atol=1e-6)
    shifted = (image + shift[:, :, None, None, :].astype(np.float64) - [120, 110, 100]) / [50, 60, 70]
    np.testing.assert_allclose(dataset.normalize(image, shift), shifted, atol=1e-6)


class Counting:
    reads = 0

    def __len__(self):
        return 3

    def __getitem__(self, index):
        self.reads += 1
        return np.full((2, 2, 1), index, np.uint8), index


def test_cached_examples_are_read_once_and_are_read_only():
    counting = Counting()
    cached = Cached(counting)
    for _ in range(2):
        assert [cached[i][1] for i in range(len(cached))] == [0, 1, 2]
    assert counting.reads == 3
    with pytest.raises(ValueError, match="read-only"):
        cached[1][0][0, 0] = 7


def test_synthetic_classes_can_be_told_apart(create):
    dataset = create(image_size=16)
    train = np.stack([dataset.train_examples[i][0] for i in range(100)]).astype(np.float64)
    means = np.stack([train[label::10].mean(axis=0) for label in range(10)])
    for i in range(100):
        image, label = dataset.eval_examples[i]
        assert np.argmin(((means - image) ** 2).sum(axis=(1, 2, 3))) == label
