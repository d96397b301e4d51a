"""Style transfer by optimizing the pixels of a picture.

Gatys, Ecker, Bethge, "Image Style Transfer Using Convolutional Neural Networks", CVPR 2016; colours are preserved as
in Gatys, Bethge, Hertzmann, Shechtman, "Preserving Color in Neural Artistic Style Transfer", arXiv:1606.05897. With
the losses of Johnson et al. it is the baseline that their networks are compared with.

Differs from the papers: pixels are clipped to 0..255 after each iteration, as Johnson et al. did in their baseline.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float

from dnn_research.data import images, pictures
from dnn_research.errors import UserError, choose
from dnn_research.models.watching import unwatched
from dnn_research.tasks.objective import Objective, to_bytes

OPTIMIZERS = ("lbfgs", "adam")
STARTS = ("content", "noise")
COLORS = ("style", "histogram", "luminance")
# Standard deviation in units of 0..255 of the noise that is started from, about the middle.
NOISE = 64.0
# Rows of red, green and blue: luminance and the two of chrominance of NTSC.
YIQ = np.array([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])

# (number of the iteration, counted over all sizes, its losses, the picture so far as uint8 [h, w, 3]).
Report = Callable[[int, dict[str, float], Callable[[], np.ndarray]], None]


@dataclasses.dataclass(frozen=True)
class Options:
    """How pixels are optimized.

    Attributes:
        optimizer: `lbfgs` or `adam`.
        iterations: at each size; of `lbfgs` each has a line search of its own.
        learning_rate: of Adam, in units of 0..255.
        start: `content`, the photograph; `noise`, white noise about gray.
        sizes: longer sides in pixels, one after the other, each starting from the one before; the last is the result's.
        colors: `style`: the style's; `histogram`: the style image first gets the photograph's mean colour and
            covariance; `luminance`: the result gets the photograph's chrominance.
        seed: of the noise.
        style_size: the length in pixels to which a style image's longer side is scaled; None: the result's.
    """

    optimizer: str = "lbfgs"
    iterations: int = 300
    learning_rate: float = 10.0
    start: str = "content"
    sizes: tuple[int, ...] = (512,)
    colors: str = "style"
    seed: int = 0
    style_size: int | None = None

    def __post_init__(self) -> None:
        choose(dict.fromkeys(OPTIMIZERS), self.optimizer, "optimizer")
        choose(dict.fromkeys(STARTS), self.start, "start")
        choose(dict.fromkeys(COLORS), self.colors, "kind of colours")
        if self.iterations < 1 or not self.sizes or min(self.sizes) < 16:
            raise UserError(f"iterations must be 1 or more and sizes 16 or more: {self.iterations}, {self.sizes}")


def optimize(
    photo: np.ndarray,
    styles: Sequence[np.ndarray],
    mixture: Sequence[float],
    goal: Objective,
    options: Options,
    report: Report,
) -> np.ndarray:
    """Paints a photograph in a mixture of styles.

    Args:
        photo: uint8 [h, w, 3].
        styles: uint8 [h, w, 3] each; scaled as the options say.
        mixture: the weight of each style's Gram matrices; they are divided by their sum.
        goal: the losses.
        options: how.
        report: told after each iteration.

    Returns:
        uint8 [h, w, 3], its longer side the last of `options.sizes`.
    """
    weights = jnp.asarray(mixture, jnp.float32)[None] / sum(mixture)
    content, made, done = photo, None, 0
    for size in options.sizes:
        content = pictures.fit(photo, size)
        shown = [pictures.fit(style, options.style_size or size) for style in styles]
        if options.colors == "histogram":
            shown = [match_colors(style, content) for style in shown]
        if made is not None:
            start = images.resize(made, *content.shape[:2]).astype(np.float32)
        elif options.start == "content":
            start = content.astype(np.float32)
        else:
            noise = np.random.default_rng(options.seed).normal(127.5, NOISE, content.shape)
            start = np.clip(noise, 0, 255).astype(np.float32)
        constants = jax.tree.map(jnp.asarray, goal.constants(shown))
        made = _descend(start, content, constants, weights, goal, options, report, done)
        done += options.iterations
    assert made is not None
    return keep_chrominance(made, content) if options.colors == "luminance" else made


def _descend(
    start: np.ndarray,
    content: np.ndarray,
    constants: Any,
    weights: Array,
    goal: Objective,
    options: Options,
    report: Report,
    done: int,
) -> np.ndarray:
    """The iterations at one size."""
    wanted = jax.jit(goal.content)(constants, jnp.asarray(content, jnp.float32)[None])
    optimizer, step = _iteration(goal, options)
    step = jax.jit(step)
    x = jnp.asarray(start / 255)[None]
    state = optimizer.init(x)
    for number in range(1, options.iterations + 1):
        x, state, each = step(x, state, constants, wanted, weights)
        now = x
        report(
            done + number,
            {name: float(values[0]) for name, values in each.items()},
            lambda now=now: np.asarray(to_bytes(255 * now[0])),
        )
        if not np.isfinite(float(each["loss"][0])):
            raise UserError(f"the loss is not finite after {done + number} iterations; lower the weights or the rate")
    return np.asarray(to_bytes(255 * x[0]))


# (pixels in 0..1 [1, h, w, 3], state of the optimizer, constants, wanted content, mixture) -> the first two after an
# iteration, and the losses before it.
Step = Callable[[Array, Any, Any, Array, Array], tuple[Array, Any, dict[str, Array]]]


def _iteration(goal: Objective, options: Options) -> tuple[optax.GradientTransformation, Step]:
    """The optimizer, and one iteration by it."""
    # Pixels in units of their range: a first step of L-BFGS is then of a size that makes sense.
    optimizer = optax.lbfgs() if options.optimizer == "lbfgs" else optax.adam(options.learning_rate / 255)

    def step(
        x: Array, state: Any, constants: Any, wanted: Array, weights: Array
    ) -> tuple[Array, Any, dict[str, Array]]:
        def losses(x: Array) -> tuple[Array, dict[str, Array]]:
            each = goal.measure(constants, 255 * x, wanted, weights)
            return each["loss"][0], each

        (loss, each), gradient = jax.value_and_grad(losses, has_aux=True)(x)
        line_search = {"value": loss, "grad": gradient, "value_fn": lambda x: losses(x)[0]}
        more = line_search if options.optimizer == "lbfgs" else {}
        updates, state = optimizer.update(gradient, state, x, **more)
        return jnp.clip(x + jnp.asarray(updates), 0, 1), state, each

    return optimizer, step


def paint(
    goal: Objective,
    constants: Any,
    photos: Float[Array, "b h w 3"],
    mixture: Float[Array, "b s"],
    iterations: int,
) -> Float[Array, "b h w 3"]:
    """What so many iterations of L-BFGS make of photographs, each by itself and from itself; for compiled steps.

    Args:
        goal: the losses.
        constants: as `goal.constants` gives them.
        photos: 0..255.
        mixture: the weight of each style, for each picture.
        iterations: how many.

    Returns:
        pictures, 0..255.
    """
    optimizer, step = _iteration(goal, Options())

    def one(given: tuple[Array, Array]) -> Array:
        photo, weights = given[0][None], given[1][None]
        wanted, start = goal.content(constants, photo), photo / 255

        def iteration(_: Any, so_far: tuple[Array, Any]) -> tuple[Array, Any]:
            return step(so_far[0], so_far[1], constants, wanted, weights)[:2]

        x, _ = lax.fori_loop(0, iterations, iteration, (start, optimizer.init(start)))
        return 255 * x[0]

    with unwatched():
        return lax.map(one, (photos, mixture))


def match_colors(image: np.ndarray, like: np.ndarray) -> np.ndarray:
    """uint8 [h, w, 3] with mean and covariance of its colours moved to those of `like`, uint8 [h, w, 3].

    x' = L_like L_image^-1 (x - mean_image) + mean_like with the symmetric roots of the covariances.
    """
    flat, other = (x.reshape(-1, 3).astype(np.float64) for x in (image, like))
    map_ = _root(np.cov(other.T), 0.5) @ _root(np.cov(flat.T), -0.5)
    moved = (flat - flat.mean(0)) @ map_.T + other.mean(0)
    return np.clip(np.rint(moved), 0, 255).astype(np.uint8).reshape(image.shape)


def _root(covariance: np.ndarray, power: float) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.maximum(values, 1e-2) ** power) @ vectors.T


def keep_chrominance(made: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """The luminance of one uint8 [h, w, 3] with the chrominance of another of the same size."""
    yiq = photo.astype(np.float64) @ YIQ.T
    yiq[..., 0] = made.astype(np.float64) @ YIQ[0]
    return np.clip(np.rint(yiq @ np.linalg.inv(YIQ).T), 0, 255).astype(np.uint8)
