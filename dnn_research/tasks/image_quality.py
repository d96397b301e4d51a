"""How good an enlarged picture is: PSNR and SSIM on the luminance; and how small pictures are made from large ones.

Luminance is that of YCbCr as ITU-R BT.601 has it for video, 16..235, which the field reports. SSIM: Wang, Bovik,
Sheikh, Simoncelli 2004, "Image Quality Assessment: From Error Visibility to Structural Similarity": Gaussian windows of
11 pixels with a standard deviation of 1.5, K1 = 0.01, K2 = 0.03, windows inside the picture only.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

LARGEST = 255.0
WINDOW, WINDOW_STD = 11, 1.5
# Keys' cubic (1981), which is the interpolation exact for parabolas.
CUBIC = -0.5
# No picture is closer than this to another: identical ones have a PSNR of 100 dB.
LEAST_SQUARE = LARGEST**2 * 1e-10


def luminance(pixels: Float[Array, "b h w 3"]) -> Float[Array, "b h w"]:
    """Y of YCbCr, 16..235, of R, G, B in 0..255."""
    weights = jnp.array([65.481, 128.553, 24.966], jnp.float32).reshape(1, 1, 1, 3) / LARGEST
    return 16 + (pixels * weights).sum(-1)


def psnr(one: Float[Array, "b h w"], other: Float[Array, "b h w"]) -> Float[Array, " b"]:
    """Peak signal-to-noise ratio in dB of each pair of planes, 0..255."""
    squares = jnp.square(one - other).mean((1, 2))
    return 10 * jnp.log10(LARGEST**2 / jnp.maximum(squares, LEAST_SQUARE))


def ssim(one: Float[Array, "b h w"], other: Float[Array, "b h w"]) -> Float[Array, " b"]:
    """Structural similarity of each pair of planes, 0..255: the mean over all windows."""
    places = np.arange(WINDOW) - WINDOW // 2
    taps = np.exp(-(places**2) / (2 * WINDOW_STD**2))
    taps = (taps / taps.sum()).astype(np.float32)

    def blur(planes: Array) -> Array:
        height, width = planes.shape[1] - WINDOW + 1, planes.shape[2] - WINDOW + 1
        rows = jnp.zeros_like(planes[:, :height])
        for number, tap in enumerate(taps):
            rows += tap * planes[:, number : number + height]
        blurred = jnp.zeros_like(rows[:, :, :width])
        for number, tap in enumerate(taps):
            blurred += tap * rows[:, :, number : number + width]
        return blurred

    # About the middle: the variances are small differences of large numbers.
    x, y = one - 128, other - 128
    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    mean_x, mean_y = mean_x + 128, mean_y + 128
    c1, c2 = (0.01 * LARGEST) ** 2, (0.03 * LARGEST) ** 2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return (similarity / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))).mean((1, 2))


def shrink(pixels: Float[Array, "b h w c"], factor: int) -> Float[Array, "b hs ws c"]:
    """Johnson et al. 2016, section 4.2: a Gaussian blur of 1 pixel, then every `factor`-th position, bicubic.

    Rounded into 0..255, as a file would hold it.
    """
    matrices = [bicubic(size // factor, size) @ gaussian(size, 1.0) for size in pixels.shape[1:3]]
    return jnp.clip(jnp.rint(_separable(pixels, *matrices)), 0, LARGEST)


def enlarge(pixels: Float[Array, "b h w c"], factor: int) -> Float[Array, "b hl wl c"]:
    """Bicubic interpolation, rounded into 0..255."""
    matrices = [bicubic(size * factor, size) for size in pixels.shape[1:3]]
    return jnp.clip(jnp.rint(_separable(pixels, *matrices)), 0, LARGEST)


def _separable(pixels: Array, rows: np.ndarray, columns: np.ndarray) -> Array:
    along = jnp.einsum("Hh,bhwc->bHwc", rows.astype(np.float32), pixels, precision=jax.lax.Precision.HIGHEST)
    return jnp.einsum("Ww,bhwc->bhWc", columns.astype(np.float32), along, precision=jax.lax.Precision.HIGHEST)


def bicubic(made: int, given: int) -> np.ndarray:
    """The matrix [made, given] that resamples a row of pixels, edges repeated, without antialiasing."""
    matrix = np.zeros((made, given))
    for place in range(made):
        center = (place + 0.5) * given / made - 0.5
        first = int(np.floor(center)) - 1
        for source in range(first, first + 4):
            matrix[place, min(max(source, 0), given - 1)] += _cubic(abs(center - source))
    return matrix


def _cubic(distance: float) -> float:
    if distance <= 1:
        return (CUBIC + 2) * distance**3 - (CUBIC + 3) * distance**2 + 1
    return CUBIC * (distance**3 - 5 * distance**2 + 8 * distance - 4) if distance < 2 else 0.0


def gaussian(size: int, std: float) -> np.ndarray:
    """The matrix [size, size] that blurs a row of pixels, edges repeated; cut off at four standard deviations."""
    reach = int(np.ceil(4 * std))
    taps = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * std**2))
    taps /= taps.sum()
    matrix = np.zeros((size, size))
    for place in range(size):
        for offset, tap in zip(range(-reach, reach + 1), taps, strict=True):
            matrix[place, min(max(place + offset, 0), size - 1)] += tap
    return matrix


def match_histogram(image: np.ndarray, like: np.ndarray) -> np.ndarray:
    """uint8 [h, w, C] with each channel's values in the distribution that they have in `like`, uint8 [h', w', C]."""
    matched = np.empty_like(image)
    for channel in range(image.shape[-1]):
        counts = np.bincount(image[..., channel].ravel(), minlength=256)
        wanted = np.bincount(like[..., channel].ravel(), minlength=256)
        # A value stands at the middle of its share of the pixels.
        ranks = (np.cumsum(counts) - counts / 2) / counts.sum()
        goals = (np.cumsum(wanted) - wanted / 2) / wanted.sum()
        there = wanted > 0
        table = np.interp(ranks, goals[there], np.arange(256)[there])
        matched[..., channel] = np.rint(table[image[..., channel]]).astype(np.uint8)
    return matched
