"""What a run writes can be read back: JSON lines, TensorBoard, run.json."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dnn_research import record
from dnn_research.errors import UserError

RUN = {"config": {"seed": 3, "model": {"depth": 20}}, "seed": 3, "command": ["main"]}


def line(step, loss=1.0):
    return {"step": step, "epoch": 0.5, "split": "train", "examples": 8, "loss": loss, "learning_rate": 0.1}


def test_records_go_on_where_the_checkpoint_was(tmp_path):
    with record.Recorder(tmp_path, record.Options(every_steps=1), primary=True) as recorder:
        recorder.start(RUN, step=0, total_steps=4, batch_size=8, records={})
        recorder.metrics(line(1))
        position = recorder.position()
        recorder.metrics(line(2))
    with record.Recorder(tmp_path, record.Options(every_steps=1), primary=True) as recorder:
        recorder.start({**RUN, "command": ["again"]}, step=1, total_steps=4, batch_size=8, records=position)
        assert recorder.position() == position
        recorder.metrics(line(2, loss=0.5))
    found = [json.loads(text) for text in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert found == [line(1), line(2, loss=0.5)]
    run = json.loads((tmp_path / "run.json").read_text())
    assert (run["command"], run["seed"]) == (["main"], 3)
    assert run["resumed"] == [{"step": 1, "command": ["again"]}]


def test_a_metrics_file_that_lost_its_end_is_said_and_not_padded(tmp_path, capsys):
    with record.Recorder(tmp_path, record.Options(every_steps=1), primary=True) as recorder:
        recorder.start(RUN, step=3, total_steps=4, batch_size=8, records={"metrics_bytes": 1000})
        recorder.metrics(line(4))
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == line(4)
    assert "lost its end" in capsys.readouterr().out


def test_tensorboard_holds_scalars_images_histograms_text_and_settings(tmp_path):
    with record.Recorder(tmp_path, record.Options(every_steps=1), primary=True) as recorder:
        recorder.start(RUN, step=0, total_steps=1, batch_size=8, records={})
        recorder.metrics(line(1))
        recorder.timing({"step": 1, "images_per_second": 9.0})
        recorder.norms(1, {"gradient_norm": 2.0})
        recorder.images("training_images", np.zeros((5, 8, 8, 1), np.uint8), 0)
        recorder.weights({"conv1": {"kernel": np.ones((3, 3, 3, 4)), "bias": np.ones(4)}}, 1)
        recorder.metrics({**line(1, loss=0.5), "split": "eval"})
        recorder.summary({"model.depth": 20}, {"eval/loss": 0.5})
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"tensors": 0}).Reload()
    tags = events.Tags()
    wanted = {"train/loss", "train/learning_rate", "timing/images_per_second", "norms/gradient_norm", "eval/loss"}
    assert wanted <= set(tags["scalars"])
    assert set(tags["images"]) == {"training_images", "first_layer_filters"}
    assert tags["histograms"] == ["weights/conv1"]
    assert "config/text_summary" in tags["tensors"]
    assert [event.value for event in events.Scalars("train/loss")] == [1.0]
    assert [event.value for event in events.Scalars("eval/loss")] == [0.5]
    assert "_hparams_/experiment" in events.summary_metadata


def test_metrics_that_were_changed_are_said(tmp_path, capsys):
    with record.Recorder(tmp_path, record.Options(every_steps=1), primary=True) as recorder:
        recorder.start(RUN, step=0, total_steps=4, batch_size=8, records={})
        recorder.metrics(line(1))
        position = recorder.position()
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes().replace(b"1.0", b"7.0"))
    with record.Recorder(tmp_path, record.Options(every_steps=1), primary=True) as recorder:
        recorder.start(RUN, step=1, total_steps=4, batch_size=8, records=position)
    assert "metrics.jsonl was changed since step 1 was saved" in capsys.readouterr().out


def test_records_that_vanish_end_the_run(tmp_path):
    workdir = tmp_path / "run"
    workdir.mkdir()
    with record.Recorder(workdir, record.Options(every_steps=1), primary=True) as recorder:
        recorder.start(RUN, step=0, total_steps=4, batch_size=8, records={})
        recorder.metrics(line(1))
        recorder.position()
        workdir.rename(tmp_path / "elsewhere")
        recorder.metrics(line(2))
        with pytest.raises(UserError, match=r"metrics\.jsonl vanished under the run"):
            recorder.position()
        workdir.mkdir()
        (workdir / "metrics.jsonl").write_text("another's")
        with pytest.raises(UserError, match=r"metrics\.jsonl vanished under the run"):
            recorder.position()


def test_only_the_first_process_writes(tmp_path):
    with record.Recorder(tmp_path, record.Options(every_steps=1), primary=False) as recorder:
        recorder.start(RUN, step=0, total_steps=1, batch_size=8, records={})
        recorder.metrics(line(1))
        recorder.weights({"conv1": {"kernel": np.ones((3, 3, 3, 4))}}, 1)
        assert recorder.position() == {}
    assert list(tmp_path.iterdir()) == []


def test_a_second_process_is_refused(tmp_path):
    with (
        record.Recorder(tmp_path, record.Options(every_steps=1), primary=True),
        pytest.raises(UserError, match="another process is training in"),
        record.Recorder(tmp_path, record.Options(every_steps=1), primary=True),
    ):
        pass
    with record.Recorder(tmp_path, record.Options(every_steps=1), primary=True):
        pass


def test_the_bar_goes_on_when_the_clock_is_set_back(tmp_path, monkeypatch):
    monkeypatch.setattr(record.sys.stderr, "isatty", lambda: True, raising=False)
    now = [1e9]
    monkeypatch.setattr("time.time", lambda: now[0])
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    monkeypatch.setattr(record.time, "monotonic", lambda: now[0])
    with record.Recorder(tmp_path, record.Options(every_steps=1), primary=True) as recorder:
        recorder.start(RUN, step=0, total_steps=100, batch_size=8, records={})
        recorder.progress(1, "")
        monkeypatch.setattr("tqdm.std.time", lambda: now[0] - 3600)
        for step in range(2, 12):
            now[0] += 1.0
            recorder.progress(step, "")
        assert recorder._bar.last_print_n == 8 * 11
        assert 9 < recorder._bar.format_dict["elapsed"] < 12


def test_a_grid_holds_every_image_once():
    images = np.stack([np.full((4, 6, 3), i + 1, np.uint8) for i in range(7)])
    canvas = record.grid(images)
    assert canvas.shape == (3 * 5 - 1, 3 * 7 - 1, 3)
    values, counts = np.unique(canvas, return_counts=True)
    assert dict(zip(values.tolist(), counts.tolist(), strict=True)) | {0: 0} == {0: 0, **dict.fromkeys(range(1, 8), 72)}


def test_the_timer_leaves_out_what_was_not_training(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(record.time, "perf_counter", lambda: now[0])
    timer = record.Timer()
    timer.wait(1.0)
    timer.exclude(6.0)
    now[0] = 10.0
    assert timer.lap(2, 8) == {"images_per_second": 2.0, "step_seconds": 2.0, "data_wait_share": 0.25}


def test_this_checkout_knows_its_revision():
    run = record.describe_run({"seed": 0}, ("config.seed=0",), 10)
    inside = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"], capture_output=True, text=True
    )
    assert run["revision"]["commit"] == (inside.stdout.strip() or None)
    assert run["versions"]["jax"]


@pytest.mark.parametrize(
    "options",
    [{"every_steps": 0}, {"every_steps": 1, "profile_steps": (5, 2)}, {"every_steps": 1, "profile_steps": (0, 2)}],
)
def test_wrong_options_are_one_line(options):
    with pytest.raises(UserError):
        record.Options(**options)


def test_results_that_were_published_do_not_change_the_code(tmp_path, monkeypatch):
    def git(*arguments):
        subprocess.run(["git", "-c", "user.name=n", "-c", "user.email=e", *arguments], cwd=tmp_path, check=True)

    for name in ("dnn_research/record.py", "experiments/LEDGER.md"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    monkeypatch.setattr(record, "__file__", str(tmp_path / "dnn_research/record.py"))
    (tmp_path / "experiments/LEDGER.md").write_text("a verdict")
    (tmp_path / "experiments/results").mkdir()
    (tmp_path / "experiments/results/report.md").write_text("a report")
    assert record.describe_run({"seed": 0}, (), 2)["revision"]["dirty"] is False
    (tmp_path / "dnn_research/record.py").write_text("changed = True")
    assert record.describe_run({"seed": 0}, (), 2)["revision"]["dirty"] is True
