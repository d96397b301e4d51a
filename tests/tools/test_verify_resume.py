"""Two runs compared bit for bit; and a real one that is killed with kill -9."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from dnn_research import checkpoint, recipe
from dnn_research.data import pipeline
from dnn_research.errors import UserError
from dnn_research.tools import verify_resume
from dnn_research.tools.enduring import sameness
from tests import tiny

STATE = {
    "step": np.int32(4),
    "seed": np.uint32(0),
    "params": {"conv1": {"kernel": np.arange(6, dtype=np.float32)}, "fc": {"bias": np.zeros(2, np.float32)}},
    "opt_state": {"0": {"trace": np.ones(3, np.float32)}},
    "more": np.zeros(1, np.float32),
}


def write(workdir: Path, state) -> Path:
    workdir.mkdir()
    (workdir / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n')
    with checkpoint.Writer(workdir / "checkpoints", checkpoint.Policy(1, "eval/loss"), print) as writer:
        writer.save(4, state, {}, {})
    return workdir


def differences(one: Path, other: Path) -> dict[str, str]:
    return {row.what: row.difference for row in sameness.compare(one, other, 4)}


def test_equal_runs_are_equal_and_every_array_is_counted(tmp_path):
    one, other = write(tmp_path / "one", STATE), write(tmp_path / "other", STATE)
    rows = sameness.compare(one, other, 4)
    assert {row.what: row.count for row in rows} == {
        "parameters": 2, "optimizer": 1, "random state": 2, "more": 1, "lines of metrics.jsonl": 2,
    }  # fmt: skip
    assert not any(row.difference for row in rows)


def test_one_bit_of_an_array_is_named(tmp_path):
    kernel = STATE["params"]["conv1"]["kernel"].copy()
    kernel[3:4].view(np.uint32)[0] ^= 1
    params = {**STATE["params"], "conv1": {"kernel": kernel}}
    one, other = write(tmp_path / "one", STATE), write(tmp_path / "other", {**STATE, "params": params})
    found = differences(one, other)
    assert found.pop("parameters").startswith("params/conv1/kernel: 1 of 6 values, the first ")
    assert not any(found.values())


def test_zeros_of_other_signs_and_missing_arrays_differ(tmp_path):
    one = write(tmp_path / "one", STATE)
    negative = write(tmp_path / "negative", {**STATE, "more": -np.zeros(1, np.float32)})
    assert differences(one, negative)["more"].startswith("more: 1 of 1 values")
    less = write(tmp_path / "less", {key: STATE[key] for key in STATE if key != "opt_state"})
    assert differences(one, less)["optimizer"] == "opt_state/0/trace: only one of the runs has it"


def test_a_line_of_metrics_is_named(tmp_path):
    one, other = write(tmp_path / "one", STATE), write(tmp_path / "other", STATE)
    (other / "metrics.jsonl").write_text('{"step": 1}\n{"step": 3}\n')
    assert differences(one, other)["lines of metrics.jsonl"] == "line 2 differs"
    (other / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n')
    assert differences(one, other)["lines of metrics.jsonl"] == "line 3 differs"


def test_a_damaged_checkpoint_is_no_comparison(tmp_path):
    one, other = write(tmp_path / "one", STATE), write(tmp_path / "other", STATE)
    shutil.rmtree(other / "checkpoints/4/state/d")
    with pytest.raises(UserError, match="checkpoints/4 is damaged"):
        sameness.compare(one, other, 4)


def test_a_stream_that_is_resumed_at_another_place_is_found(tmp_path, monkeypatch):
    run = {"config": recipe.plain(tiny.recipe().config), "seed": 0}
    (tmp_path / "run.json").write_text(json.dumps(run))
    assert sameness.compare_order(tmp_path, 6, 2) == sameness.Row("batches of the stream", 4, "")
    batches = pipeline.Dataset.train_batches
    monkeypatch.setattr(
        pipeline.Dataset,
        "train_batches",
        lambda self, *, start_step, **more: batches(self, start_step=start_step and start_step + 1, **more),
    )
    assert sameness.compare_order(tmp_path, 6, 2).difference == "the batch of step 3 differs"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "configs/resnet151.py"], "did you mean configs/resnet152.py?"),
        (["--config", "configs/lenet.py", "--steps", "0"], "--steps is 0: give 1 or more"),
        (["--config", "configs/lenet.py", "--config.train.num_steps=3"], "--steps gives the length"),
        (["--config", "configs/lenet.py", "--workdir", "configs"], "--workdir configs is not an empty directory"),
        (["--config", "configs/lenet.py", "--config.modle.name=x"], "unknown config key 'modle.name'"),
    ],
)
def test_what_cannot_be_done_is_a_line(arguments, message, capsys):
    assert verify_resume.main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


@pytest.mark.slow
def test_a_real_run_is_killed_and_goes_on(tmp_path, capsys):
    arguments = ["--config", "configs/lenet.py:smoke", "--steps", "6", "--workdir", str(tmp_path / "runs"), "--json"]
    assert verify_resume.main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["what"] for row in found["compared"]} >= {"parameters", "optimizer", "batches of the stream"}
    assert not any(row["difference"] for row in found["compared"])
    assert [entry["step"] for entry in checkpoint.read_run(tmp_path / "runs/killed")["resumed"]] == [6]
