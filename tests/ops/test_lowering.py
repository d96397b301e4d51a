"""A whole train step that is lowered for an accelerator holds the stock operations, and no other; for a CPU, others."""

import collections
import contextlib
import re

import jax
import pytest
from jax.sharding import PartitionSpec

from dnn_research import parallel, recipe, train
from dnn_research.ops.lowering import stock_operations
from tests.tiny import ROOT

NETWORKS = ("mobilenet.py:smoke", "alexnet.py:smoke")
LARGER = ("vgg16.py:smoke", "googlenet.py:smoke", "nin.py:imagenet,smoke", "resnet50.py:smoke")
# How a choice by platform looks once it is made: a `case` of one branch, its constant index, what is constant in it.
LEFT_OVER = {"case", "constant", "broadcast_in_dim"}


def operations(name: str, platform: str, *, stock: bool) -> collections.Counter[str]:
    """How often each operation stands in the train step of a recipe."""
    setup = train.set_up(recipe.load(str(ROOT / "configs" / name)))
    with stock_operations() if stock else contextlib.nullcontext():
        state = jax.eval_shape(lambda network: train.initial_state(setup, network), setup.task.shapes())
        with setup.dataset.train_batches(batch_size=setup.batch_size, seed=0) as batches:
            batch = train.with_update_norm(next(batches), due=False)
        # What pmap runs on every device; pmap itself cannot be lowered for another platform.
        step = jax.shard_map(
            train.make_train_step(setup),
            mesh=parallel.local_mesh(),
            in_specs=(PartitionSpec(), PartitionSpec(parallel.AXIS)),
            out_specs=PartitionSpec(),
            check_vma=False,
        )
        traced = jax.jit(step).trace(state, {**batch, "position": batch["index"]})
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    return collections.Counter(re.findall(r'= "?stablehlo\.(\w+)', text))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NETWORKS, *(pytest.param(name, marks=pytest.mark.full) for name in LARGER)])
def test_accelerators_run_the_stock_train_step(name):
    stock = operations(name, "tpu", stock=True)
    ours, on_cpu = (operations(name, platform, stock=False) for platform in ("tpu", "cpu"))
    assert stock["convolution"] or stock["dot_general"]
    assert {name: n for name, n in ours.items() if name not in LEFT_OVER} == {
        name: n for name, n in stock.items() if name not in LEFT_OVER
    }
    assert on_cpu["convolution"] != stock["convolution"]
