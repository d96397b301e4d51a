"""Batches of several views of each image, which need not have the same size.

Examples are read in their order and put with those whose views have the same sizes; a full group is a batch. So all
batches of one size have one shape, and a program is compiled for each size that there is, not for each example.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from dnn_research.data.multi_view import MultiView
from dnn_research.data.pipeline import Dataset
from dnn_research.errors import UserError

# All views of a batch together have at most so many times the pixels that the network sees at a time.
HELD = 4

Shape = tuple[int, ...]
Example = tuple[int, int, tuple[np.ndarray, ...]]


def view_batches(
    dataset: Dataset,
    *,
    protocol: MultiView,
    pixels: int,
    shares: int,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[dict[str, Any]]:
    """All evaluation examples of a process, each exactly once; only those of equal size are in their order.

    Damaged examples that are skipped are in no batch; `Dataset.eval_left_out` counts them.

    What is missing in a batch at the end is filled up with black images of weight 0, label 0 and index -1.

    Args:
        dataset: whose evaluation split is read.
        protocol: makes the views.
        pixels: the number of pixels, of all images of a batch together, that may be in the network at a time.
        shares: the number of images in a batch is a multiple of it.
        process_index: p of n gets the examples p, p + n, ...
        process_count: n.

    Returns:
        Iterator over dictionaries: `views`, for each pass of the protocol uint8 [B, V, H, W, C]; `label` int32 [B],
        `index` int32 [B], the position of the example in its split; `weight` float32 [B], 0 for padding.

    Raises:
        UserError: while iterating, an image is damaged or does not fit.
    """
    reader, fill = dataset.eval_reader, dataset.fill

    def load(index: int) -> Example | None:
        example = reader.read(index)
        if example is None:
            return None
        image, label = example
        try:
            return index, label, protocol.views(image, fill=fill)
        except UserError as error:
            raise UserError(f"{reader.place(index)}: {error}") from error

    groups: dict[tuple[Shape, ...], list[Example]] = {}
    for example in in_order(load, range(process_index, dataset.num_eval, process_count), dataset.num_workers):
        if example is None:
            continue
        shapes = tuple(stack.shape for stack in example[2])
        group = groups.setdefault(shapes, [])
        group.append(example)
        size = images_at_a_time(shapes, pixels=pixels, shares=shares)
        if len(group) == size:
            yield _batch(groups.pop(shapes), shapes, size)
    for shapes, group in groups.items():
        yield _batch(group, shapes, images_at_a_time(shapes, pixels=pixels, shares=shares))


def images_at_a_time(shapes: Iterable[Shape], *, pixels: int, shares: int) -> int:
    """How many images with views of these shapes [V, H, W, C] make a batch: a multiple of `shares`, and not none."""
    one = max(height * width for _, height, width, _ in shapes)
    held = sum(views * height * width for views, height, width, _ in shapes)
    return max(1, min(pixels // one, HELD * pixels // held) // shares) * shares


def in_order(load: Callable[[int], Any], indices: Iterable[int], num_workers: int) -> Iterator[Any]:
    """`load` of each index, in their order; so many threads work ahead, by a few images."""
    if not num_workers:
        yield from map(load, indices)
        return
    with ThreadPoolExecutor(num_workers) as pool:
        waiting: deque[Future] = deque()
        try:
            for index in indices:
                waiting.append(pool.submit(load, index))
                if len(waiting) > 2 * num_workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _batch(group: list[Example], shapes: tuple[Shape, ...], size: int) -> dict[str, Any]:
    stacks = [np.zeros((size, *shape), np.uint8) for shape in shapes]
    label, weight = np.zeros(size, np.int32), np.zeros(size, np.float32)
    index = np.full(size, -1, np.int32)
    for place, (position, own, views) in enumerate(group):
        label[place], index[place], weight[place] = own, position, 1
        for stack, stacked in zip(stacks, views, strict=True):
            stack[place] = stacked
    return {"views": tuple(stacks), "label": label, "index": index, "weight": weight}
