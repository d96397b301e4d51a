"""AlexNet over two devices is the grouped network: logits, every gradient, whole runs and checkpoints."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dnn_research import checkpoint, models, optim, parallel, recipe, train
from dnn_research.errors import UserError
from dnn_research.models.layers import example_positions

SMALL = {"variant": "paper", "stem": "cifar", "width_factor": 0.125, "num_classes": 5}
IMAGE = (32, 32, 3)


def examples(count):
    random = np.random.default_rng(0)
    return {
        "image": random.normal(size=(count, *IMAGE)).astype(np.float32),
        "label": random.integers(0, 5, count).astype(np.int32),
    }


def loss_of(network, params, batch, key):
    with example_positions(batch["position"]):
        logits = network.apply({"params": params}, batch["image"], train=True, rngs={"dropout": key})
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean(), logits


@pytest.mark.parametrize("count", [2, 4])
def test_logits_and_every_gradient_are_the_grouped_networks(devices, count):
    devices(count)
    grouped = models.create("alexnet", **SMALL)
    network, towers, axes = models.towers(models.create("alexnet", **SMALL, towers=2), parallel.AXIS)
    layout = parallel.Layout(towers, axes)
    params = models.initialize(grouped, jax.random.key(0), IMAGE)["params"]
    # Biases of ones would hide which half of a bias is where.
    random = np.random.default_rng(1)
    params = jax.tree.map(lambda p: p + 0.1 * random.normal(size=p.shape).astype(np.float32), jax.device_get(params))
    batch, key = examples(8), jax.random.key(1)

    def step(params, batch):
        grads, logits = jax.grad(lambda p: loss_of(network, p, batch, key), has_aux=True)(params)
        grads = parallel.mean_gradient(grads, layout)
        everyone = jax.lax.all_gather(logits, parallel.AXIS, axis=0)[:: layout.towers]
        return grads, {"logits": everyone, "norm": parallel.norm(grads, optim.global_norm, layout)}

    mapped = parallel.on_each_device(step, donate_state=True, layout=layout, state=params)
    grads, report = mapped(parallel.replicate(params, layout), parallel.shard(batch, layout))
    grads = parallel.whole(grads, layout)

    together = {**{name: jnp.asarray(value) for name, value in batch.items()}, "position": jnp.arange(8)}
    expected, logits = jax.jit(jax.grad(lambda p: loss_of(grouped, p, together, key), has_aux=True))(params)
    np.testing.assert_allclose(np.asarray(report["logits"]).reshape(logits.shape), logits, rtol=1e-4, atol=1e-5)
    assert jax.tree.structure(grads) == jax.tree.structure(expected)
    for path, leaf in jax.tree_util.tree_leaves_with_path(expected):
        found = grads[path[0].key][path[1].key]
        scale = float(np.abs(leaf).max())
        assert scale > 0, path
        np.testing.assert_allclose(found, leaf, rtol=1e-4, atol=1e-4 * scale, err_msg=jax.tree_util.keystr(path))
    assert float(report["norm"]) == pytest.approx(float(optim.global_norm(expected)), rel=1e-4)


def test_all_but_the_last_bias_lives_in_halves(devices):
    devices(2)
    network = models.create("alexnet", **SMALL, towers=2)
    params = models.shapes(network, IMAGE)["params"]
    _, towers, axes = models.towers(network, parallel.AXIS)
    placed = parallel.placed_shapes(params, parallel.Layout(towers, axes))
    whole = {path for path, leaf in _flat(placed).items() if leaf.shape == _flat(params)[path].shape}
    assert whole == {"fc8/bias"}
    for path, leaf in _flat(placed).items():
        assert path in whole or leaf.shape[0] * np.prod(leaf.shape[1:]) == np.prod(_flat(params)[path].shape)


def small_recipe(*overrides):
    base = (
        "model.stem=cifar", "model.width_factor=0.125", "batch_size=16", "data.source=synthetic",
        "data.image_size=32", "data.synthetic_classes=5", "data.synthetic_examples=40", "data.num_workers=0",
        "data.augment.shorter_side=()", "train.num_steps=6", "train.ema_decay=0.9", "schedule.learning_rate=0.01",
        "eval.protocol=original", "eval.resize=none", "eval.batch_size=13", "eval.every_steps=3",
        "checkpoint.every_steps=3", "record.every_steps=2",
    )  # fmt: skip
    return recipe.load("configs/alexnet.py", [*base, *overrides])


def test_a_run_in_towers_is_the_grouped_run_and_each_goes_on_as_the_other(tmp_path, devices):
    devices(1)
    grouped = train.train(small_recipe(), tmp_path / "grouped")
    devices(4)
    towers = train.train(small_recipe("model.towers=2"), tmp_path / "towers")
    assert towers["eval/examples"] == grouped["eval/examples"] == 40
    assert towers["eval/loss"] == pytest.approx(grouped["eval/loss"], rel=1e-3)
    one, other = (checkpoint.restore(tmp_path / name / "checkpoints/6")[0] for name in ("grouped", "towers"))
    assert jax.tree.map(np.shape, one) == jax.tree.map(np.shape, other)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5), one, other)

    checkpoint.find(tmp_path / "towers", "6").rename(tmp_path / "aside")
    again = train.train(small_recipe("model.towers=2"), tmp_path / "towers")
    assert again == towers
    devices(1)
    messages = []
    assert train.evaluate_run(small_recipe(), tmp_path / "towers", "latest", messages.append)["eval/loss"] == (
        pytest.approx(towers["eval/loss"], rel=1e-5)
    )
    checkpoint.find(tmp_path / "towers", "6").rename(tmp_path / "aside too")
    alone = train.train(small_recipe("model.towers=1"), tmp_path / "towers")
    assert alone["eval/loss"] == pytest.approx(towers["eval/loss"], rel=1e-3)


@pytest.mark.parametrize(
    ("count", "overrides", "message"),
    [
        (3, (), "needs a multiple of 2 devices, not 3"),
        (4, ("batch_size=15",), "does not divide over 2 groups of 2 devices"),
        (2, ("train.clip_norm=1.0",), "take model.towers=1"),
        (2, ("model.variant=ungrouped",), "towers"),
        (2, ("model.towers=3",), "towers"),
        (2, ("model.lrn_across_towers=True",), "towers"),
    ],
)
def test_what_towers_cannot_do_is_said(devices, count, overrides, message):
    devices(count)
    with pytest.raises(UserError, match=message):
        train.set_up(small_recipe("model.towers=2", *overrides))


def _flat(tree):
    return {"/".join(key.key for key in path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
