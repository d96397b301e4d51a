import gc
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from dnn_research.data import batches as batches_module
from dnn_research.data.batches import AHEAD, Batches

ROOT = Path(__file__).parents[2]


def load(position, out=None):
    return {"image": np.full((2, 3), position, np.uint8), "index": np.int32(position)}


def rows(batch_size, start=0, stop=None):
    starts = itertools.count(start, batch_size) if stop is None else range(start, stop, batch_size)
    return (range(first, first + batch_size) for first in starts)


def threads():
    return {thread for thread in threading.enumerate() if thread.name.startswith("batches_")}


def eventually(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    return condition()


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = threads()
    yield
    gc.collect()
    assert eventually(lambda: threads() <= before)


@pytest.fixture(autouse=True)
def many_cores(monkeypatch):
    """As many threads as are asked for."""
    monkeypatch.setattr(batches_module, "cores", lambda: 8)


def test_there_are_no_more_threads_than_cores_can_run(monkeypatch):
    monkeypatch.setattr(batches_module, "cores", lambda: 3)
    with Batches(load, rows(4), num_workers=100):
        assert len(threads()) == 6


@pytest.mark.parametrize("num_workers", [0, 1, 3, 16])
@pytest.mark.parametrize("batch_size", [1, 5, 40])
def test_batches_come_in_order_and_end(num_workers, batch_size):
    def slow_at_first(position, out):
        time.sleep(0.0004 * (7 - position % 7))
        return load(position)

    with Batches(slow_at_first, rows(batch_size, 0, 120), num_workers=num_workers) as batches:
        given = list(batches)
        with pytest.raises(StopIteration):
            next(batches)
    assert [batch["index"].tolist() for batch in given] == [list(r) for r in rows(batch_size, 0, 120)]
    for batch in given:
        assert (batch["image"].dtype, batch["image"].shape) == (np.uint8, (batch_size, 2, 3))
        assert (batch["image"] == batch["index"][:, None, None]).all()
        assert batch["index"].dtype == np.int32


@pytest.mark.parametrize(("num_workers", "batch_size"), [(2, 4), (16, 4), (4, 1)])
def test_no_more_batches_are_made_than_there_is_room_for(num_workers, batch_size):
    loaded = []

    def counting(position, out):
        loaded.append(position)
        return load(position)

    with Batches(counting, rows(batch_size), num_workers=num_workers) as batches:
        room = AHEAD + num_workers // batch_size
        for taken in range(4):
            assert eventually(lambda taken=taken: len(loaded) == (taken + room) * batch_size)
            time.sleep(0.02)
            assert len(loaded) == (taken + room) * batch_size
            next(batches)
    assert sorted(loaded)[: 8 * batch_size] == list(range(8 * batch_size))[: len(loaded)]


@pytest.mark.parametrize("num_workers", [0, 1, 4])
def test_an_exception_comes_with_its_own_batch_and_from_its_first_row(num_workers):
    def failing(position, out):
        if position in (9, 10):
            time.sleep(0.02 * (11 - position))
            raise ValueError(f"example {position} is damaged")
        return load(position)

    with Batches(failing, rows(4), num_workers=num_workers) as batches:
        assert [next(batches)["index"][0] for _ in range(2)] == [0, 4]
        with pytest.raises(ValueError, match="example 9 is damaged"):
            next(batches)
        with pytest.raises(StopIteration):
            next(batches)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize(
    "odd", [{"image": np.zeros((1, 3), np.uint8), "index": np.int32(0)}, {"image": np.zeros((2, 3), np.uint8)}]
)
def test_an_example_unlike_the_others_of_its_batch(num_workers, odd):
    with (
        Batches(lambda at, _: odd if at == 2 else load(at), rows(4), num_workers=num_workers) as batches,
        pytest.raises(ValueError, match="not like the others of its batch"),
    ):
        next(batches)


@pytest.mark.parametrize("num_workers", [0, 1, 4])
def test_a_batch_is_finished_once_when_all_its_rows_are_there(num_workers):
    def finish(batch):
        if batch["index"][0] == 8:
            raise ValueError("cannot be mixed")
        return {**batch, "sum": batch["index"] + batch["index"].sum()}

    with Batches(load, rows(4), num_workers=num_workers, finish=finish) as batches:
        assert [next(batches)["sum"].tolist() for _ in range(2)] == [[6, 7, 8, 9], [26, 27, 28, 29]]
        with pytest.raises(ValueError, match="cannot be mixed"):
            next(batches)


def test_close_waits_for_the_threads_and_may_be_called_twice():
    batches = Batches(load, rows(4), num_workers=4)
    before = threads()
    assert len(before) == 4
    next(batches)
    batches.close()
    batches.close()
    assert not any(thread.is_alive() for thread in before)
    with pytest.raises(StopIteration):
        next(batches)


@pytest.mark.parametrize("num_workers", [0, 3])
def test_a_forgotten_iterator_ends_its_threads(num_workers):
    batches = Batches(load, rows(4), num_workers=num_workers)
    next(batches)
    assert len(threads()) == num_workers
    del batches
    gc.collect()
    assert eventually(lambda: not threads())


@pytest.mark.parametrize("num_workers", [0, 3])
def test_an_image_may_be_made_in_its_row(num_workers):
    given = []

    def in_place(position, out):
        example = load(position)
        if out is None or position % 3 == 0:
            return example
        given.append(out)
        out[:] = example["image"]
        return {**example, "image": out}

    with Batches(in_place, rows(8, 0, 80), num_workers=num_workers) as batches:
        made = list(batches)
    for batch in made:
        assert (batch["image"] == batch["index"][:, None, None]).all()
    assert len(given) >= 80 - 27 - 10 * max(num_workers, 1)
    assert all(any(np.shares_memory(out, batch["image"]) for batch in made) for out in given)


def test_batches_are_apart_in_memory():
    with Batches(load, rows(4), num_workers=2) as batches:
        first, second = next(batches), next(batches)
    assert not np.shares_memory(first["image"], second["image"])


PROGRAM = """
    import time
    import numpy as np
    from dnn_research.data.batches import Batches

    def load(position, out):
        time.sleep(WAIT)
        return {"index": np.int32(position)}

    batches = Batches(load, (range(4 * n, 4 * n + 4) for n in range(10**9)), num_workers=4)
    print("started", flush=True)
    next(batches)
"""


def start(wait):
    # A shell's background jobs, and whatever they start, are born deaf to Ctrl-C.
    hearing = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    program = hearing + textwrap.dedent(PROGRAM).replace("WAIT", str(wait))
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_program_ends_though_nobody_closed_the_iterator():
    with start(0.001) as process:
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (0, "started\n", "")


def test_ctrl_c_ends_a_program_that_waits_for_a_batch():
    with start(1.5) as process:
        assert process.stdout.readline() == "started\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert process.returncode == -signal.SIGINT
