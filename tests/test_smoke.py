"""Every recipe, and every word of its variants, runs `:smoke` to its end: three steps, an evaluation, a checkpoint."""

import json
import math
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnn_research import checkpoint, models, recipe, train

ROOT = Path(__file__).parent.parent

# The cheapest recipe of each family. In full size those with overrides take half a minute and more, most of it to
# compile; so they run in full size among the slow ones too.
ORDINARY = {
    "lenet": (),
    "alexnet:half": (),
    "vgg16:A": ("model.width_factor=0.125",),
    "nin:mnist": (),
    "googlenet": ("model.width_factor=0.25", "data.image_size=96"),
    "resnet18": (),
    "quickstart": (),
    "loss_network": (),
    "mobilenet:shallow": ("data.image_size=96",),
    "style_transfer": ("model.width_factor=0.125", "task.loss_network.model.width_factor=0.0625"),
    "super_resolution": (
        "model.width_factor=0.125", "task.loss_network.model.width_factor=0.0625", "data.image_size=32",
    ),
}  # fmt: skip

SLOW = (
    "alexnet", "alexnet:ungrouped", "alexnet:caffe", "alexnet:caffenet", "alexnet:torchvision",
    "vgg16", "vgg16:A", "vgg16:A-LRN", "vgg16:B", "vgg16:B-5x5", "vgg16:C", "vgg16:E",
    "nin", "nin:cifar100", "nin:svhn", "nin:imagenet",
    "googlenet", "googlenet:batch_norm", "googlenet:torchvision",
    "mobilenet", "mobilenet:fullconv", "mobilenet:shallow", "mobilenet:192", "mobilenet:160", "mobilenet:128",
    "style_transfer", "style_transfer:released",
    "super_resolution", "super_resolution:pixel", "super_resolution:x8", "super_resolution:x8-pixel",
    "resnet34", "resnet50", "resnet101", "resnet152", "resnet110_cifar10", "finetune",
)  # fmt: skip


def load(run, overrides=()):
    stem, *words = run.split(":")
    return recipe.load(f"{ROOT / 'configs' / stem}.py:{','.join([*words, 'smoke'])}", overrides)


@pytest.fixture
def workdir(tmp_path):
    """What a run leaves is not kept: here up to a gigabyte, in memory its compiled steps.

    Each run's take some two thousand of the 65,530 mappings that Linux gives to a process; beyond them it is aborted.
    """
    yield tmp_path / "run"
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    jax.clear_caches()


@pytest.fixture
def one_device(monkeypatch):
    """Eight copies of the largest networks and of their gradients would not fit into most machines."""
    there = jax.local_devices()
    monkeypatch.setattr(jax, "local_devices", lambda: there[:1])
    monkeypatch.setattr(jax, "local_device_count", lambda: 1)
    monkeypatch.setattr(jax, "device_count", lambda: 1)


RUNS = [
    *(pytest.param(run, overrides, id=" ".join((run, *overrides))) for run, overrides in ORDINARY.items()),
    *(pytest.param(run, (), id=run, marks=[pytest.mark.slow, pytest.mark.full]) for run in SLOW),
]


@pytest.mark.usefixtures("one_device")
@pytest.mark.parametrize(("run", "overrides"), RUNS)
def test_runs_to_its_end(run, overrides, workdir):
    loaded = load(run, overrides)
    config = loaded.config
    splits = ["eval", "eval_ema"] if config.train.ema_decay else ["eval"]
    results = train.train(loaded, workdir)

    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [(line["split"], line["step"], line["examples"]) for line in lines] == [
        *(("train", step, 8) for step in (1, 2, 3)), *((split, 3, 16) for split in splits),
    ]  # fmt: skip
    for line in lines:
        assert math.isfinite(line["loss"])
        assert line["split"] != "train" or 0 < line["gradient_norm"] < math.inf
    assert [results[f"{split}/loss"] for split in splits] == [line["loss"] for line in lines[3:]]

    assert checkpoint.find(workdir).name == "3"
    images = jax.ShapeDtypeStruct((1, *(config.data.image_size,) * 2, config.data.channels), jnp.float32)
    for split in splits:
        model, variables = checkpoint.load_network(workdir, ema=split == "eval_ema")
        assert type(model) is models.MODELS[config.model.name]
        shape = models.input_shape(model, images.shape[1:])
        made = jax.eval_shape(model.apply, variables, jax.ShapeDtypeStruct((1, *shape), jnp.float32))
        pictures = config.model.name in models.IMAGE_NETWORKS
        assert made.shape == (images.shape if pictures else (1, config.data.synthetic_classes))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables))


def test_no_recipe_is_left_out():
    there = set()
    for path in (ROOT / "configs").glob("*.py"):
        variants = getattr(recipe._execute(path), "VARIANTS", {})
        there |= {path.stem, *(f"{path.stem}:{word}" for word in variants)}
    in_full = {run for run, overrides in ORDINARY.items() if not overrides} | set(SLOW)
    assert (there - in_full, in_full - there) == (set(), set())


def test_every_family_has_an_ordinary_run():
    assert set(models.MODELS) - {load(run).config.model.name for run in ORDINARY} == set()
