"""Two runs side by side: what differs in config and environment, and how the metrics moved."""

import json

import pytest

from dnn_research.tools import compare


def write(workdir, *, depth, commit, lines):
    workdir.mkdir()
    config = {"model": {"depth": depth}, "seed": 0}
    run = {"config": config, "revision": {"commit": commit, "dirty": False}, "versions": {"jax": "1"}, "python": "3.13"}
    (workdir / "run.json").write_text(json.dumps(run))
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return workdir


def evaluation(step, accuracy, protocol="original(32)"):
    return {
        "step": step,
        "epoch": 1.0,
        "split": "eval",
        "examples": 10,
        "top1_accuracy": accuracy,
        "protocol": protocol,
    }


@pytest.fixture
def runs(tmp_path):
    one = write(tmp_path / "a", depth=20, commit="x", lines=[evaluation(5, 0.75), evaluation(10, 0.5)])
    other = write(tmp_path / "b", depth=56, commit="y", lines=[evaluation(5, 0.25), evaluation(20, 0.875, "ten_crop")])
    return one, other


def test_it_names_every_difference_and_how_metrics_moved(runs):
    for run, digest in zip(runs, "12", strict=True):
        held = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps({**held, "task": {"loss_network": {"sha256": digest}}}))
    found = compare.compare(*runs)
    assert found["config"] == {"model.depth": "20 -> 56"}
    assert found["environment"] == {"revision.commit": "x -> y", "task.loss_network.sha256": "1 -> 2"}
    last, best = found["metrics"]
    assert (last["metric"], last["change"], last["steps"], last["same_protocol"]) == (
        "eval/top1_accuracy", 0.375, [10, 20], False,
    )  # fmt: skip
    assert (best["before"], best["after"], best["steps"]) == (0.75, 0.875, [5, 20])


def test_the_command_prints_a_table_or_json(runs, capsys):
    assert compare.main([str(run) for run in runs]) == 0
    text = capsys.readouterr().out
    assert "model.depth: 20 -> 56" in text and "eval/top1_accuracy (other protocol)" in text and "+0.3750" in text
    assert compare.main([*map(str, runs), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["config"] == {"model.depth": "20 -> 56"}


def test_a_directory_without_a_run_is_one_line(runs, tmp_path, capsys):
    assert compare.main([str(runs[0]), str(tmp_path / "nowhere")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1


def test_a_loss_that_is_no_number_is_null(runs, capsys):
    path = runs[1] / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({**line, "loss": float("nan")}) + "\n" for line in lines))
    assert compare.main([*map(str, runs), "--json"]) == 0
    json.loads(capsys.readouterr().out, parse_constant=lambda word: pytest.fail(word))
