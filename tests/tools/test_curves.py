"""Curves of several runs in one picture."""

import json
from pathlib import Path

import cv2

from dnn_research.tools import curves


def make_run(folder, losses):
    folder.mkdir()
    lines = [{"step": i, "split": "train", "loss": loss, "top1_accuracy": 0.5} for i, loss in enumerate(losses)]
    lines.append({"step": len(losses), "split": "eval", "loss": 1.0, "top1_accuracy": 0.75})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_every_run_is_a_line_in_every_panel(tmp_path):
    runs = [make_run(tmp_path / name, losses) for name, losses in (("plain", [3, 2]), ("residual", [3, 1]))]
    figure = curves.draw(runs)
    loss, _, error = figure.axes
    assert [line.get_label() for line in loss.lines] == ["plain", "residual"]
    assert loss.lines[1].get_ydata().tolist() == [3, 1]
    assert error.lines[0].get_ydata().tolist() == [25.0]


def test_runs_of_one_name_are_told_apart():
    seeds = [Path(f"runs/{row}/seed_0") for row in ("plain", "residual")]
    assert curves.labels(seeds) == ["plain/seed_0", "residual/seed_0"]
    assert curves.labels(seeds[:1]) == curves.labels(seeds[:1] * 2)[:1] == ["seed_0"]


def test_unlike_evaluations_are_labelled(tmp_path):
    runs = [make_run(tmp_path / name, [1.0]) for name in ("one", "other")]
    assert curves.draw(runs).axes[-1].get_legend().get_title().get_text() == ""
    lines = (runs[1] / "metrics.jsonl").read_text().replace('"eval"', '"eval", "protocol": "ten_crop(...)"')
    (runs[1] / "metrics.jsonl").write_text(lines)
    assert curves.draw(runs).axes[-1].get_legend().get_title().get_text() == "NOT COMPARABLE: protocol differ"


def test_the_command_writes_a_picture_and_never_over_another(tmp_path, capsys):
    run, output = make_run(tmp_path / "run", [1.0]), tmp_path / "out/curves.png"
    assert curves.main([str(run), "--output", str(output)]) == 0
    assert cv2.imread(str(output)).shape[1] > 1000
    assert curves.main([str(run), "--output", str(output)]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert curves.main([str(run), "--output", str(output), "--overwrite"]) == 0


def test_a_directory_without_a_run_is_one_line(tmp_path, capsys):
    assert curves.main([str(tmp_path), "--output", str(tmp_path / "x.png")]) == 1
    assert "name the work directory of a run" in capsys.readouterr().err


def test_a_suffix_says_which_file_is_written(tmp_path, capsys):
    (tmp_path / "grid.png").write_text("mine")
    run = make_run(tmp_path / "_run$", [1.0])
    assert curves.main([str(run), "--output", str(tmp_path / "grid")]) == 1
    assert "give a file .png, .svg or .pdf" in capsys.readouterr().err
    assert (tmp_path / "grid.png").read_text() == "mine"
    legend = curves.draw([run]).axes[-1].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == [r"./_run\$"]
