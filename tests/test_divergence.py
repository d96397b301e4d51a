"""What is said of a run that diverged: the right step, layer and examples, and never anything else than that."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnn_research import divergence, models, parallel, train
from dnn_research.divergence import inspection
from dnn_research.errors import Diverged
from tests import tiny


@pytest.fixture(autouse=True)
def two_devices(devices):
    devices(2)


@pytest.fixture
def tiny_network(monkeypatch):
    monkeypatch.setattr(models, "create", lambda *_, num_classes, **__: tiny.TinyNet(num_classes))


def diverge(recipe, workdir):
    """The error of a run as the command reports it, and its report."""
    compiled = train.CompiledSteps()
    with pytest.raises(Diverged) as caught:
        train.train(recipe, workdir, compiled)
    error = divergence.explained(caught.value, recipe, workdir, compiled, print)
    assert str(error).startswith(str(caught.value)) and "\n" not in str(error)
    path = workdir / "divergence.json"
    return error, json.loads(path.read_text()) if path.exists() else None


def poison(monkeypatch, spoil, *, once=False):
    """Calls `spoil(batch on the devices)` for the batch of step 8, each time it is drawn."""
    shard, dataset = parallel.shard, train.set_up(tiny.recipe()).dataset
    with dataset.train_batches(batch_size=16, seed=0, start_step=7) as batches:
        eighth = next(batches)["index"]
    times = []

    def shard_spoiled(batch, layout=parallel.WHOLE):
        out = shard(batch, layout)
        if "weight" not in batch and np.array_equal(batch["index"], eighth) and not (once and times):
            times.append(1)
            spoil(out)
        return out

    monkeypatch.setattr(parallel, "shard", shard_spoiled)
    return eighth


def shifted(*places):
    """Colour shifts of 2 x 8 examples that are NaN at some positions of the batch."""
    shift = np.zeros((16, 3), np.float32)
    shift[list(places)] = np.nan
    return lambda out: out.update(
        color_shift=jax.device_put(shift.reshape(2, 8, 3), out["image"].sharding),
    )


@pytest.mark.parametrize(("parts", "part"), [(1, 0), (2, 1)])
def test_bad_images_are_named_with_their_step_and_places(tmp_path, monkeypatch, tiny_network, parts, part):
    always = lambda out: out.setdefault("color_shift", jnp.zeros((2, 8, 3)))  # noqa: E731
    eighth = poison(monkeypatch, shifted(5, 14))
    spoiled = parallel.shard

    def shard(batch, layout=parallel.WHOLE):
        out = spoiled(batch, layout)
        if "weight" not in batch:
            always(out)
        return out

    monkeypatch.setattr(parallel, "shard", shard)
    error, found = diverge(tiny.recipe(f"train.accumulate_steps={parts}"), tmp_path)
    assert (found["step"], found["where"], found["layer"], found["part"]) == (8, "input", "input", part)
    assert found["replayed_from"] == 5 and found["diverges_again"]
    assert [step["step"] for step in found["history"]] == [6, 7, 8]
    assert [example["index"] for example in found["examples"]] == eighth.tolist()
    assert found["not_finite_examples"]["input"] == [5, 14]
    assert f"bad images: {eighth[5]}, {eighth[14]}" in str(error)
    assert f"report: {tmp_path / 'divergence.md'}" in str(error)
    text = (tmp_path / "divergence.md").read_text()
    assert f"Not finite in input: {eighth[5]}, {eighth[14]}." in text


def test_a_divergence_that_does_not_repeat_is_said_and_stays_one(tmp_path, monkeypatch, tiny_network):
    poison(monkeypatch, shifted(*range(16)), once=True)
    error, found = diverge(tiny.recipe(), tmp_path)
    assert error.step == 8 and "not finite at step 8" in str(error)
    assert found["where"] is None and not found["diverges_again"]
    assert "the step does not repeat" in str(error)


def test_a_replay_that_fails_does_not_hide_the_divergence(tmp_path, monkeypatch, tiny_network):
    def broken(*_):
        raise ValueError("no room\nmore")

    monkeypatch.setattr(inspection, "of_step", broken)
    error, found = diverge(tiny.recipe("schedule.learning_rate=1e38"), tmp_path)
    assert "not finite at step 1" in str(error)
    assert str(error).endswith("replaying it failed (ValueError: no room)")
    assert found is None


def test_a_run_of_several_processes_is_not_replayed(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    error = divergence.explained(Diverged("lost", 3), tiny.recipe(), tmp_path, train.CompiledSteps(), print)
    assert (str(error).partition(";")[0], error.step) == ("lost", 3)
    assert "the same command on one host alone" in str(error)


def test_a_norm_beyond_float32_of_finite_parameters(tmp_path, tiny_network):
    _, found = diverge(tiny.recipe("schedule.learning_rate=1e38"), tmp_path)
    assert (found["step"], found["where"]) == (1, "update norm")
    assert found["causes"][0]["cause"] == "the learning rate is too high"
    assert found["replayed_from"] == 0


def test_statistics_that_only_evaluation_looks_at(tiny_network):
    setup = train.set_up(tiny.recipe("train.ema_decay=0.5"))
    state = train.initial_state(setup, setup.task.init(parallel.initial_key(0)))
    sound = parallel.replicate(state)
    assert inspection.first_not_finite(inspection.of_evaluation(setup, sound))["where"] is None
    stats = state.model_state["batch_stats"]["bn1"]
    stats["var"] = np.array(stats["var"])
    stats["var"][3] = np.inf
    found = inspection.first_not_finite(inspection.of_evaluation(setup, parallel.replicate(state)))
    assert (found["where"], found["layer"]) == ("statistics", "bn1")


def test_what_all_devices_hold_is_counted_once():
    tree = {"fc": {"bias": np.array([np.nan, 1.0, np.inf], np.float32)}}
    look = parallel.on_each_device(
        lambda state, _: inspection._leaves(state, parallel.WHOLE), layout=parallel.WHOLE, state=tree
    )
    batch = parallel.shard({"image": np.zeros((2, 1), np.float32)})
    found = look(parallel.replicate(tree), batch)["fc"]["bias"]
    assert (float(found["not_finite"]), float(found["largest"])) == (2, 1)


@pytest.mark.slow
def test_the_layer_of_a_deep_plain_network_that_explodes(tmp_path):
    """At step 6 two of its layers take a large step; at step 7 the squares of what they give are beyond float32."""
    recipe = tiny.recipe(
        "model.depth=56", "model.residual=False", "model.width_factor=0.25", "schedule.learning_rate=1e-27",
        "schedule.factor=1e26", "schedule.boundary_steps=(5,)", "eval.every_steps=100", "checkpoint.every_steps=3",
        "train.learning_rate_factors=(('stage2/block4/bn1', 1e12), ('stage2/block4/conv2', 1e15))",
        "record.every_steps=1",
    )  # fmt: skip
    _, found = diverge(recipe, tmp_path)
    assert (found["step"], found["replayed_from"]) == (7, 6)
    assert (found["where"], found["layer"]) == ("forward", "stage2/block4/bn2")
    names = [layer["layer"] for layer in found["layers"]]
    assert names[:3] == ["input", "conv1", "bn1"] and names[-1] == "fc" and len(names) == 1 + 2 + 27 * 5 + 3 + 1
    first = names.index("stage2/block4/bn2")
    assert not any(layer["not_finite"] for layer in found["layers"][:first])
    assert found["layers"][first - 1]["largest"] > 1e19
    assert all(leaf["parameter"]["norm"] < 1e18 for leaf in found["parameters"])
