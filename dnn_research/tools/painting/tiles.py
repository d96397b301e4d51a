"""A picture of any size through a transform network, in one piece or in tiles that leave no seam.

A tile is cut with a margin that holds everything its inner pixels depend on, so with batch normalization the tiles'
result is the whole picture's. Instance normalization divides by statistics of the whole picture: they are gathered
first, normalization by normalization over all tiles, each with the statistics of those before it, and then used in
every tile. So the result is the same to rounding; it takes about nine passes over the picture instead of one.
"""

import dataclasses
import functools
import os
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dnn_research.data import Normalization
from dnn_research.errors import UserError
from dnn_research.models.image_layers import GIVEN
from dnn_research.models.transform_net import TransformNet
from dnn_research.tasks.objective import to_bytes

# What a tile has beyond its core: the border that unpadded blocks take away, and what wrong padding can reach.
MARGIN = 64
# All sizes are multiples of it: two layers halve the picture.
MULTIPLE = 4
SMALLEST_TILE, LARGEST_TILE = 256, 1024
# The share of the free memory that is used without being told.
SHARE = 0.5


@dataclasses.dataclass(frozen=True)
class Span:
    """A tile along one axis of the canvas, in pixels: where it starts and ends, and what of it is its own."""

    start: int
    end: int
    first: int
    last: int


class Painter:
    """A transform network with its variables.

    Args:
        model: the network.
        variables: its variables.
        normalize: how it sees images.
        tile: height and width of a tile in pixels; None: the whole picture where it fits, else as large as fits.
        memory: in bytes, what may be used; None: half of what is free.
    """

    def __init__(
        self,
        model: TransformNet,
        variables: Any,
        normalize: Normalization,
        *,
        tile: int | None = None,
        memory: int | None = None,
    ) -> None:
        if tile is not None and (tile < SMALLEST_TILE or tile % MULTIPLE):
            raise UserError(f"--tile is {tile}: give a multiple of {MULTIPLE}, {SMALLEST_TILE} or more")
        self._border = model.lineage.border
        self._model = model.clone(border=0)
        self._variables = variables
        self._normalize = normalize
        self._tile, self._memory = tile, memory
        self._norms = model.normalizations if model.parts.norm == "instance" else []
        self._programs: dict[tuple[int, int, bool], Any] = {}

    def plan(self, height: int, width: int) -> tuple[int | None, int]:
        """How a picture of this size will be painted: the tile's side (None: in one piece) and the bytes it takes.

        Raises:
            UserError: not even the smallest tile fits.
        """
        canvas = (_up(height) + 2 * self._border, _up(width) + 2 * self._border)
        allowed = int(SHARE * free_memory()) if self._memory is None else self._memory
        if self._tile is not None:
            sides: list[int | None] = [self._tile]
        else:
            sides = [None, *(LARGEST_TILE >> n for n in range(3) if LARGEST_TILE >> n < max(canvas))]
        needed = 0
        for side in sides:
            shape = canvas if side is None else (min(side, canvas[0]), min(side, canvas[1]))
            needed = self._bytes(shape)
            if needed <= allowed:
                return (None if shape == canvas else side), needed
        raise UserError(
            f"a picture of {height}x{width} takes {needed / 2**30:.2f} GiB even in tiles of {sides[-1]} pixels, and "
            f"{allowed / 2**30:.2f} GiB may be used; take a smaller --tile or --size, or more --memory"
        )

    def paint(self, image: np.ndarray, mixture: np.ndarray) -> np.ndarray:
        """Paints uint8 [h, w, 3] in a mixture [styles] of the network's styles: uint8 [h, w, 3]."""
        height, width = image.shape[:2]
        side, _ = self.plan(height, width)
        below, right = _up(height) - height, _up(width) - width
        border = self._border
        canvas = mirror(image, (border, border + below), (border, border + right))
        weights = jnp.asarray(mixture, jnp.float32)[None]
        if side is None:
            painted = self._painted(self._variables, canvas, weights)
        else:
            painted = self._in_tiles(canvas, side, weights)
        return painted[:height, :width]

    def _in_tiles(self, canvas: np.ndarray, side: int, weights: Array) -> np.ndarray:
        variables = {**self._variables, **self._statistics(canvas, side, weights)}
        border = self._border
        height, width = (size - 2 * border for size in canvas.shape[:2])
        painted = np.empty((height, width, 3), np.uint8)
        for rows, columns in tiles(canvas.shape[:2], side):
            tile = canvas[rows.start : rows.end, columns.start : columns.end]
            made = self._painted(variables, tile, weights)
            (top, bottom), (left, right) = (
                (max(span.first, border), min(span.last, size - border))
                for span, size in zip((rows, columns), canvas.shape[:2], strict=True)
            )
            # Row r of what a tile becomes is row start + border + r of the canvas.
            inner = made[
                top - rows.start - border : bottom - rows.start - border,
                left - columns.start - border : right - columns.start - border,
            ]
            painted[top - border : bottom - border, left - border : right - border] = inner
        return painted

    def _statistics(self, canvas: np.ndarray, side: int, weights: Array) -> dict[str, Any]:
        """Mean and variance of the whole picture at every instance normalization, as a collection of variables."""
        given: dict[str, Any] = {}
        for norm in self._norms:
            count, mean, squares = 0.0, np.zeros(1), np.zeros(1)
            for rows, columns in tiles(canvas.shape[:2], side):
                tile = canvas[rows.start : rows.end, columns.start : columns.end]
                bounds = np.array(
                    [
                        _inner(span, norm.stride, norm.crop, size)
                        for span, size in zip((rows, columns), canvas.shape[:2], strict=True)
                    ],
                    np.int32,
                )
                variables = {**self._variables, GIVEN: given} if given else self._variables
                part = self._moments(norm)(variables, tile[None], weights, bounds)
                count, mean, squares = _merged((count, mean, squares), jax.tree.map(np.float64, part))
            given.setdefault(norm.block, {})[norm.name] = {
                "mean": jnp.asarray(mean, jnp.float32),
                "var": jnp.asarray(squares / count, jnp.float32),
            }
        return {GIVEN: given} if given else {}

    def _painted(self, variables: Any, tile: np.ndarray, weights: Array) -> np.ndarray:
        """uint8 [h, w, 3] through the network in one piece."""
        program = self._program(variables, (tile.shape[0], tile.shape[1]))
        return np.asarray(program(variables, tile[None], weights))[0]

    def _program(self, variables: Any, shape: tuple[int, int]) -> Any:
        """Compiled for tiles of this shape: (variables, uint8 [1, h, w, 3], mixture) -> uint8 pixels."""
        key = (*shape, GIVEN in variables)
        if key not in self._programs:

            def painted(variables: Any, tile: Array, weights: Array) -> Array:
                made = self._model.apply(variables, self._normalize(tile), mixture=weights)
                return to_bytes(jnp.asarray(made))

            tile = jax.ShapeDtypeStruct((1, *shape, 3), np.uint8)
            weights = jax.ShapeDtypeStruct((1, self._model.styles), np.float32)
            self._programs[key] = jax.jit(painted).lower(variables, tile, weights).compile()
        return self._programs[key]

    @functools.cache  # noqa: B019  # a painter lives as long as its command
    def _moments(self, norm: Any) -> Any:
        """Compiled: count, mean and squared deviations of what a normalization sees of a tile's own part."""
        path = (norm.block, norm.conv)

        def moments(variables: Any, tile: Array, weights: Array, bounds: Array) -> tuple[Array, Array, Array]:
            _, kept = self._model.apply(
                variables, self._normalize(tile), mixture=weights, upto=norm.block, method="features",
                capture_intermediates=lambda module, method: module.path == path and method == "__call__",
                mutable=["intermediates"],
            )  # fmt: skip
            held: Any = kept["intermediates"]
            x = held[norm.block][norm.conv]["__call__"][0][0].astype(jnp.float32)
            inside = [
                (jnp.arange(size) >= low) & (jnp.arange(size) < high)
                for size, (low, high) in zip(x.shape[:2], bounds, strict=True)
            ]
            mask = (inside[0][:, None] & inside[1][None])[..., None]
            count = mask.sum().astype(jnp.float32)
            mean = jnp.where(mask, x, 0).sum((0, 1)) / count
            deviations = jnp.where(mask, x - mean.reshape(1, 1, -1), 0)
            return count, mean, jnp.square(deviations).sum((0, 1))

        return jax.jit(moments)

    def _bytes(self, shape: tuple[int, int]) -> int:
        """What painting a canvas of this shape in one piece takes, as the compiler has planned it."""
        planned = self._program(self._variables, shape).memory_analysis()
        return int(planned.temp_size_in_bytes + planned.output_size_in_bytes + planned.argument_size_in_bytes)


def tiles(shape: tuple[int, ...], side: int) -> Iterator[tuple[Span, Span]]:
    """The tiles of a canvas [h, w]; all have the same size, and their own parts cover it once."""
    for rows in spans(shape[0], side):
        for columns in spans(shape[1], side):
            yield rows, columns


def spans(length: int, side: int, margin: int = MARGIN) -> list[Span]:
    """Tiles of `side` pixels along an axis of the canvas, each with a margin on either side of its own part."""
    if length <= side:
        return [Span(0, length, 0, length)]
    starts = [*range(0, length - side, side - 2 * margin), length - side]
    firsts = [0, *(start + margin for start in starts[1:])]
    lasts = [*firsts[1:], length]
    return [Span(s, s + side, first, last) for s, first, last in zip(starts, firsts, lasts, strict=True)]


def _inner(span: Span, stride: int, crop: int, length: int) -> tuple[int, int]:
    """The positions that are a tile's own in an activation that lost `crop` positions on each side."""
    first = max(span.first // stride, crop)
    last = min(span.last // stride, length // stride - crop)
    offset = span.start // stride + crop
    return first - offset, last - offset


def _merged(one: tuple[Any, Any, Any], other: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
    """Count, mean and squared deviations of two sets together (Chan, Golub, LeVeque 1983)."""
    count = one[0] + other[0]
    difference = other[1] - one[1]
    return (
        count,
        one[1] + difference * (other[0] / count),
        one[2] + other[2] + np.square(difference) * (one[0] * other[0] / count),
    )


def mirror(image: np.ndarray, rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
    """Mirrors uint8 [h, w, C] at its outermost pixels, as often as it takes; a single pixel is repeated."""
    return np.pad(image, (rows, columns, (0, 0)), mode="reflect")


def free_memory() -> int:
    """Bytes that are free on the device that computes; on a CPU, of the machine."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    try:
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _up(size: int) -> int:
    """To the next multiple that the network takes, and so far that something is left inside the border."""
    return max(-(-size // MULTIPLE) * MULTIPLE, MULTIPLE)
