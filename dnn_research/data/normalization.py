"""From pixels 0..255 to what a network sees, on the device, in float32: the choices of `data.normalization`.

| name | what is done | who did so |
|---|---|---|
| channel | minus the mean, divided by the standard deviation of each channel, as the config gives them | VGG (mean) |
| pixel_mean | minus the mean image of the training split, divided by the config's deviations | AlexNet, ResNet |
| per_image | minus the image's own mean, divided by its own standard deviation | |
| gcn | global contrast normalization: minus the image's own mean, scaled to a length of 55 | |
| gcn_zca | the same, then ZCA whitening with the training split's covariance | Network in Network |

Contrast normalization and whitening are pylearn2's for CIFAR-10 (`GlobalContrastNormalization(scale=55)`, `ZCA()`),
from Goodfellow et al. 2013 ("Maxout networks", arXiv:1302.4389, section 5.2), which Lin, Chen, Yan 2014
(arXiv:1312.4400, section 4.2) took over.

Differs from the papers: all of it comes after augmentation, also where padding or crops were made of normalized images.
The mean image stays where it is when a crop moves, as the central part of it does in Krizhevsky's code (cuda-convnet2).
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dnn_research.data import statistics
from dnn_research.errors import UserError, choose, field, read_json

Images = jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Normalization:
    """A normalization with its numbers.

    Attributes:
        name: a key of NORMALIZATIONS.
        mean: of each channel, in units of 0..255.
        std: standard deviation of each channel, in units of 0..255.
        arrays: statistics of the training split, as far as the normalization needs any.
    """

    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    arrays: Mapping[str, np.ndarray]

    def __call__(self, image: np.ndarray | jax.Array, color_shift: np.ndarray | jax.Array | None = None) -> jax.Array:
        """Normalizes images.

        Args:
            image: [..., H, W, C], values 0..255.
            color_shift: [..., C], added to every pixel first; units of 0..255.

        Returns:
            float32 [..., H, W, C].

        Raises:
            UserError: the statistics are those of images of another size.
        """
        pixels = jnp.asarray(image, jnp.float32)
        if color_shift is not None:
            pixels = pixels + jnp.asarray(color_shift, jnp.float32)[..., None, None, :]
        return NORMALIZATIONS[self.name](self, pixels)


def channel(normalization: Normalization, pixels: Images) -> Images:
    """By mean and standard deviation of each channel."""
    return (pixels - _like(pixels, normalization.mean)) / _like(pixels, normalization.std)


def pixel_mean(normalization: Normalization, pixels: Images) -> Images:
    """By the mean image of the training split."""
    image = normalization.arrays["pixel_mean"]
    _check_size(normalization, pixels, image.size)
    return (pixels - _like(pixels, image)) / _like(pixels, normalization.std)


def per_image(normalization: Normalization, pixels: Images) -> Images:
    """By the image's own mean and standard deviation; a flat image becomes zeros, as in tf.image."""
    del normalization
    centred = pixels - pixels.mean((-3, -2, -1), keepdims=True)
    deviation = jnp.sqrt((centred**2).mean((-3, -2, -1), keepdims=True))
    # Of whole numbers the smallest that is not 0 is about that of one pixel off by one.
    return centred / jnp.maximum(deviation, np.prod(pixels.shape[-3:]) ** -0.5)


def contrast(normalization: Normalization, pixels: Images) -> Images:
    """Global contrast normalization; a flat image becomes zeros."""
    del normalization
    centred = pixels - pixels.mean((-3, -2, -1), keepdims=True)
    lengths = jnp.sqrt((centred**2).sum((-3, -2, -1), keepdims=True)) / statistics.GCN_SCALE
    return centred / jnp.where(lengths < 1e-8, 1, lengths)


def whitened(normalization: Normalization, pixels: Images) -> Images:
    """Contrast normalization, then ZCA whitening."""
    mean, matrix = (normalization.arrays[name] for name in ("zca_mean", "zca_matrix"))
    _check_size(normalization, pixels, mean.size)
    values = contrast(normalization, pixels).reshape(*pixels.shape[:-3], mean.size)
    white = jnp.matmul(values - _like(values, mean), matrix, precision=lax.Precision.HIGHEST)
    return white.reshape(pixels.shape)


NORMALIZATIONS: dict[str, Callable[[Normalization, Images], Images]] = {
    "channel": channel,
    "pixel_mean": pixel_mean,
    "per_image": per_image,
    "gcn": contrast,
    "gcn_zca": whitened,
}
# The statistic that each needs of the training split, a key of statistics.STATISTICS, and whether it takes `data.std`.
NEEDS = {"pixel_mean": "pixel_mean", "gcn_zca": "zca_matrix"}
TAKES_STD = ("channel", "pixel_mean")


def check(*, name: str, std: tuple[float, ...]) -> None:
    """Raises UserError for a normalization that there is not, or a standard deviation that it has no use for."""
    choose(NORMALIZATIONS, name, "data.normalization")
    if name not in TAKES_STD and any(value != 1 for value in std):
        raise UserError(f"data.normalization '{name}' has no use for data.std {std}: set it to ones")


def load_normalization(workdir: str | Path) -> Normalization:
    """The normalization of a run: from pixels 0..255 to what its network was trained with.

    Args:
        workdir: the run's work directory.

    Raises:
        UserError: it holds no run, or the statistics that it needs are absent or damaged.
    """
    workdir = Path(workdir)
    path = workdir / "run.json"
    try:
        section = field(read_json(path, "name the work directory of a run"), "config.data", dict, path)
        name = field(section, "normalization", str, path)
        mean, std = (
            tuple(
                field({"value": value}, "value", (int, float), f"{path}: {key}")
                for value in field(section, key, list, path)
            )
            for key in ("mean", "std")
        )
    except UserError as error:
        raise UserError(f"{workdir}/run.json does not say how images are normalized ({error})") from error
    choose(NORMALIZATIONS, name, "data.normalization")
    arrays = statistics.load(workdir) if name in NEEDS else {}
    return Normalization(name=name, mean=mean, std=std, arrays=arrays)


def _like(pixels: Images, values: tuple[float, ...] | np.ndarray) -> Images:
    """`values` with as many axes as `pixels`, the last ones."""
    array = jnp.asarray(values, jnp.float32)
    return array.reshape((1,) * (pixels.ndim - array.ndim) + array.shape)


def _check_size(normalization: Normalization, pixels: Images, size: int) -> None:
    if np.prod(pixels.shape[-3:]) != size:
        raise UserError(
            f"data.normalization '{normalization.name}' was computed of images of {size:,} values, these have shape "
            f"{pixels.shape[-3:]}: take images of that size, or a network with another normalization"
        )
