"""Style transfer by a network that is trained for a style, or for several (Johnson, Alahi, Fei-Fei 2016, section 3).

The network turns a photograph into a picture whose activations in a loss network are the photograph's in one layer and
whose Gram matrices in others are those of the style image; total variation keeps it smooth.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dnn_research import models
from dnn_research.data import Dataset, pictures
from dnn_research.errors import UserError, choose, construct
from dnn_research.models.layers import frozen_layers
from dnn_research.tasks import loss_network, perceptual
from dnn_research.tasks.classification import DTYPES, split_variables, without_gradient
from dnn_research.tasks.task import Sums, Task, Tree

NAMES = ("loss", "content_loss", "style_loss", "tv_loss")


def create(
    *,
    model: Mapping[str, Any],
    train: Mapping[str, Any],
    dataset: Dataset,
    axis: str,
    style_images: Sequence[str],
    style_size: int | None,
    content_layer: str,
    style_layers: Sequence[str],
    content_weight: float,
    style_weight: float,
    tv_weight: float,
    normalization: str,
    loss_network: Mapping[str, Any],
    frozen: Callable[[str], bool] | None = None,
) -> Task:
    """Training a transform network on photographs.

    Args:
        model: the section `model`: the network's name and fields; `styles` None means as many as there are images.
        train: the section `train`, of which `dtype` and `batch_norm_axis` matter here.
        dataset: photographs; labels are not looked at.
        axis: the loop's device axis; this task needs none.
        style_images: paths, or `builtin:NAME`; an example's style is drawn anew each time it is shown.
        style_size: the length in pixels to which a style image's longer side is scaled; None leaves it.
        content_layer: of the loss network, compared with the photograph's.
        style_layers: of the loss network, whose Gram matrices are compared with the style's.
        content_weight: of the content loss.
        style_weight: of the sum of the style losses.
        tv_weight: of the total variation.
        normalization: of the losses, see `perceptual`.
        loss_network: arguments of `loss_network.create`.
        frozen: path of a parameter -> whether it keeps its value; None when all are trained.
    """
    del axis
    choose(dict.fromkeys(perceptual.NORMALIZATIONS), normalization, "task.normalization")
    weights = {"content_weight": content_weight, "style_weight": style_weight, "tv_weight": tv_weight}
    for name, value in weights.items():
        if value < 0:
            raise UserError(f"task.{name} must not be negative: {value}")
    if not style_images or not style_layers:
        raise UserError("task.style_images and task.style_layers must name at least one each")
    dtype = choose(DTYPES, train["dtype"], "train.dtype")
    network = _network(model, len(style_images), dtype, train["batch_norm_axis"])
    losses = construct(
        _loss_network.create, "config.task.loss_network", loss_network, layers=(content_layer, *style_layers),
        dtype=dtype,
    )  # fmt: skip
    styles = [pictures.fit(pictures.read_still(locator), style_size) for locator in style_images]
    grams = style_grams(losses, styles, style_layers, normalization)
    constants = {"loss_network": losses.constants, "styles": grams}
    facts = {
        "loss_network": losses.facts,
        "style_images": {
            locator: pictures.digest(style) for locator, style in zip(style_images, styles, strict=True)
        },
    }

    def init(key: jax.Array) -> tuple[Tree, Tree]:
        return split_variables(models.initialize(network, key, dataset.image_shape))

    def shapes() -> tuple[Tree, Tree]:
        return split_variables(models.shapes(network, dataset.image_shape))

    def measured(
        state: Tree, made: Float[Array, "b h w 3"], photos: Float[Array, "b h w 3"], mixture: Float[Array, "b s"]
    ) -> dict[str, Array]:
        """The losses of each picture."""
        fixed = state["loss_network"]
        found = losses.features(fixed, made)
        wanted = losses.features(fixed, photos, [content_layer])[content_layer]
        content = perceptual.content_loss(found[content_layer], jax.lax.stop_gradient(wanted), normalization)
        style = jnp.zeros_like(content)
        for layer in style_layers:
            target = jnp.tensordot(mixture, state["styles"][layer], 1)
            style += perceptual.style_loss(perceptual.gram(found[layer], normalization), target, normalization)
        variation = perceptual.total_variation(made, normalization)
        total = content_weight * content + style_weight * style + tv_weight * variation
        return {"loss": total, "content_loss": content, "style_loss": style, "tv_loss": variation}

    def loss(
        params: Tree, model_state: Tree, batch: Mapping[str, jax.Array], key: jax.Array
    ) -> tuple[jax.Array, tuple[Tree, Sums]]:
        own = {name: tree for name, tree in model_state.items() if name not in constants}
        if frozen is not None:
            params = without_gradient(params, frozen)
        drawn = jax.vmap(lambda place: jax.random.randint(jax.random.fold_in(key, place), (), 0, len(styles)))
        mixture = jax.nn.one_hot(drawn(batch["position"]), len(styles))
        with frozen_layers(frozen):
            made, new_state = network.apply(
                {"params": params, **own},
                dataset.normalize(batch["image"], batch.get("color_shift")),
                train=True, mixture=mixture, mutable=list(own),
            )  # fmt: skip
        each = measured(model_state, made, batch["image"].astype(jnp.float32), mixture)
        return each["loss"].mean(), (new_state, sums_of(each, jnp.ones_like(each["loss"])))

    def evaluate(params: Tree, model_state: Tree, batch: Mapping[str, jax.Array]) -> Sums:
        own = {name: tree for name, tree in model_state.items() if name not in constants}
        mixture = jax.nn.one_hot(batch["index"] % len(styles), len(styles))
        made = network.apply({"params": params, **own}, dataset.normalize(batch["image"]), mixture=mixture)
        each = measured(model_state, jnp.asarray(made), batch["image"].astype(jnp.float32), mixture)
        return sums_of(each, batch["weight"])

    @jax.jit
    def stylized(variables: Tree, images: Array, mixture: Array) -> Array:
        return to_bytes(network.apply(variables, dataset.normalize(images), mixture=mixture))

    def show(params: Tree, model_state: Tree, images: np.ndarray) -> dict[str, np.ndarray]:
        shown = {"photographs": images}
        for number, name in enumerate(pictures.names(style_images)):
            mixture = np.eye(len(styles), dtype=np.float32)[[number] * len(images)]
            shown[f"stylized/{name}"] = np.asarray(stylized({"params": params, **model_state}, images, mixture))
        return shown

    return Task(
        network, init, shapes, loss, evaluate, zero_sums, finish, NAMES, sentence, brief,
        constants=constants, facts=facts, show=show,
    )  # fmt: skip


# The argument of `create` has the module's name.
_loss_network = loss_network


def _network(model: Mapping[str, Any], styles: int, dtype: Any, batch_norm_axis: str | None) -> Any:
    fields = dict(model)
    if fields["name"] != "transform_net":
        raise UserError(f"task style_transfer trains the network transform_net, not '{fields['name']}'")
    if fields["styles"] is None:
        fields["styles"] = styles
    if fields["styles"] != styles:
        raise UserError(f"model.styles={fields['styles']}, but task.style_images names {styles}")
    return models.create(**fields, dtype=dtype, batch_norm_axis=batch_norm_axis)


def style_grams(
    losses: loss_network.LossNetwork, styles: Sequence[np.ndarray], layers: Sequence[str], normalization: str
) -> dict[str, np.ndarray]:
    """The Gram matrices of style images, uint8 [h, w, 3] each, by layer: [styles, C, C] on the host."""

    @jax.jit
    def measure(constants: Tree, pixels: Array) -> dict[str, Array]:
        found = losses.features(constants, pixels.astype(jnp.float32), layers)
        return {layer: perceptual.gram(found[layer], normalization) for layer in layers}

    each = [measure(losses.constants, style[None]) for style in styles]
    return {layer: np.concatenate([np.asarray(grams[layer]) for grams in each]) for layer in layers}


def to_bytes(pixels: Float[Array, "*b c"]) -> Array:
    """Pixels rounded into 0..255, uint8."""
    return jnp.clip(jnp.rint(pixels), 0, 255).astype(jnp.uint8)


def zero_sums() -> Sums:
    """The sums of no pictures."""
    return {"examples": np.zeros((), np.int32), **{name: np.zeros((), np.float32) for name in NAMES}}


def sums_of(each: Mapping[str, Float[Array, " b"]], weights: Float[Array, " b"]) -> Sums:
    """The sums of a batch; pictures of weight 0 (padding) count for nothing."""
    counted = weights > 0
    sums = {name: jnp.sum(jnp.where(counted, values, 0.0), dtype=jnp.float32) for name, values in each.items()}
    return {"examples": jnp.sum(counted, dtype=jnp.int32), **sums}


def finish(sums: Mapping[str, Any]) -> dict[str, float]:
    """Means over the pictures: `examples` and `NAMES`."""
    examples = int(sums["examples"])
    if examples == 0:
        raise ValueError("no examples were counted")
    return {"examples": examples, **{name: float(sums[name]) / examples for name in NAMES}}


def sentence(result: Mapping[str, float]) -> str:
    """The line that ends a training run or an evaluation."""
    return (
        f"style loss {result['style_loss']:.4g}, content loss {result['content_loss']:.4g}, total variation "
        f"{result['tv_loss']:.4g}, loss {result['loss']:.4g} ({result['examples']:,} pictures)"
    )


def brief(result: Mapping[str, float]) -> str:
    """A few words for a progress bar."""
    return f"style {result['style_loss']:.3g}, content {result['content_loss']:.3g}"
