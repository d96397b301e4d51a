"""What a row costs: parameters, multiply-adds and latency of its network, and the time that its runs will take."""

import dataclasses
import datetime
import json
import math
import statistics
import time
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dnn_research import checkpoint, models, parallel, train
from dnn_research.models import tracing
from dnn_research.recipe import Recipe

# Forward passes of one image that a latency is the median of.
LATENCIES = 30
# Steps that a time of training is the median of, after the one that compiles.
STEPS = 4


@dataclasses.dataclass(frozen=True)
class Network:
    """Of one image's forward pass; `params` are what is trained."""

    params: int
    macs: int
    latency_ms: float


@dataclasses.dataclass(frozen=True)
class Time:
    """Seconds: once for a row to compile, and for each of its runs."""

    compile_seconds: float
    run_seconds: float


def network(recipe: Recipe) -> Network:
    """The cost of a recipe's network in evaluation, on this machine and with nothing else to do."""
    setup = train.set_up(recipe)
    model = setup.task.model
    shape = models.input_shape(model, setup.dataset.image_shape)
    variables = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), models.shapes(model, shape))
    params = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))
    return Network(params, tracing.forward_multiply_adds(model, shape, train=False), _latency(model, variables, shape))


def _latency(model: nn.Module, variables: Any, image_shape: tuple[int, int, int]) -> float:
    forward = jax.jit(lambda v, images: model.apply(v, images, train=False))
    image = np.zeros((1, *image_shape), np.float32)
    jax.block_until_ready(forward(variables, image))
    seconds = []
    for _ in range(LATENCIES):
        started = time.perf_counter()
        jax.block_until_ready(forward(variables, image))
        seconds.append(time.perf_counter() - started)
    return 1000 * statistics.median(seconds)


def measured(workdir: Path) -> Time | None:
    """The time from the start of a run to the last line of its records; None if it was resumed or has none."""
    path = workdir / "timing.jsonl"
    run = checkpoint.read_run(workdir)
    if run["resumed"] or not path.exists() or not (lines := path.read_text().splitlines()):
        return None
    begun, ended = (datetime.datetime.fromisoformat(stamp) for stamp in (run["started"], json.loads(lines[-1])["time"]))
    return Time(0.0, (ended - begun).total_seconds())


def timed(recipe: Recipe, *, training: bool = True) -> Time:
    """The time of a recipe's run, from a few steps and two evaluations of it.

    Args:
        recipe: of the run.
        training: whether it trains; else it is one evaluation.

    Raises:
        UserError: the recipe cannot run here, as without its data.
    """
    setup = train.set_up(recipe)
    state = train.initial_state(setup, setup.task.init(parallel.initial_key(setup.seed)))
    train_step, evaluator = train.CompiledSteps().of(setup, recipe.config.to_dict(), state)
    state = parallel.replicate(state, setup.layout)
    with setup.dataset.train_batches(batch_size=setup.batch_size, seed=setup.seed) as batches:
        batch = train.with_update_norm(next(batches), due=False)
    seconds = []
    for _ in range(STEPS + 1 if training else 0):
        started = time.perf_counter()
        state, report = train_step(state, parallel.shard(batch, setup.layout))
        jax.block_until_ready((state, report))
        seconds.append(time.perf_counter() - started)
    network_now = (state.params, {**state.model_state, **state.constants})
    started = time.perf_counter()
    evaluator([network_now])
    compiled = time.perf_counter()
    evaluator([network_now])
    evaluating = time.perf_counter() - compiled
    splits = len(setup.training.splits)
    if not training:
        return Time(compiled - started - evaluating, splits * evaluating)
    evaluations = sum(setup.evaluation_due(step) for step in range(1, setup.total_steps + 1))
    return Time(
        seconds[0] + compiled - started - evaluating,
        setup.total_steps * statistics.median(seconds[1:]) + evaluations * splits * evaluating,
    )
