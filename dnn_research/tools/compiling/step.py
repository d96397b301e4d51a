"""A recipe's train step, lowered from shapes for the devices that are here or elsewhere."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr
from jax.interpreters import partial_eval

from dnn_research import models, recipe, train
from dnn_research.models import tracing
from dnn_research.ops.lowering import stock_operations


@dataclasses.dataclass(frozen=True)
class Step:
    """The very step that training runs, and the shapes that it takes.

    Attributes:
        setup: the recipe, made into things; on synthetic images.
        function: the step over all devices.
        state, batch: shapes, with a leading device axis where the step wants one.
    """

    setup: train.Setup
    function: Any
    state: Any
    batch: Any

    def lower(self) -> Any:
        """The program, to be compiled."""
        return self.function.lower(self.state, self.batch)

    def multiply_adds(self) -> int:
        """Those of one device in one step, forward and backward, counted as `tools.summary` counts."""
        function, _, _ = train.step_and_shapes(self.setup)  # traced anew: jax keeps what it traced before
        with stock_operations():
            program = jax.make_jaxpr(function)(self.state, self.batch)
        # The stock operations' gradients are pairs of which one half is left out when it is compiled, and here.
        live, _ = partial_eval.dce_jaxpr(program.jaxpr, [True] * len(program.jaxpr.outvars), instantiate=True)
        return tracing.multiply_adds(ClosedJaxpr(live, program.consts))

    def forward_multiply_adds(self) -> int:
        """Those of the network's forward pass for one image: what `tools.summary` prints."""
        model = self.setup.task.model
        shape = models.input_shape(model, self.setup.dataset.image_shape)
        return tracing.forward_multiply_adds(model, shape, train=True)


def of_recipe(config: str, overrides: Sequence[str]) -> Step:
    """The step of a recipe on synthetic images: inside of `parallel.compiling_for`, for those devices.

    Raises:
        UserError: something is wrong with the recipe, or it does not fit the number of devices.
    """
    given = ["data.source=synthetic", *overrides]
    batch_size = recipe.load(config, given).config.batch_size
    setup = train.set_up(recipe.load(config, [*given, f"data.synthetic_examples={max(1024, batch_size or 0)}"]))
    return Step(setup, *train.step_and_shapes(setup))
