"""A turn of an input pipeline: the batches that it gives in some seconds. Standard library alone, for the peer, too."""

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

# What was made ahead while others were measured must not count: so many seconds of batches go first.
UNCOUNTED_SECONDS = 0.7


@dataclasses.dataclass(frozen=True)
class Request:
    """What a pipeline is for.

    Attributes:
        files: the folder of JPEG files.
        batch_size: images of a batch.
        threads: that decode.
        checked: so many images are compared.
    """

    files: str
    batch_size: int
    threads: int
    checked: int


def take_batches(batches: Iterator[Any], batch_size: int, at_least: float) -> dict[str, Any]:
    """Takes batches for at least so many seconds: how many images came in how many."""
    begun = time.perf_counter()
    while time.perf_counter() - begun < UNCOUNTED_SECONDS:
        next(batches)
    count, begun = 0, time.perf_counter()
    while (seconds := time.perf_counter() - begun) < at_least or not count:
        next(batches)
        count += 1
    return {"images": count * batch_size, "seconds": seconds}
