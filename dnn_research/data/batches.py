"""Batches made ahead by threads that write their rows in place: in order, and never more than a few at a time.

The work is in C, which lets other threads run meanwhile: decoding, resizing, copying. What is left in Python are some
microseconds for each example.
"""

import collections
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

Batch = dict[str, np.ndarray]
# An example before it is a row of a batch: arrays and NumPy scalars by name.
Example = Mapping[str, Any]
# Gives the example at a position. The array is where its `image` may be made, if there is one.
Load = Callable[[int, np.ndarray | None], Example]

# Batches that are ready or in the making while the consumer has another one.
AHEAD = 3
# More threads hinder each other: on two cores, 16 gave a quarter less than 2 or 4 (1,150 images a second, then 1,550).
THREADS_A_CORE = 2


class Batches:
    """An iterator over batches; `close` (or leaving a `with` block) ends its threads.

    Args:
        load: gives the example at a position; called from several threads at a time. It may write the example's
            `image` into the array that it is given, which has its shape, and return that array.
        positions: of the rows of each batch, in the order of the batches; endless or not.
        num_workers: threads that make batches, as far as there are cores for them; 0 makes each batch when it is asked
            for. The batches are the same.
        finish: what happens to a batch once all rows are there, in the thread that wrote the last one; it may change
            the arrays in place.
    """

    def __init__(
        self,
        load: Load,
        positions: Iterable[Sequence[int]],
        *,
        num_workers: int,
        finish: Callable[[Batch], Batch] = lambda batch: batch,
    ):
        self._crew = Crew(load, finish, iter(positions))
        # Without `close`, the threads end when nobody has the iterator any more, or else with the program.
        self._close = weakref.finalize(self, self._crew.close)
        self._crew.start(min(num_workers, THREADS_A_CORE * cores()))

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> Batch:
        """The next batch.

        Raises:
            Exception: what `load` raised for the first row of the batch that it failed for; the iterator is closed.
        """
        try:
            return self._crew.next()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Drops what was made ahead, and waits until every thread has ended."""
        self._close()

    def __enter__(self) -> "Batches":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Unfinished:
    """A batch whose rows are being written.

    Attributes:
        rows: those that nobody has taken yet.
        rows_left: how many are not written yet.
        done: whether it is finished, too.
    """

    def __init__(self, positions: Sequence[int]):
        self.rows = iter(range(len(positions)))
        self.rows_left = len(positions)
        self.done = False
        self._positions = positions
        self._lock = threading.Lock()
        self._arrays: Batch | None = None
        self._failed: dict[int, BaseException] = {}

    def __len__(self) -> int:
        return len(self._positions)

    def write(self, row: int, load: Load) -> None:
        """Loads the example of a row into its place; never raises."""
        try:
            arrays = self._arrays
            out = arrays["image"][row] if arrays and "image" in arrays else None
            example = load(self._positions[row], out)
            arrays = arrays or self._allocate(example)
            if example.keys() != arrays.keys():
                raise self._unlike(row)
            for name, array in arrays.items():
                value = example[name]
                if value.shape != array.shape[1:]:
                    raise self._unlike(row)
                if value is not out:
                    array[row] = value
        except BaseException as error:  # raised again where the batch is asked for
            self._failed[row] = error

    def _unlike(self, row: int) -> ValueError:
        return ValueError(f"the example at {self._positions[row]} is not like the others of its batch")

    def finish(self, finish: Callable[[Batch], Batch]) -> None:
        """What is left to do when all rows are written; never raises."""
        if not self._failed:
            try:
                self._arrays = finish(self._arrays or {})
            except BaseException as error:  # the same
                self._failed[0] = error

    def result(self) -> Batch:
        """The batch, or the exception of its first row that failed."""
        if self._failed:
            raise self._failed[min(self._failed)]
        return self._arrays or {}

    @property
    def failed(self) -> bool:
        """Whether a row could not be loaded."""
        return bool(self._failed)

    def _allocate(self, example: Example) -> Batch:
        with self._lock:
            if self._arrays is None:
                rows = {name: np.asarray(value) for name, value in example.items()}
                self._arrays = {name: np.empty((len(self), *row.shape), row.dtype) for name, row in rows.items()}
            return self._arrays


class Crew:
    """The threads, and the batches that they are at. It knows nothing of the iterator, which may be forgotten."""

    def __init__(
        self,
        load: Load,
        finish: Callable[[Batch], Batch],
        positions: Iterator[Sequence[int]],
    ):
        self._load, self._finish, self._positions = load, finish, positions
        self._lock = threading.RLock()
        self._room, self._ready = threading.Condition(self._lock), threading.Condition(self._lock)
        # Oldest first; only the newest has rows that nobody has taken yet.
        self._begun: collections.deque[Unfinished] = collections.deque()
        self._over = False
        self._threads: list[threading.Thread] = []

    def start(self, num_workers: int) -> None:
        """Starts the threads."""
        for number in range(num_workers):
            # Daemons, for those that nobody closed must not keep the program from ending.
            thread = threading.Thread(target=self._work, name=f"batches_{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def next(self) -> Batch:
        """Waits for the oldest batch and gives it out; StopIteration after the last."""
        if not self._threads:
            return self._next_without_threads()
        with self._lock:
            while not (self._begun and self._begun[0].done):
                if self._over and not self._begun:
                    raise StopIteration
                self._ready.wait()
            batch = self._begun.popleft()
            self._room.notify_all()
        return batch.result()

    def close(self) -> None:
        """Ends the threads, each after the row that it is at."""
        with self._lock:
            self._over = True
            self._begun.clear()
            self._room.notify_all()
        for thread in self._threads:
            if thread is not threading.current_thread():  # which may be the one that collects the garbage
                thread.join()

    def _next_without_threads(self) -> Batch:
        positions = None if self._over else next(self._positions, None)
        if positions is None:
            raise StopIteration
        batch = Unfinished(positions)
        for row in batch.rows:
            batch.write(row, self._load)
            if batch.failed:
                break
        batch.finish(self._finish)
        return batch.result()

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            batch, row = taken
            batch.write(row, self._load)
            with self._lock:
                batch.rows_left -= 1
                last = not batch.rows_left
            if last:
                batch.finish(self._finish)
                with self._lock:
                    batch.done = True
                    self._ready.notify()

    def _take(self) -> "tuple[Unfinished, int] | None":
        """The next row to write, as soon as there is room for its batch; None when there are no more."""
        with self._lock:
            while True:
                if self._begun and (row := next(self._begun[-1].rows, None)) is not None:
                    return self._begun[-1], row
                if self._over:
                    return None
                # Batches of fewer rows than threads are made several at a time.
                if self._begun and len(self._begun) >= AHEAD + len(self._threads) // len(self._begun[-1]):
                    self._room.wait()
                elif (positions := next(self._positions, None)) is not None:
                    self._begun.append(Unfinished(positions))
                    self._room.notify_all()
                else:
                    self._over = True
                    self._room.notify_all()
                    self._ready.notify()
