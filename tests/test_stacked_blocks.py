"""Equal blocks lie stacked on the devices, and nowhere else: what is trained, saved and said is the same."""

import json

import jax
import numpy as np
import pytest

from dnn_research import checkpoint, divergence, parallel, recipe, train
from dnn_research.errors import Diverged
from dnn_research.models import stage
from dnn_research.tools import evaluate

BASE = (
    "model.depth=20", "model.width_factor=0.25", "batch_size=16", "data.source=synthetic", "data.image_size=8",
    "data.synthetic_examples=32", "data.augment.pad=1", "data.num_workers=0", "train.num_steps=4",
    "train.ema_decay=0.5", "train.batch_norm_axis=batch", "schedule.warmup_steps=none", "eval.batch_size=32",
    "eval.every_steps=2", "checkpoint.every_steps=2", "record.every_steps=1",
)  # fmt: skip


@pytest.fixture(autouse=True)
def scan_short_stages(monkeypatch, devices):
    monkeypatch.setattr(stage, "FEWEST_TO_SCAN", 2)
    devices(2)


def small(*overrides):
    return recipe.load("configs/resnet110_cifar10.py", [*BASE, *overrides])


def saved(workdir):
    return checkpoint.restore(workdir / "checkpoints/4")[0]


def losses(workdir):
    return [json.loads(line)["loss"] for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_a_run_is_the_same_and_goes_on_either_way(tmp_path, capsys):
    train.train(small("model.scan_blocks=False"), tmp_path / "unrolled")
    train.train(small(), tmp_path / "stacked")
    expected, found = saved(tmp_path / "unrolled"), saved(tmp_path / "stacked")
    assert jax.tree.structure(expected) == jax.tree.structure(found)
    assert {"block1", "block2", "block3"} == set(found["params"]["stage2"])
    for (path, theirs), ours in zip(jax.tree_util.tree_leaves_with_path(expected), jax.tree.leaves(found), strict=True):
        scale = float(np.abs(theirs).max()) + 1e-6
        np.testing.assert_allclose(ours, theirs, atol=2e-3 * scale, err_msg=jax.tree_util.keystr(path))
    np.testing.assert_allclose(losses(tmp_path / "stacked"), losses(tmp_path / "unrolled"), rtol=1e-3)

    capsys.readouterr()
    assert evaluate.main(["--workdir", str(tmp_path / "stacked"), "--json"]) == 0
    recorded = json.loads((tmp_path / "stacked/checkpoints/4/manifest.json").read_text())["results"]
    assert json.loads(capsys.readouterr().out)[0]["loss"] == pytest.approx(recorded["eval/loss"], rel=1e-5)

    (tmp_path / "stacked/checkpoints/4").rename(tmp_path / "taken")
    train.train(small("model.scan_blocks=False"), tmp_path / "stacked")
    np.testing.assert_allclose(losses(tmp_path / "stacked"), losses(tmp_path / "unrolled"), rtol=1e-3)


def test_stacked_variables_are_those_of_the_blocks():
    setup = train.set_up(small("train.batch_norm_axis=none"))
    network = setup.task.init(parallel.initial_key(0))
    placed = parallel.replicate(network, setup.layout)
    images = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
    assert placed[0]["stage1"]["blocks"]["conv1"]["kernel"].shape == (2, 3, 3, 4, 4)
    assert len(jax.tree.leaves(placed)) < len(jax.tree.leaves(network))

    def activations(network, upto, train):
        params, model_state = network
        variables, kwargs = {"params": params, **model_state}, {"upto": upto, "method": "features", "train": train}
        return setup.task.model.apply(variables, images, mutable=["batch_stats"], **kwargs)

    for upto, training in ((None, False), (None, True), ("stage1/block2", True)):
        run = jax.jit(activations, static_argnums=(1, 2))
        (theirs, before), (ours, after) = run(network, upto, training), run(placed, upto, training)
        after = parallel.whole(after, setup.layout)
        assert list(theirs) == list(ours)
        for one, other in zip(jax.tree.leaves((theirs, before)), jax.tree.leaves((ours, after)), strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "overrides",
    [
        ["train.freeze=conv1"],
        ["train.learning_rate_factors=(('fc', 2.0),)"],
        ["optimizer.name=lars", "optimizer.nesterov=None"],
        ["model.scan_blocks=False"],
    ],
)
def test_what_knows_parameters_one_by_one_finds_them_so(overrides):
    assert set(train.set_up(small()).layout.stacks) == {"stage1/blocks", "stage2/blocks", "stage3/blocks"}
    assert not train.set_up(small(*overrides)).layout.stacks


def test_a_block_that_diverges_is_named(tmp_path):
    chosen, compiled = small("schedule.learning_rate=1e20", "train.num_steps=20"), train.CompiledSteps()
    with pytest.raises(Diverged) as caught:
        train.train(chosen, tmp_path, compiled)
    error = divergence.explained(caught.value, chosen, tmp_path, compiled, print)
    assert "report:" in str(error)
    layers = {leaf["layer"] for leaf in json.loads((tmp_path / "divergence.json").read_text())["layers"]}
    assert any(layer.startswith("stage1/block2") for layer in layers)
