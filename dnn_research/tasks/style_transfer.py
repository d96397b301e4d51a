"""Style transfer by a network that is trained for a style, or for several (Johnson, Alahi, Fei-Fei 2016, section 3).

The network turns a photograph into a picture whose activations in a loss network are the photograph's in one layer and
whose Gram matrices in others are those of the style image; total variation keeps it smooth.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dnn_research import models
from dnn_research.data import Dataset, pictures
from dnn_research.errors import UserError, choose
from dnn_research.models.layers import frozen_layers
from dnn_research.tasks import objective, pixels
from dnn_research.tasks.classification import DTYPES, split_variables, without_gradient
from dnn_research.tasks.task import Sums, Task, Tree


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
    evaluate_iterations: int = 0,
    frozen: Callable[[str], bool] | None = None,
) -> Task:
    """Training a transform network on photographs.

    Args:
        model: the section `model`: the network's name and fields; `styles` is the number of style images.
        train: the section `train`, of which `dtype` and `batch_norm_axis` matter here.
        dataset: photographs; labels are not looked at.
        axis: the loop's device axis; this task needs none.
        style_images: paths, or `builtin:NAME`; an example's style is drawn anew each time it is shown.
        style_size: the length in pixels to which a style image's longer side is scaled; None leaves it.
        content_layer, style_layers, content_weight, style_weight, tv_weight, normalization: of the losses, see
            `objective.Objective`.
        loss_network: arguments of `loss_network.create`.
        evaluate_iterations: 0 to evaluate what the network paints; else what so many iterations of L-BFGS make of the
            photographs, which is what the network replaces.
        frozen: path of a parameter -> whether it keeps its value; None when all are trained.
    """
    del axis
    if not style_images:
        raise UserError("task.style_images must name at least one picture: a path, or builtin:tissue")
    if evaluate_iterations < 0:
        raise UserError(f"task.evaluate_iterations must not be negative: {evaluate_iterations}")
    dtype, count = choose(DTYPES, train["dtype"], "train.dtype"), len(style_images)
    network = _network(model, count, dtype, train["batch_norm_axis"])
    styles = [pictures.fit(pictures.read_still(locator), style_size) for locator in style_images]
    goal = objective.create(
        content_layer=content_layer, style_layers=style_layers, content_weight=content_weight,
        style_weight=style_weight, tv_weight=tv_weight, normalization=normalization, network=loss_network, dtype=dtype,
    )  # fmt: skip
    constants = goal.constants(styles)
    facts = {
        "loss_network": goal.network.facts,
        "style_images": {name: pictures.digest(style) for name, style in zip(style_images, styles, strict=True)},
    }

    def own(model_state: Tree) -> Tree:
        """The network's part of what the loop hands in."""
        return {name: tree for name, tree in model_state.items() if name not in constants}

    def measured(model_state: Tree, made: Array, batch: Mapping[str, jax.Array], mixture: Array) -> dict[str, Array]:
        wanted = jax.lax.stop_gradient(goal.content(model_state, batch["image"].astype(jnp.float32)))
        return goal.measure(model_state, made, wanted, mixture)

    def init(key: jax.Array) -> tuple[Tree, Tree]:
        return split_variables(models.initialize(network, key, dataset.image_shape))

    def shapes() -> tuple[Tree, Tree]:
        return split_variables(models.shapes(network, dataset.image_shape))

    def loss(
        params: Tree, model_state: Tree, batch: Mapping[str, jax.Array], key: jax.Array
    ) -> tuple[jax.Array, tuple[Tree, Sums]]:
        if frozen is not None:
            params = without_gradient(params, frozen)
        draw = jax.vmap(lambda place: jax.random.randint(jax.random.fold_in(key, place), (), 0, count))
        mixture = jax.nn.one_hot(draw(batch["position"]), count)
        with frozen_layers(frozen):
            made, new_state = network.apply(
                {"params": params, **own(model_state)},
                dataset.normalize(batch["image"], batch.get("color_shift")),
                train=True, mixture=mixture, mutable=list(own(model_state)),
            )  # fmt: skip
        each = measured(model_state, jnp.asarray(made), batch, mixture)
        return each["loss"].mean(), (new_state, objective.LOSSES.sums(each, jnp.ones_like(each["loss"])))

    def evaluate(params: Tree, model_state: Tree, batch: Mapping[str, jax.Array]) -> Sums:
        mixture = jax.nn.one_hot(batch["index"] % count, count)
        photos = batch["image"].astype(jnp.float32)
        if evaluate_iterations:
            made = pixels.paint(goal, model_state, photos, mixture, evaluate_iterations)
        else:
            variables = {"params": params, **own(model_state)}
            made = network.apply(variables, dataset.normalize(batch["image"]), mixture=mixture)
        own_style = goal.style(model_state, photos, mixture)
        each = {**measured(model_state, jnp.asarray(made), batch, mixture), "photograph_style_loss": own_style}
        return objective.EVALUATED.sums(each, batch["weight"])

    @jax.jit
    def stylized(variables: Tree, images: Array, mixture: Array) -> Array:
        return objective.to_bytes(jnp.asarray(network.apply(variables, dataset.normalize(images), mixture=mixture)))

    def show(params: Tree, model_state: Tree, images: np.ndarray) -> dict[str, np.ndarray]:
        shown = {"photographs": images}
        for number, name in enumerate(pictures.names(style_images)):
            mixture = np.eye(count, dtype=np.float32)[[number] * len(images)]
            shown[f"stylized/{name}"] = np.asarray(stylized({"params": params, **model_state}, images, mixture))
        return shown

    return Task(
        network, init, shapes, loss, evaluate,
        objective.LOSSES.zero_sums, objective.EVALUATED.finish, objective.EVALUATED.names,
        objective.sentence, objective.brief, zero_eval_sums=objective.EVALUATED.zero_sums,
        constants=constants, facts=facts, show=show,
    )  # fmt: skip


def _network(model: Mapping[str, Any], styles: int, dtype: Any, batch_norm_axis: str | None) -> Any:
    fields = dict(model)
    if fields["name"] != "transform_net":
        raise UserError(f"task style_transfer trains the network transform_net, not '{fields['name']}'")
    if fields["styles"] != styles:
        raise UserError(f"model.styles={fields['styles']}, but task.style_images names {styles}: make them equal")
    network = models.create(**fields, dtype=dtype, batch_norm_axis=batch_norm_axis)
    if network.border not in (None, network.lineage.border):
        raise UserError(
            f"model.border={network.border}, but a network that is trained makes pictures of its images' size: "
            f"leave it out, or set it to {network.lineage.border}"
        )
    return network
