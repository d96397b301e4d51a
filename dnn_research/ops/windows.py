"""Windows that slide over images, and back: what depthwise convolution, pooling and patches are made of."""

import math
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array
Pair = tuple[int, int]
Padding = tuple[Pair, Pair]
Shape = tuple[int, ...]


def pad(images: Array, padding: Padding, value: float = 0.0) -> Array:
    """Images [B, H, W, C] with rows and columns of `value` around them; negative padding takes some away."""
    around = ((0, 0, 0), *((*pair, 0) for pair in padding), (0, 0, 0))
    return lax.pad(images, jnp.asarray(value, images.dtype), around)


def count(shape: Shape, window: Pair, strides: Pair, padding: Padding) -> Pair:
    """How many windows there are, vertically and horizontally."""
    rows, columns = ((shape[1 + axis] + sum(padding[axis]) - window[axis]) // strides[axis] + 1 for axis in range(2))
    return rows, columns


def views(padded: Array, window: Pair, strides: Pair, counts: Pair) -> Iterator[Array]:
    """For each place in the window, row by row, the pixels [B, rows, columns, C] that all windows have there."""
    for place in places(window):
        slices = [
            slice(first, first + stride * (number - 1) + 1, stride)
            for first, stride, number in zip(place, strides, counts, strict=True)
        ]
        yield padded[:, slices[0], slices[1]]


def places(window: Pair) -> list[Pair]:
    """The places in a window, row by row."""
    return [(i, j) for i in range(window[0]) for j in range(window[1])]


def put_back(
    term: Callable[[int, Callable[[Array], Array]], Array],
    shape: Shape,
    window: Pair,
    strides: Pair,
    padding: Padding,
    dtype: jnp.dtype,
) -> Array:
    """The transpose of `views`: images of this shape, each pixel the sum of what its windows give it.

    The pixels of an image are of strides[0] * strides[1] kinds by where they stand to the windows, and those of a kind
    have the same places in them: each kind is a sum of shifted arrays, and the kinds are interleaved.

    Args:
        term: (number of a place in the window, shift) -> what all windows give to the pixel there. `shift` takes an
            array with a value for each window, and must be applied to each that the term is made of; values of windows
            that are not there are zeros.
        shape: of the images, [B, H, W, C].
        dtype: of the images.
    """
    counts = count(shape, window, strides, padding)
    reach = [(window[axis] - 1) // strides[axis] for axis in range(2)]
    grid = [-(-(shape[1 + axis] + sum(padding[axis])) // strides[axis]) for axis in range(2)]
    around = tuple((reach[axis], grid[axis] - counts[axis]) for axis in range(2))

    def shift(i: int, j: int) -> Callable[[Array], Array]:
        top, left = reach[0] - i // strides[0], reach[1] - j // strides[1]
        return lambda array: pad(array, (around[0], around[1]))[:, top : top + grid[0], left : left + grid[1]]

    kinds: list[list[Array]] = [[] for _ in range(strides[0])]
    for row in range(strides[0]):
        for column in range(strides[1]):
            terms = [
                term(number, shift(i, j))
                for number, (i, j) in enumerate(places(window))
                if (i % strides[0], j % strides[1]) == (row, column)
            ]
            nothing = jnp.zeros((shape[0], *grid, shape[3]), dtype)
            kinds[row].append(sum(terms[1:], terms[0]) if terms else nothing)
    if math.prod(strides) == 1:
        together = kinds[0][0]
    else:
        together = jnp.stack([jnp.stack(line, 3) for line in kinds], 2)
        together = together.reshape(shape[0], grid[0] * strides[0], grid[1] * strides[1], shape[3])
    (top, _), (left, _) = padding
    return together[:, top : top + shape[1], left : left + shape[2]]
