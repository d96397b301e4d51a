"""Super-resolution by 4 or 8 with a loss on features or on pixels (Johnson, Alahi, Fei-Fei 2016, section 4.2).

The data set's images are what is to be found; the network sees them blurred and shrunk.

Differs from the paper: evaluation does not match the result's histogram to the small image's; `tools.upscale` can.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dnn_research import models
from dnn_research.data import Dataset
from dnn_research.errors import UserError, choose, construct
from dnn_research.models.layers import frozen_layers
from dnn_research.tasks import image_quality, perceptual
from dnn_research.tasks import loss_network as loss_networks
from dnn_research.tasks.classification import DTYPES, split_variables, without_gradient
from dnn_research.tasks.means import Means
from dnn_research.tasks.objective import to_bytes
from dnn_research.tasks.task import Sums, Task, Tree

LOSSES = ("feature", "pixel")
# Of every training step; what costs much beside a step is for evaluation.
TRAINED = Means(("loss", "pixel_loss", "psnr", "bicubic_psnr"))
EVALUATED = Means((*TRAINED.names, "feature_loss", "ssim", "bicubic_feature_loss", "bicubic_ssim"))


def create(
    *,
    model: Mapping[str, Any],
    train: Mapping[str, Any],
    dataset: Dataset,
    axis: str,
    loss: str,
    layer: str,
    loss_network: Mapping[str, Any],
    frozen: Callable[[str], bool] | None = None,
) -> Task:
    """Training a super-resolution network on photographs.

    Args:
        model: the section `model`: the network's name and fields.
        train: the section `train`, of which `dtype` and `batch_norm_axis` matter here.
        dataset: photographs; labels are not looked at. `data.image_size` is the size of the enlarged image.
        axis: the loop's device axis; this task needs none.
        loss: what is minimized: `feature`, the distance of activations in the loss network, or `pixel`, that of
            pixels; both as the mean squared difference.
        layer: of the loss network.
        loss_network: arguments of `loss_network.create`.
        frozen: path of a parameter -> whether it keeps its value; None when all are trained.
    """
    del axis
    choose(dict.fromkeys(LOSSES), loss, "task.loss")
    if model["name"] != "super_resolution_net":
        raise UserError(f"task super_resolution trains the network super_resolution_net, not '{model['name']}'")
    dtype = choose(DTYPES, train["dtype"], "train.dtype")
    network = models.create(**model, dtype=dtype, batch_norm_axis=train["batch_norm_axis"])
    input_shape, factor = models.input_shape(network, dataset.image_shape), network.factor
    smallest = image_quality.WINDOW + 2 * factor
    if min(dataset.image_shape[:2]) < smallest:
        raise UserError(
            f"data.image_size is {min(dataset.image_shape[:2])}: similarity is measured in windows of "
            f"{image_quality.WINDOW} pixels, {factor} from each side; take at least {smallest}"
        )
    features = construct(loss_networks.create, "config.task.loss_network", loss_network, layers=(layer,), dtype=dtype)
    constants = {"loss_network": features.constants}

    def own(model_state: Tree) -> Tree:
        """The network's part of what the loop hands in."""
        return {name: tree for name, tree in model_state.items() if name not in constants}

    def measured(model_state: Tree, made: Array, goal: Array, small: Array) -> dict[str, Array]:
        """The losses and qualities of each picture; only the loss is differentiated."""

        def distance(one: Array, other: Array) -> Array:
            first, second = (features.features(model_state["loss_network"], x)[layer] for x in (one, other))
            return perceptual.content_loss(first, second, "paper")

        pixel = perceptual.content_loss(made, goal, "paper")
        feature = distance(made, goal)
        enlarged = image_quality.enlarge(small, factor)
        made = jax.lax.stop_gradient(jnp.clip(jnp.rint(made), 0, 255))
        inner = slice(factor, -factor)
        planes = [image_quality.luminance(x)[:, inner, inner] for x in (made, enlarged, goal)]
        return {
            "loss": feature if loss == "feature" else pixel,
            "pixel_loss": pixel,
            "feature_loss": feature,
            "psnr": image_quality.psnr(planes[0], planes[2]),
            "ssim": image_quality.ssim(planes[0], planes[2]),
            "bicubic_feature_loss": distance(enlarged, goal),
            "bicubic_psnr": image_quality.psnr(planes[1], planes[2]),
            "bicubic_ssim": image_quality.ssim(planes[1], planes[2]),
        }

    def init(key: jax.Array) -> tuple[Tree, Tree]:
        return split_variables(models.initialize(network, key, input_shape))

    def shapes() -> tuple[Tree, Tree]:
        return split_variables(models.shapes(network, input_shape))

    def train_loss(
        params: Tree, model_state: Tree, batch: Mapping[str, jax.Array], key: jax.Array
    ) -> tuple[jax.Array, tuple[Tree, Sums]]:
        del key
        if frozen is not None:
            params = without_gradient(params, frozen)
        goal = batch["image"].astype(jnp.float32)
        small = image_quality.shrink(goal, factor)
        with frozen_layers(frozen):
            made, new_state = network.apply(
                {"params": params, **own(model_state)}, dataset.normalize(small),
                train=True, mutable=list(own(model_state)),
            )  # fmt: skip
        each = measured(model_state, jnp.asarray(made), goal, small)
        return each["loss"].mean(), (new_state, TRAINED.sums(each, jnp.ones_like(each["loss"])))

    def evaluate(params: Tree, model_state: Tree, batch: Mapping[str, jax.Array]) -> Sums:
        goal = batch["image"].astype(jnp.float32)
        small = image_quality.shrink(goal, factor)
        made = network.apply({"params": params, **own(model_state)}, dataset.normalize(small))
        return EVALUATED.sums(measured(model_state, jnp.asarray(made), goal, small), batch["weight"])

    @jax.jit
    def pictures(variables: Tree, images: Array) -> dict[str, Array]:
        small = image_quality.shrink(images.astype(jnp.float32), factor)
        made = network.apply(variables, dataset.normalize(small))
        return {"bicubic": to_bytes(image_quality.enlarge(small, factor)), "enlarged": to_bytes(jnp.asarray(made))}

    def show(params: Tree, model_state: Tree, images: np.ndarray) -> dict[str, np.ndarray]:
        made = jax.device_get(pictures({"params": params, **model_state}, images))
        return {"photographs": images, **made}

    return Task(
        network, init, shapes, train_loss, evaluate, TRAINED.zero_sums, EVALUATED.finish, EVALUATED.names,
        sentence, brief, zero_eval_sums=EVALUATED.zero_sums,
        constants=constants, facts={"loss_network": features.facts}, show=show,
    )  # fmt: skip


def sentence(result: Mapping[str, float]) -> str:
    """The line that ends a training run or an evaluation."""
    return (
        f"PSNR {result['psnr']:.2f} dB, SSIM {result['ssim']:.4f}, feature loss {result['feature_loss']:.4g} (bicubic "
        f"{result['bicubic_psnr']:.2f} dB, {result['bicubic_ssim']:.4f}, {result['bicubic_feature_loss']:.4g}), loss "
        f"{result['loss']:.4g} ({result['examples']:,} pictures)"
    )


def brief(result: Mapping[str, float]) -> str:
    """A few words for a progress bar."""
    return f"loss {result['loss']:.3g}, PSNR {result['psnr']:.2f} dB (bicubic {result['bicubic_psnr']:.2f})"
