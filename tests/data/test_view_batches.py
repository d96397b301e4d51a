"""Batches of views: every example once, whatever sizes, processes and threads; nothing grows with the images."""

import dataclasses

import numpy as np
import pytest

from dnn_research.data import protocols
from dnn_research.data.damage import DamagedExample
from dnn_research.data.view_batches import images_at_a_time, view_batches
from dnn_research.errors import UserError


class Images:
    """Images of a few sizes; every pixel of the i-th is i, its label is i % 3."""

    SIZES = ((16, 16), (16, 24), (24, 16), (16, 33), (30, 16))

    def __init__(self, count: int):
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return np.full((*self.SIZES[index % len(self.SIZES)], 3), index, np.uint8), index % 3


def dataset(create, count=23, num_workers=0):
    return dataclasses.replace(create(), eval_examples=Images(count), num_workers=num_workers)


@pytest.mark.parametrize("num_workers", [0, 3])
@pytest.mark.parametrize("process_count", [1, 3])
@pytest.mark.parametrize("name", ["ten_crop", "dense"])
def test_every_example_once(create, name, process_count, num_workers):
    protocol = protocols.create(name=name, resize=16, scales=(16, 20), multiple=4, image_size=8)
    found = []
    for process in range(process_count):
        for batch in view_batches(
            dataset(create, num_workers=num_workers), protocol=protocol, pixels=4 * 64 * 64, shares=2,
            process_index=process, process_count=process_count,
        ):  # fmt: skip
            assert len(batch["label"]) % 2 == 0
            for place, index in enumerate(batch["index"]):
                pixels = {int(value) for stack in batch["views"] for value in np.unique(stack[place])}
                if index < 0:
                    assert (batch["weight"][place], batch["label"][place], pixels) == (0, 0, {0})
                else:
                    assert (batch["weight"][place], batch["label"][place], pixels) == (1, index % 3, {index})
                    assert index % process_count == process
                    found.append(int(index))
    assert sorted(found) == list(range(23))


class SomeDamaged(Images):
    def __getitem__(self, index):
        if index % 5 == 2:
            raise DamagedExample("the image is damaged")
        return super().__getitem__(index)


@pytest.mark.parametrize("num_workers", [0, 3])
@pytest.mark.parametrize("name", ["ten_crop", "dense"])
def test_damaged_examples_are_in_no_batch_and_counted(create, name, num_workers):
    protocol = protocols.create(name=name, resize=16, scales=(16, 20), multiple=4, image_size=8)
    data = dataclasses.replace(create(damaged="skip"), eval_examples=SomeDamaged(23), num_workers=num_workers)
    batches = list(view_batches(data, protocol=protocol, pixels=4 * 64 * 64, shares=2))
    found = sorted(int(index) for batch in batches for index in batch["index"] if index >= 0)
    assert found == [index for index in range(23) if index % 5 != 2]
    assert sum(batch["weight"].sum() for batch in batches) == len(found) == 23 - data.eval_left_out


def test_a_damaged_example_ends_the_evaluation_by_name(create):
    protocol = protocols.create(name="ten_crop", resize=16, image_size=8)
    data = dataclasses.replace(create(), eval_examples=SomeDamaged(23))
    with pytest.raises(DamagedExample, match=r"example 2 of synthetic, split test: .*; data.damaged=skip goes on"):
        list(view_batches(data, protocol=protocol, pixels=4 * 64 * 64, shares=2))


def test_threads_change_nothing(create):
    protocol = protocols.create(name="dense", scales=(16, 20), multiple=4, image_size=8)
    one, other = (
        list(view_batches(dataset(create, num_workers=n), protocol=protocol, pixels=8 * 16 * 16, shares=1))
        for n in (0, 4)
    )
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a["index"], b["index"])
        for x, y in zip(a["views"], b["views"], strict=True):
            np.testing.assert_array_equal(x, y)


def test_batches_of_one_size_have_one_shape(create):
    protocol = protocols.create(name="dense", scales=(16,), multiple=8, image_size=8)
    shapes = [
        tuple(stack.shape for stack in batch["views"])
        for batch in view_batches(dataset(create), protocol=protocol, pixels=5 * 16 * 16, shares=1)
    ]
    sizes = {shape[0][2:4] for shape in shapes}
    # The longer sides 24, 33 and 30 become 24, 32 and 24.
    assert sizes == {(16, 16), (16, 24), (24, 16), (16, 32)}
    assert len(set(shapes)) == len(sizes)


def test_how_many_images_fit():
    crop = (1, 10, 10, 3)
    assert images_at_a_time([crop], pixels=3200, shares=1) == 32
    # Larger images, fewer of them; always one for each device, and as many for all.
    assert images_at_a_time([(1, 20, 20, 3)], pixels=3200, shares=1) == 8
    assert images_at_a_time([(1, 20, 20, 3)], pixels=3200, shares=3) == 6
    assert images_at_a_time([(1, 100, 100, 3)], pixels=3200, shares=8) == 8
    # Crops may be in the network one after the other, but a batch holds them all.
    assert images_at_a_time([(72, 10, 10, 3)], pixels=3200, shares=1) == 1
    assert images_at_a_time([(5, 10, 10, 3)], pixels=3200, shares=1) == 25
    # Of several scales, the largest is in the network alone.
    assert images_at_a_time([crop, (1, 20, 20, 3)], pixels=3200, shares=1) == 8


def test_a_damaged_image_is_named(create):
    class Damaged(Images):
        def __getitem__(self, index):
            if index == 7:
                raise UserError("the image is damaged")
            return super().__getitem__(index)

    protocol = protocols.create(name="dense", scales=(16,), image_size=8)
    broken = dataclasses.replace(dataset(create, num_workers=2), eval_examples=Damaged(9))
    with pytest.raises(UserError, match=r"example 7 of synthetic.*, split test: the image is damaged"):
        list(view_batches(broken, protocol=protocol, pixels=4096, shares=1))
