"""Whole runs of a tiny network: device counts, resumption, exact evaluation, divergence, one compilation."""

import dataclasses
import itertools
import json
import os
import shutil
import signal
import time

import jax
import numpy as np
import pytest

from dnn_research import checkpoint, lock, models, optim, parallel, record, train
from dnn_research.errors import Diverged, Interrupted, UserError
from tests import tiny


@pytest.fixture(autouse=True)
def tiny_network(monkeypatch):
    """`resnet_cifar` is `TinyNet` here: its recipe is what these tests shrink."""

    def make(name, **fields):
        return tiny.TinyNet(
            **{key: fields[key] for key in ("num_classes", "dtype", "batch_norm_axis") if key in fields}
        )

    monkeypatch.setattr(models, "create", make)


@pytest.fixture
def devices(devices):
    devices(2)
    return devices


def run(workdir, *overrides):
    return train.train(tiny.recipe(*overrides), workdir)


def lines(workdir, split=None):
    found = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if split in (None, line["split"])]


def saved(workdir, step=12):
    return checkpoint.restore(workdir / "checkpoints" / str(step))[0]


def assert_same_bits(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_one_device_is_eight_with_dropout_and_shared_statistics(tmp_path, devices):
    for count in (1, 8):
        devices(count)
        run(tmp_path / str(count), "train.ema_decay=0.9")
    for one, eight in zip(lines(tmp_path / "1"), lines(tmp_path / "8"), strict=True):
        assert one["loss"] == pytest.approx(eight["loss"], rel=1e-4)
        assert one["examples"] == eight["examples"]
    one, eight = saved(tmp_path / "1"), saved(tmp_path / "8")
    for part in ("params", "model_state", "opt_state", "ema"):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), one[part], eight[part])


def test_own_statistics_are_averaged_and_differ_from_shared_ones(tmp_path, devices):
    devices(4)
    run(tmp_path / "own", "train.batch_norm_axis=none")
    run(tmp_path / "shared")
    own, shared = (saved(tmp_path / name)["model_state"]["batch_stats"]["bn1"]["var"] for name in ("own", "shared"))
    assert np.isfinite(own).all()
    assert (own < shared).mean() > 0.7  # the variance between the devices' means is left out


def test_all_replicas_of_the_state_are_equal(devices):
    devices(4)
    setup = train.set_up(tiny.recipe("train.batch_norm_axis=none", "train.ema_decay=0.9"))
    step = jax.pmap(train.make_train_step(setup), axis_name=parallel.AXIS, in_axes=(None, 0), out_axes=0)
    state = train.initial_state(setup, setup.task.init(parallel.initial_key(0)))
    with setup.dataset.train_batches(batch_size=16, seed=0) as batches:
        state, report = step(parallel.replicate(state), parallel.shard(next(batches)))
    for leaf in jax.tree.leaves((state, report)):
        values = np.asarray(leaf)
        np.testing.assert_array_equal(values, np.broadcast_to(values[:1], values.shape))


def test_the_train_step_compiles_once(tmp_path, devices, monkeypatch):
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **about: compiled.append(name) if name.endswith("backend_compile_duration") else None
    )
    counts, of = [], train.CompiledSteps.of

    def counting(steps, *about):
        train_step, evaluator = of(steps, *about)

        def call(state, batch):
            before = len(compiled)
            out = train_step(state, batch)
            counts.append(len(compiled) - before)
            return out

        return call, evaluator

    monkeypatch.setattr(train.CompiledSteps, "of", counting)
    devices(4)
    run(tmp_path / "run")
    assert counts == [1] + [0] * 11


def test_evaluation_counts_every_example_once_for_any_batch_and_devices(tmp_path, devices):
    results = []
    for count, batch_size in ((1, 60), (8, 24), (8, 7), (2, 1)):
        devices(count)
        setup = train.set_up(tiny.recipe(f"eval.batch_size={batch_size}"))
        network = parallel.replicate(setup.task.init(parallel.initial_key(0)))
        results.append(train.evaluate(setup, network).values)
    for result in results:
        assert result["examples"] == 60
        assert result["top1_accuracy"] == results[0]["top1_accuracy"]
        assert result["loss"] == pytest.approx(results[0]["loss"], rel=1e-5)


class Killed(BaseException):
    """Stands for a process that is gone: nothing is saved or said."""


def kill_at(step, monkeypatch):
    shard, calls = parallel.shard, []

    def dying(batch, layout):
        calls.append(len(batch["label"]))
        if sum(size == 16 for size in calls) == step:
            raise Killed
        return shard(batch, layout)

    monkeypatch.setattr(parallel, "shard", dying)


@pytest.mark.parametrize("step", [2, 8, 12])
def test_a_killed_run_goes_on_as_if_never_stopped(tmp_path, devices, monkeypatch, step):
    overrides = ("train.ema_decay=0.9", "record.every_steps=3")
    run(tmp_path / "straight", *overrides)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(step, patch)
        run(tmp_path / "killed", *overrides)
    run(tmp_path / "killed", *overrides)
    assert (tmp_path / "killed/metrics.jsonl").read_bytes() == (tmp_path / "straight/metrics.jsonl").read_bytes()
    assert_same_bits(saved(tmp_path / "killed"), saved(tmp_path / "straight"))


def test_a_resumed_run_sees_the_same_images_on_another_number_of_devices(tmp_path, devices, monkeypatch):
    seen = {}
    shard = parallel.shard

    def watching(name):
        def watch(batch, layout):
            if "weight" not in batch:
                seen.setdefault(name, []).append((batch["index"].copy(), batch["image"].copy()))
            return shard(batch, layout)

        monkeypatch.setattr(parallel, "shard", watch)

    watching("straight")
    run(tmp_path / "straight")
    watching("cut off")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(8, patch)
        run(tmp_path / "moved")
    watching("moved")
    devices(4)
    run(tmp_path / "moved")
    for (i, image), (j, other) in zip(seen["straight"][5:], seen["moved"], strict=True):
        np.testing.assert_array_equal(i, j)
        np.testing.assert_array_equal(image, other)
    for a, b in zip(lines(tmp_path / "straight"), lines(tmp_path / "moved"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-3)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_run_goes_on(tmp_path, devices, monkeypatch, number):
    run(tmp_path / "straight")
    shard, calls = parallel.shard, []

    def signalling(batch, layout):
        calls.append(1)
        if len(calls) == 4:
            os.kill(os.getpid(), number)
        return shard(batch, layout)

    with monkeypatch.context() as patch:
        patch.setattr(parallel, "shard", signalling)
        with pytest.raises(Interrupted, match="saved at step 4") as end:
            run(tmp_path / "run")
    assert end.value.signal == number
    run(tmp_path / "run")
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == (tmp_path / "straight/metrics.jsonl").read_bytes()
    assert_same_bits(saved(tmp_path / "run"), saved(tmp_path / "straight"))


def test_a_finished_run_says_so_and_does_nothing(tmp_path, devices, capsys):
    results = run(tmp_path)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    capsys.readouterr()
    assert run(tmp_path) == results
    said = capsys.readouterr().out
    assert "holds the finished run of 12 steps" in said
    assert "tensorboard --logdir" in said
    assert said.splitlines()[-1].startswith("top-1 accuracy ")
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_another_configs_work_directory_is_refused_with_the_difference(tmp_path, devices):
    run(tmp_path)
    with pytest.raises(UserError, match=r"optimizer.weight_decay: 0.0001 -> 0.0; seed: 0 -> 1"):
        run(tmp_path, "seed=1", "optimizer.weight_decay=0")
    assert json.loads((tmp_path / "run.json").read_text())["seed"] == 0


def test_a_corrected_config_is_not_refused_for_the_wrong_one_before(tmp_path, devices):
    for wrong in ("checkpoint.keep=0", "seed=-1", "eval.every_steps=0", "record.profile_steps=(20, 30)"):
        with pytest.raises(UserError):
            run(tmp_path, wrong)
    run(tmp_path, "train.num_steps=1")


def test_how_a_run_is_executed_may_change(tmp_path, devices, monkeypatch, capsys):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(8, patch)
        run(tmp_path)
    run(tmp_path, "data.num_workers=2", "model.scan_blocks=False", "checkpoint.keep=1", "train.deterministic=True")
    assert "train.deterministic: False -> True from here on" in capsys.readouterr().out
    held = json.loads((tmp_path / "run.json").read_text())
    assert held["repeats"]["bit_exact"] and not held["repeats"]["deterministic"]
    assert held["resumed"][0]["step"] == 5 and held["resumed"][0]["repeats"]["deterministic"]


def test_evaluation_refuses_another_network(tmp_path, devices):
    run(tmp_path, "train.num_steps=1", "model.residual=False")
    with pytest.raises(UserError, match=r"another network.*model.residual: False -> True"):
        train.evaluate_run(tiny.recipe("train.num_steps=1"), tmp_path, "latest", print)


def test_an_evaluation_that_is_not_finite_stops_before_it_is_saved(tmp_path, devices, monkeypatch):
    real = train.evaluate

    def lost(*given):
        outcome = real(*given)
        return dataclasses.replace(outcome, values={**outcome.values, "loss": float("nan")})

    monkeypatch.setattr(train, "evaluate", lost)
    with pytest.raises(Diverged, match="the evaluation's loss is not finite at step 5"):
        run(tmp_path)
    assert checkpoint.steps(tmp_path / "checkpoints") == []


def test_a_trace_of_the_last_steps_is_kept_though_the_window_is_longer(tmp_path, devices):
    run(tmp_path, "record.profile_steps=(11, 30)")
    assert list((tmp_path / "tensorboard").rglob("*.xplane.pb"))


def test_a_loss_that_is_not_finite_stops_at_its_step_and_keeps_the_last_good_state(tmp_path, devices, monkeypatch):
    shard, calls = parallel.shard, []

    def poison(batch, layout):
        out = shard(batch, layout)
        if "weight" not in batch:
            calls.append(1)
            shift = np.full((2, 8, 3), np.nan if len(calls) == 8 else 0.0, np.float32)
            out["color_shift"] = jax.device_put(shift, out["image"].sharding)
        return out

    monkeypatch.setattr(parallel, "shard", poison)
    with pytest.raises(Diverged, match=r"not finite at step 8 .*checkpoints/5") as error:
        run(tmp_path)
    assert "\n" not in str(error.value)
    assert checkpoint.steps(tmp_path / "checkpoints") == [5]
    assert all(line["step"] < 8 for line in lines(tmp_path))


def test_a_rate_that_blows_up_the_parameters_stops_at_once(tmp_path, devices):
    with pytest.raises(Diverged, match=r"a parameter is not finite at step 1 .*no checkpoint was saved before"):
        run(tmp_path, "schedule.learning_rate=1e38")


def test_a_training_line_is_over_the_examples_since_the_last(tmp_path, devices):
    run(tmp_path, "record.every_steps=5")
    assert [(line["step"], line["examples"]) for line in lines(tmp_path, "train")] == [(5, 80), (10, 80), (12, 32)]


def test_the_norm_of_an_update_is_measured_where_it_is_due(tmp_path, monkeypatch):
    setup = train.set_up(tiny.recipe())
    step = parallel.on_each_device(train.make_train_step(setup))
    state = parallel.replicate(train.initial_state(setup, setup.task.init(parallel.initial_key(0))))
    with setup.dataset.train_batches(batch_size=16, seed=0) as batches:
        batch = next(batches)
    unsaid, due, left_out = (
        step(state, parallel.shard(told))
        for told in (batch, *(train.with_update_norm(batch, due=due) for due in (True, False)))
    )
    moved = optim.global_norm(jax.tree.map(lambda a, b: a - b, due[0].params, state.params))
    for _, report in (unsaid, due):
        assert float(report["update_norm"]) == pytest.approx(float(moved), rel=1e-4)
    assert np.isnan(left_out[1]["update_norm"])
    assert left_out[1]["finite"]
    jax.tree.map(np.testing.assert_array_equal, left_out[0].params, due[0].params)

    recorded, told, tell = {}, [], train.with_update_norm
    monkeypatch.setattr(record.Recorder, "norms", lambda _, step, norms: recorded.update({step: norms}))
    monkeypatch.setattr(train, "with_update_norm", lambda batch, *, due: told.append(due) or tell(batch, due=due))
    run(tmp_path, "record.every_steps=5", "checkpoint.every_steps=4")
    assert list(recorded) == [5, 10, 12]
    assert [step for step, due in enumerate(told, 1) if due] == [5, 10, 12]
    assert all(np.isfinite(list(norms.values())).all() for norms in recorded.values())


@pytest.mark.parametrize(("platform", "chosen"), [("cpu", True), ("tpu", False), ("cuda", False)])
def test_no_accelerator_waits_to_hear_whether_a_norm_is_due(platform, chosen):
    traced = jax.jit(train._norm_if_due).trace(np.array(False), {"fc": np.ones(3, np.float32)})
    not_a_number = "0x7FC00000"
    assert (not_a_number in traced.lower(lowering_platforms=(platform,)).as_text()) is chosen


def test_accumulation_is_the_large_batch_when_its_parts_are_alike(devices, monkeypatch):
    def grown(*overrides):
        setup = train.set_up(tiny.recipe("task.label_smoothing=0.1", *overrides))
        step = parallel.on_each_device(train.make_train_step(setup))
        params, model_state = setup.task.init(parallel.initial_key(0))
        with setup.dataset.train_batches(batch_size=16, seed=0) as batches:
            batch = next(batches)
        # Four equal parts: the statistics of a part are those of the whole.
        batch = {name: np.concatenate([array[:4]] * 4) for name, array in batch.items()}
        state = train.initial_state(setup, (params, model_state))
        devices(1)
        state, report = step(parallel.replicate(state), parallel.shard(batch))
        return jax.device_get((state.params, report["examples"]))

    monkeypatch.setattr(models, "create", lambda *_, num_classes, **__: tiny.TinyNet(num_classes, dropout_rate=0.0))
    (whole, examples), (parts, counted) = grown(), grown("train.accumulate_steps=4")
    assert examples == counted == 16
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6), whole, parts)


def test_the_plateau_lowers_the_rate_and_survives_a_resumption(tmp_path, devices, monkeypatch):
    plateau = (
        "schedule.name=plateau", "schedule.boundary_steps=none", "schedule.learning_rate=0.1", "eval.every_steps=1",
        "record.every_steps=1", "checkpoint.every_steps=2",
    )  # fmt: skip
    recipe = tiny.recipe(*plateau)
    with recipe.config.unlocked():
        recipe.config.schedule.update({"metric": "eval/top1_accuracy", "patience": 0, "min_change": 2.0})
    train.train(recipe, tmp_path / "straight")
    rates = [line["learning_rate"] for line in lines(tmp_path / "straight", "train")]
    assert rates[:4] == pytest.approx([0.1, 0.1, 0.01, 0.001])
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(6, patch)
        train.train(recipe, tmp_path / "killed")
    train.train(recipe, tmp_path / "killed")
    assert (tmp_path / "killed/metrics.jsonl").read_bytes() == (tmp_path / "straight/metrics.jsonl").read_bytes()


def test_evaluating_a_checkpoint_gives_what_training_wrote(tmp_path, devices):
    results = run(tmp_path, "train.ema_decay=0.5")
    said = []
    with lock.hold(tmp_path, said.append):  # a process that trains there does not hinder it
        assert train.evaluate_run(tiny.recipe("train.ema_decay=0.5"), tmp_path, "latest", said.append) == results
    assert said[-1].startswith("top-1 accuracy ")
    with pytest.raises(UserError, match=r"no checkpoint '11'.*there are: latest, best"):
        train.evaluate_run(tiny.recipe("train.ema_decay=0.5"), tmp_path, "11", said.append)


def test_results_carry_what_they_were_measured_under(tmp_path, devices):
    run(tmp_path)
    names = ("protocol", "protocol_hash", "dataset", "dataset_version", "dataset_split")
    conditions = {name: lines(tmp_path, "eval")[-1][name] for name in names}
    assert conditions == checkpoint.read_manifest(tmp_path / "checkpoints/12").conditions
    assert conditions["protocol"] == "original(8)" and conditions["dataset_split"] == "test"
    written = b"".join(file.read_bytes() for file in (tmp_path / "tensorboard").iterdir())
    assert b"eval_confusion" in written and b"eval_classes" in written


def test_a_finished_run_gives_back_its_network(tmp_path, devices):
    results = run(tmp_path)
    model, variables = checkpoint.load_network(tmp_path)
    assert model.num_classes == 10
    dataset = train.set_up(tiny.recipe()).dataset
    images, labels = zip(*(dataset.eval_examples[i] for i in range(60)), strict=True)
    logits = model.apply(variables, dataset.normalize(np.stack(images)))
    assert (np.argmax(logits, axis=1) == np.array(labels)).mean() == pytest.approx(results["eval/top1_accuracy"])


def test_bfloat16_computes_in_half_and_keeps_parameters_whole(tmp_path, devices):
    run(tmp_path, "train.dtype=bfloat16")
    run(tmp_path / "whole")
    half, whole = (lines(folder, "eval")[-1]["loss"] for folder in (tmp_path, tmp_path / "whole"))
    assert 0 < abs(half - whole) < 0.1
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(saved(tmp_path)["params"])} == {"float32"}


def test_initialising_from_another_run(tmp_path, devices, capsys):
    run(tmp_path / "first")
    options = (f"checkpoint.init_from={tmp_path / 'first'}", "checkpoint.init_exclude=fc", "train.num_steps=1")
    run(tmp_path / "second", *options, "schedule.learning_rate=1e-30")
    assert "initialised from" in capsys.readouterr().out
    first, second = saved(tmp_path / "first")["params"], saved(tmp_path / "second", step=1)["params"]
    np.testing.assert_array_equal(first["conv1"]["kernel"], second["conv1"]["kernel"])
    assert (first["fc"]["kernel"] != second["fc"]["kernel"]).any()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("batch_size=0", "batch_size must be positive, not 0"),
        ("batch_size=15", "batch_size=15 does not divide over 2 devices; take a multiple such as 14"),
        ("train.accumulate_steps=3", "accumulate"),
        ("optimizer.name=sgdd", "unknown optimizer 'sgdd'; did you mean 'sgd'"),
        ("data.source=tfds:cifar11", "cifar11"),
        ("data.source=web", "source"),
        ("train.num_steps=0", "must be positive"),
        ("train.dtype=float16", "unknown train.dtype 'float16'; did you mean 'bfloat16'"),
        ("train.batch_norm_axis=devices", "batch_norm_axis"),
        ("eval.protocol=five_crop", "five_crop"),
        ("eval.batch_size=0", "at least 1"),
        ("task.name=detection", "unknown task 'detection'; known: classification"),
        ("schedule.name=step", "did you mean 'steps'"),
        ("checkpoint.init_from=/nowhere", "no finished checkpoint in /nowhere/checkpoints; train that run first"),
    ],
)
def test_bad_input_is_one_clear_line_before_anything_is_written(tmp_path, devices, override, message):
    with pytest.raises(UserError, match=message):
        run(tmp_path / "run", override)
    assert not (tmp_path / "run/run.json").exists()


def test_a_checkpoint_of_another_run_is_refused_though_its_arrays_fit(tmp_path):
    run(tmp_path / "here", "train.num_steps=5")
    run(tmp_path / "there", "train.num_steps=5", "optimizer.weight_decay=0.1")
    checkpoints = tmp_path / "here/checkpoints"
    shutil.rmtree(checkpoints / "5")
    shutil.copytree(tmp_path / "there/checkpoints/5", checkpoints / "5")
    with pytest.raises(UserError, match="checkpoints/5 is of a run with another config"):
        run(tmp_path / "here", "train.num_steps=5")


def test_nothing_but_timing_depends_on_the_clock(tmp_path, monkeypatch):
    run(tmp_path / "straight")
    hours = itertools.cycle([0, -7200, 3600, -86400])
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + next(hours))
    run(tmp_path / "jumping")
    straight, jumping = tmp_path / "straight", tmp_path / "jumping"
    assert (straight / "metrics.jsonl").read_bytes() == (jumping / "metrics.jsonl").read_bytes()
    assert_same_bits(saved(straight), saved(jumping))
    timing = [json.loads(line) for line in (jumping / "timing.jsonl").read_text().splitlines()]
    assert all(line["images_per_second"] > 0 and 0 <= line["data_wait_share"] <= 1.01 for line in timing)
