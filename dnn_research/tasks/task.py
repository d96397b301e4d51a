"""The record that a task is."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn

Tree = Any
Sums = dict[str, Any]


Logits = Callable[[Tree, Tree, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class Classifier:
    """What a task that classifies offers beside: for several views of an image, ensembles, and confusion matrices.

    Attributes:
        logits: (params, model_state, images uint8 [B, H, W, C]) -> float32 [B, classes].
        dense: () -> the same of the network in its fully convolutional form, for whole images; raises UserError if it
            has none.
        measure: (logits, batch) -> sums of metrics over the examples of weight 1.
        confusion: (logits, batch) -> how many of each class were taken for each, int32 [classes, classes].
    """

    logits: Logits
    dense: Callable[[], Logits]
    measure: Callable[[jax.Array, Mapping[str, jax.Array]], Sums]
    confusion: Callable[[jax.Array, Mapping[str, jax.Array]], jax.Array]


@dataclasses.dataclass(frozen=True)
class Task:
    """What the loop needs of a task. All functions are pure; `loss` and `evaluate` run inside compiled steps.

    Attributes:
        model: the network.
        init: key -> (params, model_state), nested dicts of arrays; `model_state` is what training changes without a
            gradient (running statistics), `{}` when there is none.
        shapes: () -> the same trees with `jax.ShapeDtypeStruct` leaves.
        loss: (params, model_state, batch, key) -> (mean loss, (new model_state, sums of metrics)).
        evaluate: (params, model_state, batch) -> sums of metrics over the examples of weight 1.
        zero_sums: the sums of no examples.
        finish: sums -> named results: `examples`, `loss` and what else the task measures.
        names: what `finish` gives beside the number of examples.
        sentence: named results -> the line for a person.
        brief: named results -> a few words for a progress bar.
        towers: so many neighbouring devices hold one copy of the network between them; `loss` and `evaluate` then take
            a tower's parts of the parameters.
        tower_axes: path of a parameter -> the axis along which the towers hold its parts.
        stacks: path of a stack -> the names of its members: equal blocks whose variables `loss` and `evaluate` take
            one by one or stacked.
        classifier: what a task that classifies offers beside; None for others.
        constants: named trees of host arrays that `loss` and `evaluate` find in `model_state` beside its own: what is
            computed with and never changed nor saved, such as the weights of a loss network.
        facts: what the run depends on beside its config and data, as JSON's types, with checksums: kept in run.json,
            and a run does not go on with others.
        show: (params, model_state, uint8 images [N, H, W, C]) -> named uint8 pictures [N, H, W, C] for TensorBoard at
            each evaluation; not on the devices of the loop. None: nothing to show.
        zero_eval_sums: the sums of no examples of `evaluate`, where it measures more than `loss`; None: it does not.
    """

    model: nn.Module
    init: Callable[[jax.Array], tuple[Tree, Tree]]
    shapes: Callable[[], tuple[Tree, Tree]]
    loss: Callable[[Tree, Tree, Mapping[str, jax.Array], jax.Array], tuple[jax.Array, tuple[Tree, Sums]]]
    evaluate: Callable[[Tree, Tree, Mapping[str, jax.Array]], Sums]
    zero_sums: Callable[[], Sums]
    finish: Callable[[Mapping[str, Any]], dict[str, float]]
    names: tuple[str, ...]
    sentence: Callable[[Mapping[str, float]], str]
    brief: Callable[[Mapping[str, float]], str]
    towers: int = 1
    tower_axes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    stacks: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    classifier: Classifier | None = None
    constants: Mapping[str, Tree] = dataclasses.field(default_factory=dict)
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    show: Callable[[Tree, Tree, np.ndarray], dict[str, np.ndarray]] | None = None
    zero_eval_sums: Callable[[], Sums] | None = None
