"""What devices exchange is counted from the compiled program."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnn_research import parallel
from dnn_research.tools import collectives


def program(step, shape):
    batch = parallel.shard({"x": np.ones(shape, np.float32)})
    lowered = jax.pmap(step, axis_name=parallel.AXIS).lower(batch)
    return lowered.compile().as_text()


def test_counts_bytes_and_groups():
    pairs = [[0, 1], [2, 3], [4, 5], [6, 7]]

    def step(batch):
        x = batch["x"]
        gathered = jax.lax.all_gather(x, parallel.AXIS, axis=1, tiled=True, axis_index_groups=pairs)
        scattered = jax.lax.psum_scatter(
            jnp.sin(x), parallel.AXIS, scatter_dimension=1, tiled=True, axis_index_groups=pairs
        )
        return gathered, scattered, jax.lax.psum(x, parallel.AXIS)

    found = {c.kind: c for c in collectives.count(program(step, (16, 6)), 8)}
    each = 2 * 6 * 4
    assert {kind: (c.bytes, c.devices, c.sent) for kind, c in found.items()} == {
        "all-gather": (2 * each, 2, each),
        "reduce-scatter": (each // 2, 2, each // 2),
        "all-reduce": (each, 8, 2 * each * 7 // 8),
    }


def test_a_group_of_one_exchanges_nothing():
    def step(batch):
        return jax.lax.psum(batch["x"], parallel.AXIS, axis_index_groups=[[n] for n in range(8)])

    assert collectives.count(program(step, (16, 6)), 8) == []


def test_data_parallel_training_exchanges_its_gradient_once(capsys):
    arguments = ["--config", "configs/quickstart.py", "--config.batch_size=8", "--config.data.num_workers=0", "--json"]
    assert collectives.main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["devices"] == 8
    reduced = sum(c["bytes"] for c in report["as it is"] if c["kind"] == "all-reduce")
    # ResNet-14's 172,506 parameters and the running statistics of its 14 normalizations, and a few sums.
    assert 4 * 172_506 < reduced < 4 * 172_506 + 8_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--compare", "model.depth"], "lacks its values"), (["--what"], "unknown argument --what")],
)
def test_bad_arguments(capsys, arguments, message):
    assert collectives.main(["--config", "configs/quickstart.py", *arguments]) == 1
    assert message in capsys.readouterr().err
