"""Style transfer through the loop: it learns, its loss network is fixed, not saved, and known by its checksum."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnn_research import checkpoint, recipe, train
from dnn_research.data import pictures
from dnn_research.errors import UserError
from dnn_research.models.watching import watching
from dnn_research.tasks import loss_network, objective, pixels

ROOT = Path(__file__).resolve().parents[2]
TINY = (
    "data.source=synthetic", "data.synthetic_examples=10", "data.image_size=16", "data.augment.shorter_side=(16,20)",
    "data.num_workers=0", "eval.resize=16", "eval.batch_size=4", "batch_size=8", "train.num_steps=6",
    "eval.every_steps=3", "checkpoint.every_steps=3", "record.every_steps=2", "model.width_factor=0.125",
    "model.variant=pytorch", "task.loss_network.weights=random", "task.loss_network.model.width_factor=0.0625",
    "task.style_size=32", "task.style_images=builtin:tissue,builtin:coffee", "model.styles=2",
)  # fmt: skip


def load(*overrides):
    return recipe.load(str(ROOT / "configs/style_transfer.py"), [*TINY, *overrides])


def lines(workdir, split):
    found = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if line["split"] == split]


@pytest.fixture
def devices(devices):
    devices(1)
    return devices


def test_trains_resumes_and_saves_no_loss_network(tmp_path, devices, monkeypatch):
    results = train.train(load(), tmp_path / "run")
    assert set(results) == {f"eval/{n}" for n in ("examples", *objective.EVALUATED.names)}
    assert results["eval/examples"] == 10
    assert lines(tmp_path / "run", "train")[-1]["style_loss"] < lines(tmp_path / "run", "train")[0]["style_loss"]

    folder = checkpoint.find(tmp_path / "run")
    saved, manifest = checkpoint.restore(folder)
    assert "constants" not in saved and not any("loss_network" in name for name in manifest.leaves)
    facts = json.loads((tmp_path / "run" / "run.json").read_text())["task"]
    assert facts["loss_network"]["weights"] == "random weights (seed 0)"
    assert len(facts["loss_network"]["sha256"]) == len(facts["style_images"]["builtin:tissue"]) == 64

    model, variables = checkpoint.load_network(tmp_path / "run")
    assert model.styles == 2
    assert model.apply(variables, jnp.zeros((1, 16, 16, 3))).shape == (1, 16, 16, 3)
    evaluated = train.evaluate_run(load(), tmp_path / "run", "latest", print)
    assert evaluated == pytest.approx(results)

    # Interrupted and gone on with: the same bits.
    monkeypatch.setattr(train.Every, "__call__", _interrupting(train.Every.__call__))
    with pytest.raises(KeyboardInterrupt):
        train.train(load(), tmp_path / "again")
    monkeypatch.undo()
    devices(1)
    train.train(load(), tmp_path / "again")
    again = checkpoint.restore(checkpoint.find(tmp_path / "again"))[0]
    jax.tree.map(np.testing.assert_array_equal, saved["params"], again["params"])


def _interrupting(call):
    def stop(self, step):
        if step == 4:
            raise KeyboardInterrupt
        return call(self, step)

    return stop


def test_iterations_are_evaluated_in_place_of_the_network(tmp_path, devices):
    two = ("data.synthetic_examples=2", "batch_size=2", "train.num_steps=3")
    of_network = train.train(load(*two), tmp_path / "run")
    chosen = load(*two, "task.evaluate_iterations=5")
    found = train.evaluate_run(chosen, tmp_path / "run", "latest", print)
    photos = train.set_up(chosen).evaluator.first_images(2)
    section = chosen.config.task.to_dict()
    names = ("content_layer", "style_layers", "content_weight", "style_weight", "tv_weight", "normalization")
    goal = objective.create(
        **{name: section[name] for name in names}, network=section["loss_network"], dtype=jnp.float32
    )
    styles = [pictures.fit(pictures.read_still(name), 32) for name in section["style_images"]]
    constants = jax.tree.map(jnp.asarray, goal.constants(styles))
    options = pixels.Options(iterations=5, sizes=(16,), style_size=32)
    each = []
    for photo, mixture in zip(photos, np.eye(2, dtype=np.float32), strict=True):
        made = pixels.optimize(photo, styles, mixture.tolist(), goal, options, lambda *_: None)
        shown, made = (jnp.asarray(image[None], jnp.float32) for image in (photo, made))
        wanted = goal.content(constants, shown)
        each.append(goal.measure(constants, made, wanted, jnp.asarray(mixture[None]))["loss"])
    # `optimize` rounds to whole levels.
    assert found["eval/loss"] == pytest.approx(np.mean(each), rel=5e-3)
    assert found["eval/loss"] < 0.9 * of_network["eval/loss"]
    names = []
    setup = train.set_up(chosen)
    batch = {"image": jnp.asarray(photos), "index": jnp.arange(2), "weight": jnp.ones(2)}
    params, _ = setup.task.shapes()
    with watching(setup.task.model, lambda name, outputs: names.append((name, outputs.shape))):
        jax.eval_shape(setup.task.evaluate, params, setup.task.constants, batch)
    assert ("VGG/conv1_1", (2, 16, 16, 4)) in names and all(shape[0] == 2 for _, shape in names)
    with pytest.raises(UserError, match=r"task\.evaluate_iterations must not be negative: -1"):
        train.set_up(load("task.evaluate_iterations=-1"))


def test_other_weights_under_the_same_name_are_refused(tmp_path, devices):
    train.train(load("train.num_steps=3"), tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    run = json.loads(path.read_text())
    run["task"]["loss_network"]["sha256"] = "0" * 64
    path.write_text(json.dumps(run))
    for go_on in (
        lambda: train.train(load("train.num_steps=3"), tmp_path / "run"),
        lambda: train.evaluate_run(load("train.num_steps=3"), tmp_path / "run", "latest", print),
    ):
        with pytest.raises(UserError, match=r"something else that has the same name.*loss_network\.sha256: 0000"):
            go_on()


def test_two_devices_are_one(tmp_path, devices):
    for count in (1, 2):
        devices(count)
        train.train(load("train.num_steps=3"), tmp_path / str(count))
    for split in ("train", "eval"):
        for one, two in zip(lines(tmp_path / "1", split), lines(tmp_path / "2", split), strict=True):
            for name in ("loss", "style_loss", "content_loss", "tv_loss"):
                assert one[name] == pytest.approx(two[name], rel=1e-3)


def make(layers=("relu1_2", "relu3_3"), **changes):
    arguments = {
        "weights": "random", "step": "latest", "model": {"name": "vgg", "variant": "D", "width_factor": 0.0625},
        "pooling": None, "rescale": "none", "seed": 0, "layers": layers, "dtype": np.float32,
    }  # fmt: skip
    return loss_network.create(**{**arguments, **changes})


def test_a_loss_network_keeps_what_its_layers_need():
    network = make()
    assert set(network.constants["variables"]["params"]) == {
        "conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3",
    }  # fmt: skip
    assert network.layers == ("relu1_2", "relu3_3")
    assert make().facts == network.facts
    assert make(seed=1).facts["sha256"] != network.facts["sha256"]
    average = make(pooling="average")
    photos = np.random.default_rng(0).uniform(0, 255, (1, 16, 16, 3)).astype(np.float32)
    run = lambda n: jax.jit(n.features)(n.constants, photos)  # noqa: E731
    np.testing.assert_array_equal(run(network)["relu1_2"], run(average)["relu1_2"])
    assert np.abs(run(network)["relu3_3"] - run(average)["relu3_3"]).max() > 0


def test_a_map_that_hardly_speaks_does_not_drown_the_others():
    """Rescaled map by map, none counts for more than a hundred times what its layer's mean would make of it."""
    network = {"name": "vgg", "variant": "A", "width_factor": 0.0625}
    made = loss_network.create(
        weights="random", step="latest", model=network, pooling=None, rescale="filters", seed=0,
        layers=("relu1_1", "relu3_1"), dtype=jnp.float32,
    )  # fmt: skip
    layered = loss_network.create(
        weights="random", step="latest", model=network, pooling=None, rescale="layers", seed=0,
        layers=("relu1_1", "relu3_1"), dtype=jnp.float32,
    )  # fmt: skip
    for name, scale in made.constants["scales"].items():
        assert scale.max() <= 1.001 * layered.constants["scales"][name] / loss_network.FAINTEST


def test_the_photographs_own_style_loss_is_that_of_a_network_that_changes_nothing():
    goal = objective.create(
        content_layer="relu2_1", style_layers=("relu1_1", "relu2_1"), content_weight=1.0, style_weight=1.0,
        tv_weight=0.0, normalization="gatys", dtype=jnp.float32,
        network={
            "weights": "random", "step": "latest", "model": {"name": "vgg", "variant": "A", "width_factor": 0.0625},
            "pooling": None, "rescale": "layers", "seed": 0,
        },
    )  # fmt: skip
    photos = jax.random.uniform(jax.random.key(0), (2, 32, 32, 3), maxval=255.0)
    styles = [np.zeros((32, 32, 3), np.uint8), np.full((32, 32, 3), 200, np.uint8)]
    constants = jax.tree.map(jnp.asarray, goal.constants(styles))
    mixture = jnp.eye(2)
    unchanged = goal.measure(constants, photos, goal.content(constants, photos), mixture)
    np.testing.assert_allclose(goal.style(constants, photos, mixture), unchanged["style_loss"], rtol=1e-6)
    assert (unchanged["content_loss"] == 0).all()


def test_rescaling_makes_losses_independent_of_the_weights_scale(tmp_path, monkeypatch):
    """Twice the first layer's weights are twice its activations, and the same losses."""
    measured = {}
    create = loss_network.models.initialize
    for factor in (1.0, 2.0):
        monkeypatch.setattr(
            loss_network.models, "initialize", lambda *a, f=factor: jax.tree.map(lambda x: f * x, create(*a))
        )
        for rescale in loss_network.RESCALINGS:
            network = make(rescale=rescale)
            pixels = np.random.default_rng(0).uniform(0, 255, (1, 16, 16, 3)).astype(np.float32)
            measured[factor, rescale] = jax.jit(network.features)(network.constants, pixels)["relu3_3"]
    assert np.abs(measured[1.0, "none"] - measured[2.0, "none"]).max() > 1
    for rescale in ("layers", "filters"):
        np.testing.assert_allclose(measured[1.0, rescale], measured[2.0, rescale], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("task.content_layer=relu9_9", "VGG has no activation 'relu9_9'; it has relu1_1, relu1_2"),
        ("task.content_layer=fc7", "'fc7' of VGG has no maps to compare; take some of relu1_1"),
        ("model.border=4", "border is '4'; it can be None, 0"),
        ("task.loss_network.weights=runs/none", "there is no run in runs/none; train one"),
        ("task.loss_network.rescale=maps", r"unknown task\.loss_network\.rescale 'maps'"),
        ("task.normalization=mine", r"unknown task\.normalization 'mine'"),
        ("task.style_weight=-1", "must not be negative"),
        ("task.style_images=()", "must name at least one picture"),
        ("task.style_images=no/such.png,builtin:tissue", r"no/such\.png: No such file"),
        ("model.styles=3", r"model\.styles=3, but task\.style_images names 2"),
        ("model.name=resnet", "trains the network transform_net"),
        ("checkpoint.best_metric=eval/top1_accuracy", r"unknown checkpoint\.best_metric"),
    ],
)
def test_what_is_wrong_is_one_line(override, complaint):
    with pytest.raises(UserError, match=complaint) as raised:
        train.set_up(load(override))
    assert "\n" not in str(raised.value)
