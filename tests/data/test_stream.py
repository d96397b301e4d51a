import threading
import time

import numpy as np
import pytest

from dnn_research.data import stream


def test_each_epoch_is_a_permutation_of_its_own():
    order = stream.Shuffle(50, seed=3)
    epochs = np.array([order[position] for position in range(500)]).reshape(10, 50)
    assert (np.sort(epochs) == np.arange(50)).all()
    assert len({tuple(epoch) for epoch in epochs}) == 10
    # Who asks for what in which order makes no difference.
    other = stream.Shuffle(50, seed=3)
    assert [other[position] for position in reversed(range(500))] == epochs.ravel()[::-1].tolist()
    assert [stream.Shuffle(50, seed=4)[position] for position in range(50)] != epochs[0].tolist()


def test_every_place_is_equally_likely():
    """Chi-squared with 9 x 9 degrees of freedom: 81 +- 13."""
    counts = np.zeros((10, 10))
    for seed in range(2000):
        counts[stream.permutation(10, seed=seed, epoch=0), np.arange(10)] += 1
    assert 40 < ((counts - 200) ** 2 / 200).sum() < 140


def test_orders_and_numbers_are_the_same_everywhere():
    """Whoever resumes a run, with whatever version of NumPy, goes on with these."""
    assert stream.permutation(10, seed=7, epoch=2).tolist() == [3, 1, 7, 8, 9, 2, 6, 0, 5, 4]
    assert stream.philox(7, stream.AUGMENTATION, 5).random_raw(2).tolist() == [
        8228888813439197253,
        16747381458280906174,
    ]


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_random_numbers_of_places_and_seeds_are_unrelated(seed):
    numbers, others = stream.RandomNumbers(seed), stream.RandomNumbers(seed + 1)
    first = np.stack([numbers[position].random(100) for position in range(200)])
    second = np.stack([others[position].random(100) for position in range(200)])
    correlations = np.corrcoef(np.concatenate([first, second]))
    assert np.abs(correlations - np.eye(400)).max() < 0.55  # 80,000 pairs of 100 numbers each
    assert abs(first.mean() - 0.5) < 0.01


@pytest.mark.parametrize("position", [0, 17, 10**15])
def test_a_moved_generator_is_as_a_new_one(position):
    numbers = stream.RandomNumbers(3)
    for before in (0, 5, position):
        numbers[before].integers(0, 10, size=3, dtype=np.int32)  # leaves half of a 64-bit number behind
        numbers[before].normal()
    new = np.random.Generator(stream.philox(3, stream.AUGMENTATION, position))
    moved = numbers[position]
    for draw in (lambda rng: rng.integers(0, 10, size=5, dtype=np.int32), lambda rng: rng.normal(size=9)):
        np.testing.assert_array_equal(draw(moved), draw(new))


def test_far_positions_cost_no_time():
    began = time.perf_counter()
    order = stream.Shuffle(1_281_167, seed=0)
    assert 0 <= order[10**15] < 1_281_167
    assert time.perf_counter() - began < 2


def test_threads_get_the_same_order_and_numbers():
    order, numbers, found = stream.Shuffle(1000, seed=0), stream.RandomNumbers(0), {}
    positions = range(0, 20_000, 7)

    def ask(number):
        found[number] = [(order[position], numbers[position].random()) for position in positions]

    workers = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    alone, own = stream.Shuffle(1000, seed=0), stream.RandomNumbers(0)
    expected = [(alone[position], own[position].random()) for position in positions]
    assert all(answers == expected for answers in found.values())
