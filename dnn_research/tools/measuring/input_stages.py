"""Where the time of a configured input pipeline goes, on one thread, and how fast it is on several."""

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax

from dnn_research import data, parallel
from dnn_research.data import images
from dnn_research.tools.measuring import memory
from dnn_research.tools.measuring.input_turns import take_batches
from dnn_research.tools.measuring.ours import GIB

# In this order; `batch` is what is left: order and random numbers, and copying into the batch.
STAGES = ("read", "decode", "augment", "batch", "transfer")


class Stopwatch:
    """Seconds spent in functions, by name; calls inside of one of the same name are a part of it."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(("examples", "decode", "augment"), 0.0)
        self._inside: set[str] = set()

    @contextlib.contextmanager
    def around(self, owner: Any, function: str, name: str) -> Iterator[None]:
        """Measures calls of `owner.function`."""
        original = getattr(owner, function)

        def measured(*arguments: Any, **options: Any) -> Any:
            if name in self._inside:
                return original(*arguments, **options)
            self._inside.add(name)
            begun = time.perf_counter()
            try:
                return original(*arguments, **options)
            finally:
                self.seconds[name] += time.perf_counter() - begun
                self._inside.remove(name)

        with mock.patch.object(owner, function, measured):
            yield


@dataclasses.dataclass(frozen=True)
class Stages:
    """What was measured.

    Attributes:
        microseconds: of an image in each of STAGES, on one thread.
        images_per_second: by number of threads, 0 for none; of each turn.
        peak_gib: the most memory of this process, in which JAX is loaded.
    """

    microseconds: dict[str, float]
    images_per_second: dict[int, list[float]]
    peak_gib: float

    def median(self, threads: int) -> float:
        """Images a second with so many threads."""
        return statistics.median(self.images_per_second[threads])


def measure(dataset: data.Dataset, *, batch_size: int, threads: list[int], rounds: int, seconds: float) -> Stages:
    """Measures training batches of a data set.

    Args:
        dataset: the pipeline.
        batch_size: images of a batch.
        threads: numbers of threads to compare.
        rounds: turns of each.
        seconds: of a turn.
    """
    microseconds = one_thread(dataset, batch_size=batch_size, seconds=seconds)
    found: dict[int, list[float]] = {number: [] for number in threads}
    for _ in range(rounds):
        for number, speeds in found.items():
            pipeline = dataclasses.replace(dataset, num_workers=number)
            with pipeline.train_batches(batch_size=batch_size, seed=0) as batches:
                answer = take_batches(batches, batch_size, seconds)
            speeds.append(answer["images"] / answer["seconds"])
    return Stages(microseconds, found, memory.peak() / GIB)


def one_thread(dataset: data.Dataset, *, batch_size: int, seconds: float) -> dict[str, float]:
    """Microseconds of an image in each of STAGES."""
    watch, count, transfer = Stopwatch(), 0, 0.0
    pipeline = dataclasses.replace(dataset, num_workers=0)
    with contextlib.ExitStack() as stack:
        for reading in ("__getitem__", "read_window"):
            if hasattr(dataset.train_examples, reading):
                stack.enter_context(watch.around(type(dataset.train_examples), reading, "examples"))
        stack.enter_context(watch.around(images, "decode", "decode"))
        stack.enter_context(watch.around(type(dataset.augment), "__call__", "augment"))
        batches = stack.enter_context(pipeline.train_batches(batch_size=batch_size, seed=0))
        jax.block_until_ready(parallel.shard(next(batches)))  # files are opened, and devices found
        watch.seconds = dict.fromkeys(watch.seconds, 0.0)
        begun = time.perf_counter()
        while time.perf_counter() - begun < seconds or not count:
            batch = next(batches)
            sent = time.perf_counter()
            jax.block_until_ready(parallel.shard(batch))
            transfer += time.perf_counter() - sent
            count += batch_size
        whole = time.perf_counter() - begun
    spent = {
        "read": watch.seconds["examples"] - watch.seconds["decode"],
        "decode": watch.seconds["decode"],
        "augment": watch.seconds["augment"],
        "batch": whole - transfer - watch.seconds["examples"] - watch.seconds["augment"],
        "transfer": transfer,
    }
    return {stage: 1e6 * spent[stage] / count for stage in STAGES}
