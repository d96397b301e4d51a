"""Our own contenders: a recipe's train step, and its network's forward pass."""

import contextlib
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from dnn_research import models, parallel, process, recipe, train
from dnn_research.ops.lowering import stock_operations
from dnn_research.tools.measuring.networks import Case

GIB = 2**30


@dataclasses.dataclass
class Program:
    """A compiled step.

    Attributes:
        step: takes one step and waits for it.
        trace_seconds, compile_seconds: what it took to make it.
        temporary_gib: memory that the step takes beside its inputs and outputs, on each device.
    """

    step: Callable[[], object]
    trace_seconds: float
    compile_seconds: float
    temporary_gib: float


class Ours:
    """A case's set-up, its variables and a batch on the host."""

    def __init__(self, case: Case, variables: tuple[Any, Any] | None = None) -> None:
        chosen = recipe.load(case.config, case.overrides)
        self.config = chosen.config.to_dict()
        self.setup = train.set_up(chosen)
        self.variables = variables or self.setup.task.init(parallel.initial_key(self.setup.seed))
        self.batch = self.batch_of(case.batch_size)

    def batch_of(self, size: int) -> dict[str, np.ndarray]:
        """The first examples."""
        with self.setup.dataset.train_batches(batch_size=size, seed=self.setup.seed) as batches:
            return next(batches)

    def program(self, mode: str, *, stock: bool = False) -> Program:
        """Compiles a train step or a forward pass; `stock`: with the stock operations."""
        with stock_operations() if stock else contextlib.nullcontext():
            return {"train": self._train_step, "inference": self._forward}[mode]()

    def _train_step(self) -> Program:
        state = train.initial_state(self.setup, self.variables)
        layout = self.setup.layout
        step = parallel.on_each_device(train.make_train_step(self.setup), donate_state=True, layout=layout, state=state)
        batch = parallel.shard(train.with_update_norm(self.batch, due=False), layout)
        carried = [parallel.replicate(state, layout)]
        compiled, *costs = _compiled(step, carried[0], batch)

        def run() -> None:
            carried[0], report = compiled(carried[0], batch)
            jax.block_until_ready((carried[0], report))

        return Program(run, *costs)

    def _forward(self) -> Program:
        params, model_state = self.variables
        model = self.setup.task.model
        stacks = parallel.Layout(stacks=self.setup.layout.stacks)
        variables = parallel.replicate({"params": params, **model_state}, stacks)
        height, width, _ = models.input_shape(model, self.setup.dataset.image_shape)
        images = normalized(self.setup, self.batch)[:, :height, :width]
        images = parallel.shard({"image": images})["image"]

        def forward(variables: Any, images: jax.Array) -> Any:
            return model.apply(variables, images[0], train=False)

        axis = PartitionSpec(parallel.AXIS)
        step = jax.shard_map(
            forward, mesh=parallel.local_mesh(), in_specs=(PartitionSpec(), axis), out_specs=axis, check_vma=False
        )
        compiled, *costs = _compiled(jax.jit(step), variables, images)
        return Program(lambda: jax.block_until_ready(compiled(variables, images)), *costs)


def shaken(variables: tuple[Any, Any]) -> tuple[Any, Any]:
    """With other biases, scales and running statistics: zeros and ones would hide a layer in another's place."""
    random = np.random.default_rng(0)

    def shake(path: Any, leaf: jax.Array) -> np.ndarray:
        if path[-1].key in ("bias", "mean"):
            return np.asarray(leaf) + random.normal(0.0, 0.1, leaf.shape).astype(np.float32)
        if path[-1].key in ("scale", "var"):
            return np.asarray(leaf) * random.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        return np.asarray(leaf)

    return jax.tree_util.tree_map_with_path(shake, variables)


def normalized(setup: train.Setup, batch: Any) -> np.ndarray:
    """A batch's images as the network takes them."""
    return np.asarray(setup.dataset.normalize(jnp.asarray(batch["image"])))


def _compiled(step: Any, *arguments: Any) -> tuple[Any, float, float, float]:
    """The executable, seconds to trace and to compile it, GiB of temporary memory; malloc has handed back its pages."""
    started = time.perf_counter()
    lowered = step.lower(*arguments)
    traced = time.perf_counter()
    compiled = lowered.compile()
    ended = time.perf_counter()
    process.hand_back_memory()
    return compiled, traced - started, ended - traced, compiled.memory_analysis().temp_size_in_bytes / GIB
