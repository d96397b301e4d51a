"""Skipping damaged examples: deterministic, resumable, counted, and never silent."""

import itertools
import logging

import numpy as np
import pytest
import simplejpeg

from dnn_research.data import damage, images, protocols
from dnn_research.data.damage import DamagedExample
from dnn_research.data.sources import Examples
from dnn_research.errors import UserError

ORIGINAL = protocols.create(name="original", resize=None, image_size=8)
BAD = (3, 17, 40)


class WithDamage:
    def __init__(self, examples: Examples, bad):
        self.examples, self.bad = examples, bad

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, index):
        if index in self.bad:
            raise DamagedExample(f"some.tar, member {index}: the image is damaged")
        return self.examples[index]


@pytest.fixture
def damaged(create, monkeypatch):
    """A data set of which some examples of both splits are damaged."""

    def open_damaged(*, bad=BAD, **changes):
        dataset = create(augment={"pca_noise_std": 0.1}, **changes)
        for split in ("train_examples", "eval_examples"):
            object.__setattr__(dataset, split, WithDamage(getattr(dataset, split), bad))
        return dataset

    return open_damaged


def take(batches, count):
    with batches:
        return list(itertools.islice(batches, count))


def assert_equal(batches, expected):
    for batch, wanted in zip(batches, expected, strict=True):
        assert batch.keys() == wanted.keys()
        for key in wanted:
            np.testing.assert_array_equal(batch[key], wanted[key])


class Photographs:
    """JPEGs, of which every second one is damaged below its upper half; keeps what was asked for."""

    def __init__(self):
        image = np.random.default_rng(0).integers(0, 255, (64, 48, 3), np.uint8)
        self.encoded = simplejpeg.encode_jpeg(image, quality=90, colorsubsampling="444")
        self.asked = []

    def __len__(self):
        return 40

    def __getitem__(self, index):
        self.asked.append((index, "whole"))
        return images.decode(self._file(index), channels=3), 0

    def read_window(self, index, window):
        self.asked.append((index, "part"))
        return images.decode(self._file(index), channels=3, window=window), 0

    def _file(self, index):
        # Sixteen bytes of the lower half are lost, which the upper half does not show.
        at = len(self.encoded) * 3 // 4
        return self.encoded if index % 2 else self.encoded[:at] + self.encoded[at + 16 :]


def test_only_what_was_whole_before_is_decoded_in_part(create):
    """So which examples are damaged is the same in every epoch, whatever crops are drawn."""
    dataset = create(augment={"area": (0.01, 0.1)}, damaged="skip")
    photographs = Photographs()
    object.__setattr__(dataset, "train_examples", photographs)
    taken = take(dataset.train_batches(batch_size=10, seed=0), 12)
    assert all(index % 2 for batch in taken for index in batch["index"])
    assert {index for index, how in photographs.asked if how == "part"} == set(range(1, 40, 2))
    for index in range(1, 40, 2):
        hows = [how for asked, how in photographs.asked if asked == index]
        assert hows[0] == "whole" and set(hows[1:]) == {"part"}
    # A new reader, as of a resumed run, decodes whole first; the crops are the same.
    fresh = create(augment={"area": (0.01, 0.1)}, damaged="skip")
    object.__setattr__(fresh, "train_examples", Photographs())
    assert_equal(take(fresh.train_batches(batch_size=10, seed=0, start_step=9), 3), taken[9:])


def test_stop_names_the_example_and_the_way_out(damaged):
    message = r"example 3 of synthetic, split test: some.tar, member 3: .*; data.damaged=skip goes on without it"
    with pytest.raises(UserError, match=message):
        take(damaged().eval_batches(protocol=ORIGINAL, batch_size=10), 1)
    with pytest.raises(UserError, match=r"of synthetic, split train: some.tar, member"):
        take(damaged().train_batches(batch_size=100, seed=0), 1)


def test_unknown_policy(create):
    with pytest.raises(UserError, match=r"data.damaged is 'ignore': choose from stop, skip"):
        create(damaged="ignore")


def test_training_puts_others_in_their_places(create, damaged, caplog):
    whole = take(create(augment={"pca_noise_std": 0.1}).train_batches(batch_size=25, seed=5), 12)
    batches = take(damaged(damaged="skip").train_batches(batch_size=25, seed=5), 12)
    replaced = np.stack([batch["replaced"] for batch in batches])
    wanted = np.stack([batch["index"] for batch in whole])
    np.testing.assert_array_equal(replaced, np.isin(wanted, BAD))
    assert replaced.sum() == 3 * len(BAD)
    shown = np.stack([batch["index"] for batch in batches])
    assert not np.isin(shown, BAD).any()
    # Stand-ins are drawn each time, and labels and images are their own.
    assert len(set(shown[replaced])) > len(BAD)
    np.testing.assert_array_equal(np.stack([batch["label"] for batch in batches]), shown % 10)
    for key in ("image", "label", "index", "color_shift"):
        for batch, other, bad in zip(batches, whole, replaced, strict=True):
            np.testing.assert_array_equal(batch[key][~bad], other[key][~bad])
    # Each is named once.
    assert sorted(record.getMessage() for record in caplog.records) == sorted(
        f"Left out: example {i} of synthetic, split train: some.tar, member {i}: the image is damaged" for i in BAD
    )
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


@pytest.mark.parametrize("num_workers", [0, 3])
def test_the_stream_stays_a_function_of_seed_and_position(damaged, num_workers):
    dataset = damaged(damaged="skip")
    whole = take(dataset.train_batches(batch_size=12, seed=3), 20)
    assert sum(batch["replaced"].sum() for batch in whole) > 3
    threaded = damaged(damaged="skip", num_workers=num_workers)
    assert_equal(take(threaded.train_batches(batch_size=12, seed=3, start_step=7), 13), whole[7:])
    for p in range(4):
        local = threaded.train_batches(batch_size=12, seed=3, process_index=p, process_count=4)
        share = [{key: value[p::4] for key, value in batch.items()} for batch in whole]
        assert_equal(take(local, 20), share)


def test_evaluation_counts_the_others_once(damaged):
    with damaged(damaged="skip").eval_batches(protocol=ORIGINAL, batch_size=8) as batches:
        batches = list(batches)
    index, weight = (np.concatenate([batch[key] for batch in batches]) for key in ("index", "weight"))
    assert index.tolist() == [*range(100), -1, -1, -1, -1]
    assert np.flatnonzero((weight == 0) & (index >= 0)).tolist() == list(BAD)
    assert weight.sum() == 100 - len(BAD)


def test_nothing_but_damage_ends_the_run(damaged):
    with pytest.raises(UserError, match=f"and {damage.MAX_DRAWS} others drawn in its place are damaged"):
        take(damaged(damaged="skip", bad=range(100)).train_batches(batch_size=4, seed=0), 1)


def test_what_is_no_damage_is_not_skipped(damaged):
    class Unreadable(WithDamage):
        def __getitem__(self, index):
            raise UserError("cannot read some.tar (Input/output error)")

    dataset = damaged(damaged="skip")
    object.__setattr__(dataset, "train_examples", Unreadable(dataset.train_examples, ()))
    with pytest.raises(UserError, match=r"example \d+ of synthetic, split train: cannot read some.tar"):
        take(dataset.train_batches(batch_size=4, seed=0), 1)
