"""Freezing and layer-wise rates: what keeps its value, to the bit, and what moves how fast."""

import jax
import numpy as np
import pytest

from dnn_research import checkpoint, recipe, train
from dnn_research.errors import UserError

BASE = (
    "model.depth=8", "batch_size=16", "data.source=synthetic", "data.image_size=8", "data.synthetic_examples=48",
    "data.augment.pad=1", "data.num_workers=0", "train.num_steps=3", "train.ema_decay=0.5",
    "schedule.warmup_steps=none", "eval.batch_size=48", "eval.every_steps=3", "checkpoint.every_steps=3",
    "record.every_steps=1",
)  # fmt: skip


def small(*overrides):
    return recipe.load("configs/resnet110_cifar10.py", [*BASE, *overrides])


def state_of(workdir):
    state = checkpoint.restore(workdir / "checkpoints/3")[0]
    flat = jax.tree_util.tree_leaves_with_path({key: state[key] for key in ("params", "model_state", "ema")})
    return {"/".join(key.key for key in path): leaf for path, leaf in flat}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("source") / "run"
    train.train(small(), workdir)
    return workdir


def test_frozen_layers_keep_parameters_and_statistics_to_the_bit(source, tmp_path):
    train.train(
        small(
            f"checkpoint.init_from={source}", "checkpoint.init_exclude=fc", "seed=1", "train.freeze=conv1,bn1,stage1",
            "model.scan_blocks=True",
        ),
        tmp_path / "run",
    )  # fmt: skip
    before, after = state_of(source), state_of(tmp_path / "run")
    held = ("conv1", "bn1", "stage1")
    for path, leaf in after.items():
        if path.startswith("ema/"):
            continue
        layer = path.removeprefix("params/").removeprefix("model_state/batch_stats/").split("/")[0]
        assert np.array_equal(leaf, before[path]) == (layer in held), path


def test_a_frozen_normalization_normalizes_by_its_running_statistics(source, tmp_path):
    frozen = ("train.freeze=stage*,conv1,bn1", f"checkpoint.init_from={source}", "data.augment.pad=0",
              "data.augment.flip=False", "batch_size=48", "schedule.learning_rate=1e-9")  # fmt: skip
    results = train.train(small(*frozen), tmp_path / "run")
    lines = [line for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines() if '"train"' in line]
    loss = float(lines[0].split('"loss": ')[1].split(",")[0])
    # The synthetic splits differ: what matters is that a step sees the network that evaluation sees.
    setup = train.set_up(small(*frozen))
    model, variables = checkpoint.load_network(tmp_path / "run")
    with setup.dataset.train_batches(batch_size=48, seed=0) as batches:
        batch = next(batches)
    logits = model.apply(variables, setup.dataset.normalize(batch["image"]))
    expected = -jax.nn.log_softmax(logits)[np.arange(48), batch["label"]].mean()
    assert loss == pytest.approx(float(expected), rel=1e-4)
    assert results["eval/examples"] == 48


def test_factors_multiply_the_rate_of_what_they_name(source, tmp_path):
    start = (f"checkpoint.init_from={source}", "train.num_steps=1", "eval.every_steps=1", "checkpoint.every_steps=1")
    plain, factors = tmp_path / "plain", tmp_path / "factors"
    train.train(small(*start), plain)
    train.train(
        small(*start, 'train.learning_rate_factors=(("stage2/*", 0.5), ("*/bias", 3.0), ("stage2", 9.0))'), factors
    )
    first = {
        name: checkpoint.restore(folder / "checkpoints/1")[0]["params"]
        for name, folder in {"plain": plain, "factors": factors}.items()
    }
    before = state_of(source)
    for path, wanted in (("stage2/block1/conv1/kernel", 0.5), ("stage1/block1/bn1/bias", 3.0), ("fc/kernel", 1.0)):
        old = before[f"params/{path}"]
        new = {name: jax.tree_util.tree_reduce(lambda a, b: b, _at(tree, path)) for name, tree in first.items()}
        np.testing.assert_allclose(new["factors"] - old, wanted * (new["plain"] - old), rtol=1e-3, atol=1e-7)


def _at(tree, path):
    for key in path.split("/"):
        tree = tree[key]
    return tree


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.freeze=layer1", "no parameter is named 'layer1'; the network has conv1, bn1, stage1"),
        ("train.freeze=*", "leaves nothing to train"),
        ('train.learning_rate_factors=("fc", 2)', r"holds \(pattern, factor >= 0\) pairs, not 'fc'"),
        ('train.learning_rate_factors=(("fc", -1),)', "pairs, not"),
    ],
)
def test_what_cannot_be_is_said(override, message):
    with pytest.raises(UserError, match=message):
        train.set_up(small(override))
