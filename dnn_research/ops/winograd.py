"""Convolution with stride 1 by fewer multiplications (Winograd; Lavin and Gray, arXiv:1509.09308).

A tile of m x m outputs of an r x r kernel takes (m + r - 1)^2 multiplications instead of m^2 r^2: 36 instead of 144 for
m = 4 and r = 3. Both the images' tiles and the kernel are brought to a = m + r - 1 points along each axis, multiplied
there, as a^2 matrix products over channels, and brought back. The kernel's gradient is the same with the sides
exchanged. Computed in float32; with six points along an axis the rounding error is some five times that of the plain
sum (3e-6 of the largest output against 6e-7, 256 channels), with four points the same.

On two cores, 8 images of 56x56, 256 channels in and out: 343 GFLOP/s as the plain sum counts them, 195 stock; kernel's
gradient 352, stock 37. The products are worked off a few images at a time, so that tiles stay in the cache and memory.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dnn_research.ops.chunks import fewest_examples, mapped, summed
from dnn_research.ops.windows import Padding, Shape, pad

Array = jax.Array

# Where polynomials are evaluated, besides infinity, for four and for six points. The usual 0, 1, -1, 2, -2 err four
# times as much.
POINTS = {4: (0.0, 1.0, -1.0), 6: (0.0, 0.75, -0.75, 1.5, -1.5)}
# Side of the kernel -> side of a tile, the first choice first -> channels from which its sums cost less than the
# multiplications that they save.
CHANNELS = {3: {4: 48, 2: 96}, 5: {2: 32}}
# Tiles of a batch from which this is faster than the plain sum, and the most that tiles may exceed the maps by.
TILES, WASTE = 100, 1.4
# Tiles that a matrix product takes at least, if the batch has them.
ROWS = 196


def tile_size(height: int, width: int, taps: int, examples: int, channels: int) -> int | None:
    """Outputs along a tile's side for maps of this size, None where the plain sum is faster.

    Args:
        height: of the outputs.
        width: of the outputs.
        taps: the kernel's side.
        examples: the batch.
        channels: the fewer of those that go in and come out.
    """
    for size, fewest in CHANNELS.get(taps, {}).items():
        tiles = -(-height // size) * -(-width // size)
        enough = channels >= fewest and tiles * examples >= max(TILES, channels // 2)
        if enough and tiles * size**2 < WASTE * height * width:
            return size
    return None


@dataclasses.dataclass(frozen=True)
class Winograd:
    """A square kernel with stride 1, in tiles of `size` x `size` outputs."""

    padding: Padding
    size: int

    def convolve(self, images: Array, kernel: Array) -> Array:
        return self._convolve(images, kernel, backward=False)

    def _convolve(self, images: Array, kernel: Array, *, backward: bool) -> Array:
        """`backward`: the images' channels are those that come out of the kernel."""
        size, taps = self.size, kernel.shape[0]
        channels, features = images.shape[-1], kernel.shape[2 if backward else 3]
        back, of_kernel, of_images = transforms(size, taps)
        weights = _both_ways(of_kernel, [list(row) for row in kernel.astype(jnp.float32)])
        if backward:
            # Written out: products with a transposed right side are slow (`products`), and each is used again and
            # again. 8 images of 28x28, 512 channels: 28 ms instead of 36.
            weights = [[lax.optimization_barrier(weight.T) for weight in row] for row in weights]
        height, width = (images.shape[1 + axis] + sum(self.padding[axis]) - taps + 1 for axis in range(2))
        down, across = -(-height // size), -(-width // size)

        def run(images: Array) -> Array:
            lines = []
            for k, tiles in enumerate(self._tiles(images, of_images, down, across)):
                products = [tile.reshape(-1, channels) @ weights[k][n] for n, tile in enumerate(tiles)]
                outputs = jnp.stack([_sum(back[i], products) for i in range(size)], 1)
                lines.append(outputs.reshape(images.shape[0], down, across * size, features))
            lines = lax.optimization_barrier(lines)
            outputs = jnp.stack([_sum(back[i], lines) for i in range(size)], 2)
            outputs = outputs.reshape(images.shape[0], down * size, across * size, features)
            return outputs[:, :height, :width].astype(images.dtype)

        return mapped(run, images, _at_once(images.shape[0], down * across, channels, features))

    def images_gradient(self, shape: Shape, kernel: Array, gradient: Array) -> Array:
        last = kernel.shape[0] - 1
        (top, bottom), (left, right) = self.padding
        around = ((last - top, last - bottom), (last - left, last - right))
        return Winograd(around, self.size)._convolve(gradient, kernel[::-1, ::-1], backward=True)

    def kernel_gradient(self, images: Array, shape: Shape, gradient: Array) -> Array:
        size, (taps, _, channels, features) = self.size, shape
        back, of_kernel, of_images = transforms(size, taps)
        points = len(of_images)
        height, width = gradient.shape[1:3]
        down, across = -(-height // size), -(-width // size)

        def run(pair: tuple[Array, Array]) -> Array:
            images, gradient = pair
            gradient = pad(gradient, ((0, down * size - height), (0, across * size - width)))
            rows = [gradient[:, i::size].astype(jnp.float32) for i in range(size)]
            lines = lax.optimization_barrier([_sum(back[:, k], rows) for k in range(points)])
            products = []
            for line, tiles in zip(lines, self._tiles(images, of_images, down, across), strict=True):
                columns = [line[:, :, j::size] for j in range(size)]
                for n, tile in enumerate(tiles):
                    x, g = tile.reshape(-1, channels), _sum(back[:, n], columns).reshape(-1, features)
                    products.append(x.T @ g)
            return jnp.stack(products)

        products = summed(run, (images, gradient), _at_once(images.shape[0], down * across, channels, features))
        # As one product, which takes no longer than sums of arrays do, and compiles in a twentieth of the time.
        products = jnp.asarray(np.kron(of_kernel, of_kernel).T) @ products.reshape(points**2, channels * features)
        return products.reshape(shape).astype(images.dtype)

    def _tiles(self, images: Array, of_images: np.ndarray, down: int, across: int) -> list[list[Array]]:
        """The images' tiles at all pairs of points: a x a arrays [B, down, across, C]."""
        size, points = self.size, len(of_images)
        (top, _), (left, _) = self.padding
        bottom, right = (
            (count - 1) * size + points - length - before
            for count, length, before in zip((down, across), images.shape[1:3], (top, left), strict=True)
        )
        x = pad(images, ((top, bottom), (left, right))).astype(jnp.float32)
        rows = [x[:, k : k + size * (down - 1) + 1 : size] for k in range(points)]
        lines = lax.optimization_barrier([_sum(of_images[k], rows) for k in range(points)])
        tiles = []
        for line in lines:
            columns = [line[:, :, j : j + size * (across - 1) + 1 : size] for j in range(points)]
            tiles.append([_sum(of_images[n], columns) for n in range(points)])
        return tiles


@functools.cache
def transforms(size: int, taps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The matrices of F(size, taps): [m, a] back to outputs, [a, r] of the kernel, [a, a] of the images.

    The product of two polynomials is found from its values at a - 1 points and its leading coefficient; transposing
    that turns it into the sliding sum (Lavin and Gray's A^T, G and B^T).
    """
    finite = POINTS[size + taps - 1]
    points = len(finite) + 1
    back, of_kernel, of_images = np.zeros((size, points)), np.zeros((points, taps)), np.zeros((points, points))
    for k, point in enumerate(finite):
        others = [other for other in finite if other != point]
        back[:, k] = point ** np.arange(size)
        of_kernel[k] = point ** np.arange(taps) / np.prod([point - other for other in others])
        of_images[k, :-1] = np.poly(others)[::-1]
    back[-1, -1] = of_kernel[-1, -1] = 1
    of_images[-1] = np.poly(finite)[::-1]
    return back.astype(np.float32), of_kernel.astype(np.float32), of_images.astype(np.float32)


def _both_ways(matrix: np.ndarray, arrays: list[list[Array]]) -> list[list[Array]]:
    """M X M^T, where the elements of X are arrays."""
    rows = [[_sum(factors, column) for factors in matrix] for column in zip(*arrays, strict=True)]
    # Without the barrier XLA computes every row's sum anew for each of its columns.
    rows = lax.optimization_barrier([list(row) for row in zip(*rows, strict=True)])
    return [[_sum(factors, row) for factors in matrix] for row in rows]


def _sum(factors: np.ndarray, arrays: Sequence[Array]) -> Array:
    """The sum of factors times arrays, without those whose factor is 0."""
    # Operators of lax: jax.numpy's take more than twice as long to trace, and a network has thousands of these.
    pairs = zip(factors, arrays, strict=True)
    terms = [a if f == 1 else lax.neg(a) if f == -1 else lax.mul(a, np.float32(f)) for f, a in pairs if f]
    return functools.reduce(lax.add, terms)


def _at_once(examples: int, tiles: int, channels: int, features: int) -> int:
    """How many examples' tiles make matrix products that are long enough for their other sides."""
    return fewest_examples(examples, of_each=tiles, wanted=max(ROWS, 3 * min(channels, features) // 4))
