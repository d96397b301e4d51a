"""A checkpoint is proved before it counts: whatever is wrong with it, no wrong weight gets through."""

import asyncio
import dataclasses
import gc
import json
import os
import shutil
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dnn_research import checkpoint
from dnn_research.errors import UserError


def state(seed=0):
    rng = np.random.default_rng(seed)
    params = {
        "conv1": {"kernel": rng.normal(size=(3, 3, 1, 4)).astype(np.float32)},
        "fc": {"bias": np.zeros(4, np.float32)},
    }
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.trace(0.9)).init(params)
    return {
        "step": np.int32(seed),
        "params": params,
        "opt_state": optimizer,
        "ema": {},
        "half": jnp.ones(3, jnp.bfloat16),
    }


def structure():
    return jax.eval_shape(lambda: jax.tree.map(jnp.asarray, state()))


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "checkpoints"


@pytest.fixture
def said():
    return []


@pytest.fixture
def writer(directory, said):
    made = checkpoint.Writer(directory, checkpoint.Policy(2, "eval/top1_accuracy"), said.append)
    yield made
    made.close()


def save(writer, *steps, results=None):
    for step in steps:
        writer.save(step, state(step), (results or {}).get(step, {}), {"metrics_bytes": 10 * step})
    writer.wait()


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_what_is_restored_is_what_was_saved(writer, directory, said):
    save(writer, 1, 2)
    restored, manifest = checkpoint.restore_latest(directory, structure(), said.append)
    assert_equal(restored, state(2))
    assert jax.tree.structure(restored) == jax.tree.structure(state(2))
    assert restored["half"].dtype == jnp.bfloat16
    assert (manifest.step, manifest.records) == (2, {"metrics_bytes": 20})
    assert said == []


def test_nothing_saved_is_a_fresh_start(directory, said):
    assert checkpoint.restore_latest(directory, structure(), said.append) is None


def test_the_latest_and_the_best_stay(writer, directory):
    accuracy = {1: 0.5, 2: 0.9, 3: 0.9, 4: 0.1, 5: 0.2}
    save(writer, *accuracy, results={step: {"eval/top1_accuracy": value} for step, value in accuracy.items()})
    assert checkpoint.steps(directory) == [2, 4, 5]
    assert checkpoint.Policy(1, "eval/loss").best([m for _, m in checkpoint.finished(directory)]) is None


def flip_a_bit(folder):
    file = max((f for f in (folder / "state").rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def truncate(folder):
    for file in (folder / "state").rglob("*"):
        if file.is_file() and file.parent.name == "d":
            file.write_bytes(file.read_bytes()[:-7])


def remove_data(folder):
    shutil.rmtree(folder / "state")


def remove_manifest(folder):
    (folder / checkpoint.MANIFEST).unlink()


def alter_manifest(folder):
    path = folder / checkpoint.MANIFEST
    body = json.loads(path.read_text())
    body["step"] += 1
    path.write_text(json.dumps(body))


def add_a_file(folder):
    (folder / "state/d/foreign").write_bytes(b"1")


def unreadable(folder):
    (folder / "state/manifest.ocdbt").unlink()
    (folder / "state/manifest.ocdbt").symlink_to(folder / "state/manifest.ocdbt")


def another_steps(folder):
    shutil.rmtree(folder)
    shutil.copytree(folder.with_name("1"), folder)


DAMAGES = [
    flip_a_bit, truncate, remove_data, remove_manifest, alter_manifest, add_a_file, unreadable, another_steps,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_falls_back_to_the_one_before(writer, directory, said, damage):
    save(writer, 1, 2)
    damage(directory / "2")
    restored, manifest = checkpoint.restore_latest(directory, structure(), said.append)
    assert manifest.step == 1
    assert_equal(restored, state(1))
    assert "2 is passed over" in said[0]
    save(writer, 3)
    assert [step for step, _ in checkpoint.finished(directory)] == [1, 3]
    assert checkpoint.find(directory.parent).name == "3"


@pytest.mark.parametrize("flips", [100, pytest.param(1000, marks=pytest.mark.full)])
def test_no_flipped_bit_of_any_file_gets_through(writer, directory, flips):
    """The manifest and orbax's metadata too: it is found, or what is restored is what was saved."""
    writer.save(1, state(1), {"eval/loss": 0.5}, {"metrics_bytes": 10}, {"protocol": "original(32)"})
    writer.wait()
    folder, rng = directory / "1", np.random.default_rng(0)
    sound, manifest = checkpoint.restore(folder, structure())
    found = 0
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert len(files) >= 8
    for path in files:
        content = path.read_bytes()
        for bit in rng.integers(8 * len(content), size=flips):
            flipped = bytearray(content)
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            try:
                restored, described = checkpoint.restore(folder, structure())
            except checkpoint.DamagedError:
                found += 1
            else:
                assert_equal(restored, sound)
                assert described == manifest
        path.write_bytes(content)
    assert found > 0.99 * flips * len(files)


@pytest.mark.parametrize("length", [0.0, 0.5, 0.99])
def test_no_truncated_or_missing_file_gets_through(writer, directory, length):
    save(writer, 1)
    for path in sorted(path for path in (directory / "1").rglob("*") if path.is_file()):
        content = path.read_bytes()
        path.unlink()
        with pytest.raises(checkpoint.DamagedError):
            checkpoint.restore(directory / "1")
        path.write_bytes(content[: int(length * len(content))])
        with pytest.raises(checkpoint.DamagedError):
            checkpoint.restore(directory / "1")
        path.write_bytes(content)
    checkpoint.restore(directory / "1")


def test_a_directory_that_is_moved_during_a_save_is_not_left_anew(tmp_path, said, monkeypatch):
    (tmp_path / "run").mkdir()
    writer = checkpoint.Writer(tmp_path / "run/checkpoints", checkpoint.Policy(1, "eval/loss"), said.append)
    start = writer._checkpointer.save

    def moved_first(*arguments, **named):
        (tmp_path / "run").rename(tmp_path / "elsewhere")
        start(*arguments, **named)

    monkeypatch.setattr(writer._checkpointer, "save", moved_first)
    writer.save(1, state(), {}, {})
    with pytest.raises(UserError, match="vanished while it was written"):
        writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]


def test_a_directory_that_vanished_is_not_made_anew(tmp_path, said):
    workdir = tmp_path / "run"
    workdir.mkdir()
    with checkpoint.Writer(workdir / "checkpoints", checkpoint.Policy(1, "eval/loss"), said.append) as writer:
        save(writer, 1)
        workdir.rename(tmp_path / "elsewhere")
        with pytest.raises(UserError, match="cannot write checkpoint"):
            save(writer, 2)
    assert not workdir.exists()
    assert checkpoint.restore(tmp_path / "elsewhere/checkpoints/1", structure())[1].step == 1


def test_a_save_that_fails_in_the_background_is_one_line_and_leaves_nothing(writer, directory, monkeypatch, capfd):
    save(writer, 1)
    failing = OSError(28, "No space left on device")

    def full(*_):
        raise failing

    monkeypatch.setattr(checkpoint, "write_manifest", full)
    writer.save(2, state(2), {}, {})
    with pytest.raises(UserError, match="No space left on device"):
        writer.wait()
    assert checkpoint.steps(directory) == [1]
    assert capfd.readouterr().err == ""


def test_a_checkpoint_is_on_the_disk_before_its_manifest_and_both_before_an_old_one_goes(directory, said, monkeypatch):
    happened, sync, write = [], os.fsync, checkpoint.write_manifest
    monkeypatch.setattr(os, "fsync", lambda number: happened.append(os.readlink(f"/dev/fd/{number}")) or sync(number))
    monkeypatch.setattr(checkpoint, "write_manifest", lambda *args: happened.append("manifest") or write(*args))
    monkeypatch.setattr(shutil, "rmtree", lambda path, **_: happened.append(f"remove {path}"))
    with checkpoint.Writer(directory, checkpoint.Policy(1, "eval/loss"), said.append) as writer:
        save(writer, 1)
        happened.clear()
        save(writer, 2)
    before, after = happened[: happened.index("manifest")], happened[happened.index("manifest") :]
    assert {str(path) for path in (directory / "2/state").rglob("*")} <= set(before)
    gone = after.index(f"remove {directory / '1'}")
    assert {str(directory / "2"), str(directory / "2/manifest.json"), str(directory)} <= set(after[:gone])


def test_a_slow_disk_holds_up_the_next_save_not_the_steps(writer, directory, monkeypatch):
    go_on, write = threading.Event(), checkpoint.write_manifest
    monkeypatch.setattr(checkpoint, "write_manifest", lambda *args: go_on.wait() and write(*args))
    writer.save(1, state(1), {}, {})  # is back though nothing is written yet
    assert checkpoint.finished(directory) == []
    go_on.set()
    writer.wait()
    assert [step for step, _ in checkpoint.finished(directory)] == [1]


def test_an_array_that_is_not_the_one_saved_is_found_though_the_files_are_sound(writer, directory):
    save(writer, 1)
    manifest = checkpoint.read_manifest(directory / "1")
    leaves = {path: dict(leaf) for path, leaf in manifest.leaves.items()}
    leaves["params/fc/bias"]["crc32"] ^= 1
    checkpoint.write_manifest(directory / "1", dataclasses.replace(manifest, leaves=leaves))
    with pytest.raises(checkpoint.DamagedError, match="the checksum of the array 'params/fc/bias' does not match"):
        checkpoint.restore(directory / "1")


def test_all_damaged_is_an_error_not_a_fresh_start(writer, directory, said):
    save(writer, 1)
    flip_a_bit(directory / "1")
    with pytest.raises(UserError, match="is sound"):
        checkpoint.restore_latest(directory, structure(), said.append)


def test_damaged_newer_checkpoints_do_not_push_out_sound_ones(directory, said):
    with checkpoint.Writer(directory, checkpoint.Policy(1, "eval/loss"), said.append) as writer:
        save(writer, 8)
    with checkpoint.Writer(directory, checkpoint.Policy(2, "eval/loss"), said.append) as writer:
        save(writer, 10)
    flip_a_bit(directory / "10")
    assert checkpoint.restore_latest(directory, structure(), said.append)[1].step == 8
    with checkpoint.Writer(directory, checkpoint.Policy(1, "eval/loss"), said.append) as writer:
        save(writer, 9)
    assert checkpoint.steps(directory) == [9]
    assert checkpoint.restore_latest(directory, structure(), said.append)[1].step == 9


def test_a_result_that_is_not_a_number_is_never_the_best(writer, directory):
    save(writer, 1, 2, 3, results={1: {"eval/loss": float("nan")}, 2: {"eval/loss": 0.5}, 3: {"eval/loss": 0.7}})
    assert checkpoint.Policy(1, "eval/loss").best([m for _, m in checkpoint.finished(directory)]) == 2


def test_saving_over_a_damaged_step_sets_it_aside(writer, directory, said):
    save(writer, 1)
    flip_a_bit(directory / "1")
    save(writer, 1)
    assert (directory / "1.damaged" / checkpoint.MANIFEST).exists()
    assert checkpoint.restore(directory / "1", structure())[1].step == 1
    assert checkpoint.steps(directory) == [1]


def test_another_networks_state_is_refused_with_the_leaf(writer, directory):
    save(writer, 1)
    other = structure()
    other["params"]["fc"]["bias"] = jax.ShapeDtypeStruct((5,), jnp.float32)
    with pytest.raises(UserError, match=r"'params/fc/bias' is \(\(4,\), 'float32'\), needed is \(\(5,\), 'float32'\)"):
        checkpoint.restore(directory / "1", other)


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path, said):
    (tmp_path / "checkpoints").write_text("a file where the directory should be")
    writer = checkpoint.Writer(tmp_path / "checkpoints", checkpoint.Policy(1, "eval/loss"), said.append)
    with pytest.raises(UserError, match="cannot write checkpoint"):
        save(writer, 1)


def test_a_full_disk_is_one_line_and_the_checkpoints_there_stay(writer, directory, monkeypatch):
    save(writer, 1)
    full = type("Usage", (), {"free": 10})
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda _: full)
    with pytest.raises(
        UserError, match=r"cannot write checkpoint .*2: No space left: it takes 0.0 MB, 0.0 MB are free"
    ):
        save(writer, 2)
    assert checkpoint.restore(directory / "1", structure())[1].step == 1


def test_of_leaves_that_cannot_be_written_one_is_told(writer, caplog):
    """Orbax writes them side by side and asks for the first error only; asyncio would print the others' tracebacks."""

    async def fail(leaf):
        raise ValueError(leaf)

    async def write():
        both = [asyncio.ensure_future(fail(leaf)) for leaf in "ab"]
        await asyncio.wait(both)

    save(writer, 1)
    asyncio.run(write())
    gc.collect()
    assert not caplog.records
    writer.close()
    asyncio.run(write())
    gc.collect()
    assert "never retrieved" in caplog.text


def test_initialising_from_another_run_takes_all_but_the_head(writer, directory, said):
    writer.save(7, {"params": state(7)["params"], "model_state": {"batch_stats": {"bn": {"mean": np.ones(2)}}}}, {}, {})
    writer.wait()
    fresh = {"conv1": {"kernel": np.zeros((3, 3, 1, 4), np.float32)}, "fc": {"bias": np.full(9, 5.0, np.float32)}}
    statistics = {"batch_stats": {"bn": {"mean": np.zeros(2)}}}
    params, model_state = checkpoint.initialize_from(str(directory.parent), ("fc",), fresh, statistics, said.append)
    np.testing.assert_array_equal(params["conv1"]["kernel"], state(7)["params"]["conv1"]["kernel"])
    np.testing.assert_array_equal(params["fc"]["bias"], np.full(9, 5.0))
    np.testing.assert_array_equal(model_state["batch_stats"]["bn"]["mean"], np.ones(2))
    assert "2 arrays loaded; kept fresh: fc (1 arrays)" in said[0]
    with pytest.raises(UserError, match="init_exclude=fc"):
        checkpoint.initialize_from(str(directory.parent), (), fresh, statistics, said.append)
    with pytest.raises(UserError, match="init_exclude names 'head'; the network has: conv1, fc"):
        checkpoint.initialize_from(str(directory.parent), ("head",), fresh, statistics, said.append)


def test_what_was_killed_at_a_step_that_does_not_come_again_is_removed(writer, directory):
    save(writer, 2)
    for step in ("1", "7"):
        shutil.copytree(directory / "2/state", directory / step / "state")
    save(writer, 4)
    assert checkpoint.steps(directory) == [2, 4, 7]


def test_a_step_is_found_however_it_is_written(tmp_path, writer, directory):
    save(writer, 2)
    assert checkpoint.find(directory.parent, "002") == checkpoint.find(directory.parent, "2")
