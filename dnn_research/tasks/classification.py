"""Image classification: cross-entropy, optionally with label smoothing, auxiliary classifiers and mixed examples."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Int

from dnn_research import metrics, models
from dnn_research.data import Dataset
from dnn_research.errors import UserError, choose
from dnn_research.models.layers import example_positions, frozen_layers
from dnn_research.tasks.task import Classifier, Logits, Sums, Task, Tree

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def create(
    *,
    model: Mapping[str, Any],
    train: Mapping[str, Any],
    dataset: Dataset,
    axis: str,
    frozen: Callable[[str], bool] | None = None,
    label_smoothing: float = 0.0,
    auxiliary_weight: float = 0.3,
) -> Task:
    """A classifier of `dataset`'s classes.

    Args:
        model: the section `model`: the network's name and fields; `num_classes` None means what the data set has.
        train: the section `train`, of which `dtype` (what is computed in) and `batch_norm_axis` matter here.
        axis: the device axis that the loop runs the task over; a network in towers communicates along it.
        dataset: says the number of classes, the size of images and how they are normalised.
        frozen: path of a parameter -> whether it keeps its value; None when all are trained.
        label_smoothing: the share of the target that is spread over all classes (Szegedy et al. 2016).
        auxiliary_weight: of the loss of each auxiliary classifier, where the network has any (GoogLeNet: 0.3). Metrics
            are those of the main classifier, `loss` too, so that training and evaluation compare.
    """
    if auxiliary_weight < 0:
        raise UserError(f"task.auxiliary_weight must not be negative: {auxiliary_weight}")
    if not 0 <= label_smoothing < 1:
        raise UserError(f"task.label_smoothing must be in [0, 1), not {label_smoothing}")
    if model["name"] in models.IMAGE_NETWORKS:
        raise UserError(f"model.name={model['name']} gives pictures, not classes; choose another task.name")
    if not dataset.num_classes:
        raise UserError(f"{dataset.name} has no labels; choose a data set for classification")
    fields = dict(model)
    if fields["num_classes"] is None:
        fields["num_classes"] = dataset.num_classes
    elif fields["num_classes"] < dataset.num_classes:
        raise UserError(
            f"model.num_classes={fields['num_classes']} is fewer than the {dataset.num_classes} of {dataset.name}"
        )
    network = models.create(
        **fields, dtype=choose(DTYPES, train["dtype"], "train.dtype"), batch_norm_axis=train["batch_norm_axis"]
    )
    on_device, towers, tower_axes = models.towers(network, axis)

    def init(key: jax.Array) -> tuple[Tree, Tree]:
        return split_variables(models.initialize(network, key, dataset.image_shape))

    def shapes() -> tuple[Tree, Tree]:
        return split_variables(models.shapes(network, dataset.image_shape))

    def loss(
        params: Tree, model_state: Tree, batch: Mapping[str, jax.Array], key: jax.Array
    ) -> tuple[jax.Array, tuple[Tree, Sums]]:
        images = dataset.normalize(batch["image"], batch.get("color_shift"))
        if frozen is not None:
            params = without_gradient(params, frozen)
        with example_positions(batch["position"]), frozen_layers(frozen):
            outputs = on_device.apply(
                {"params": params, **model_state}, images, train=True, mutable=list(model_state), rngs={"dropout": key}
            )
        made, new_state = outputs
        logits, *auxiliary = made if isinstance(made, tuple) else (made,)
        logits = logits.astype(jnp.float32)
        losses = mixed_cross_entropy(logits, batch, label_smoothing)
        sums = metrics.classification(logits, dominant_label(batch), losses, jnp.ones_like(losses))
        others = sum(mixed_cross_entropy(other, batch, label_smoothing).mean() for other in auxiliary)
        return losses.mean() + auxiliary_weight * others, (new_state, sums)

    def logits_of(evaluated: nn.Module) -> Logits:
        def logits(params: Tree, model_state: Tree, pixels: jax.Array) -> jax.Array:
            images = dataset.normalize(pixels)
            return jnp.asarray(evaluated.apply({"params": params, **model_state}, images, train=False), jnp.float32)

        return logits

    logits = logits_of(on_device)

    def dense() -> Logits:
        return logits_of(models.fully_convolutional(network, dataset.image_shape[0]))

    def measure(logits: jax.Array, batch: Mapping[str, jax.Array]) -> Sums:
        losses = cross_entropy(logits, batch["label"], 0.0)
        return metrics.classification(logits, batch["label"], losses, batch["weight"])

    def confusion(logits: jax.Array, batch: Mapping[str, jax.Array]) -> jax.Array:
        return metrics.confusion(logits, batch["label"], batch["weight"])

    def evaluate(params: Tree, model_state: Tree, batch: Mapping[str, jax.Array]) -> Sums:
        return measure(logits(params, model_state, batch["image"]), batch)

    return Task(
        network, init, shapes, loss, evaluate,
        metrics.zeros, metrics.finish, metrics.NAMES, metrics.sentence, metrics.brief,
        towers, tower_axes, models.stacks(network), Classifier(logits, dense, measure, confusion),
    )  # fmt: skip


def split_variables(variables: Mapping[str, Tree]) -> tuple[Tree, Tree]:
    """A network's variables as (params, all other collections)."""
    return variables["params"], {name: tree for name, tree in variables.items() if name != "params"}


def without_gradient(params: Tree, frozen: Callable[[str], bool]) -> Tree:
    """Parameters of which the frozen ones pass no gradient on."""

    def stop(path: Any, leaf: jax.Array) -> jax.Array:
        return jax.lax.stop_gradient(leaf) if frozen(jax.tree_util.keystr(path, simple=True, separator="/")) else leaf

    return jax.tree_util.tree_map_with_path(stop, params)


def mixed_cross_entropy(
    logits: Float[Array, "batch classes"], batch: Mapping[str, jax.Array], label_smoothing: float
) -> Float[Array, "batch"]:
    """`cross_entropy`; where examples were mixed, lam of it against `label` and 1 - lam against `label2`.

    That is the cross-entropy against the mixed targets, for it is linear in them.
    """
    losses = cross_entropy(logits, batch["label"], label_smoothing)
    if "label2" not in batch:
        return losses
    return batch["lam"] * losses + (1 - batch["lam"]) * cross_entropy(logits, batch["label2"], label_smoothing)


def dominant_label(batch: Mapping[str, jax.Array]) -> Int[Array, "batch"]:
    """The label that accuracy in training is measured by: where examples were mixed, the one with the larger share."""
    if "label2" not in batch:
        return batch["label"]
    return jnp.where(batch["lam"] >= 0.5, batch["label"], batch["label2"])


def cross_entropy(
    logits: Float[Array, "batch classes"], labels: Int[Array, "batch"], label_smoothing: float
) -> Float[Array, "batch"]:
    """Cross-entropy of each example, in nats, against targets of which `label_smoothing` is spread over all classes."""
    if not label_smoothing:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), label_smoothing)
    return optax.softmax_cross_entropy(logits, targets)
