"""The command over a run or several: own protocol first, differences, ensembles, classes, and what it refuses."""

import csv
import json

import numpy as np
import pytest

from dnn_research import recipe, train
from dnn_research.tools import evaluate
from dnn_research.tools.evaluating import members

OVERRIDES = (
    "batch_size=16", "schedule.warmup_epochs=none", "schedule.warmup_steps=none", "model.depth=8",
    "model.width_factor=0.5", "train.num_steps=4", "eval.every_steps=4", "checkpoint.every_steps=4",
    "eval.batch_size=128", "record.images=0",
    "record.histograms=False", "data.source=tfds:digits", "data.image_size=8", "data.augment.pad=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory, data_dir):
    folder = tmp_path_factory.mktemp("evaluate")
    for seed in (0, 1):
        train.train(recipe.load("configs/quickstart.py", [*OVERRIDES, f"seed={seed}"]), folder / str(seed))
    return folder


@pytest.fixture(scope="module")
def recorded(runs):
    lines = [json.loads(line) for line in (runs / "0/metrics.jsonl").read_text().splitlines()]
    return next(line for line in lines if line["split"] == "eval")


def results(capsys, *arguments):
    assert evaluate.main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_runs_own_protocol_gives_what_the_run_recorded(runs, recorded, capsys):
    own, mirrored, dense = results(
        capsys, "--workdir", runs / "0", "--protocols", "original(flip=True),dense(scales=(8,12),multiple=1,flip=False)"
    )
    for key in ("loss", "top1_accuracy", "top5_accuracy", "examples"):
        assert own[key] == pytest.approx(recorded[key], rel=1e-6)
    for key in ("protocol", "protocol_hash", "dataset", "dataset_version", "dataset_split"):
        assert own[key] == recorded[key]
    assert [result["examples"] for result in (own, mirrored, dense)] == [359] * 3
    assert [result["own_protocol"] for result in (own, mirrored, dense)] == [True, False, False]
    assert own["top1_points_by_protocol"] == 0
    points = 100 * (mirrored["top1_accuracy"] - own["top1_accuracy"])
    assert mirrored["top1_points_by_protocol"] == pytest.approx(points)
    assert [result["views"] for result in (own, mirrored, dense)] == [1, 2, 2]
    assert [result["cost_in_crops"] for result in (own, mirrored, dense)] == [1, 2, 1 + 2.25]


def test_the_table_says_what_is_the_protocols_alone(runs, recorded, capsys):
    assert evaluate.main(["--workdir", str(runs / "0"), "--protocols", "dense(scales=(12,))"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert any(line.startswith("original [") and "the run's own" in line for line in shown)
    assert any(line.startswith("dense [") and line.count("+") + line.count("-") >= 2 for line in shown)
    assert f"{recorded['protocol_hash']}: {recorded['protocol']}" in shown
    assert any("recorded by the run" in line and "(under the same conditions)" in line for line in shown)
    assert shown[-1].startswith("top-1 accuracy ") and shown[-1].endswith("(359 examples)")


def test_another_split_is_labelled_as_not_comparable(runs, capsys):
    assert evaluate.main(["--workdir", str(runs / "0"), "--split", "train[:10%]"]) == 0
    shown = capsys.readouterr().out
    assert "NOT COMPARABLE, dataset_split differ" in shown


def test_an_ensemble(runs, capsys):
    one, other = (results(capsys, "--workdir", runs / name)[0] for name in "01")
    both = results(capsys, "--workdir", runs / "0", "--workdir", runs / "1")[0]
    assert len(both["checkpoints"]) == 2
    # The loss of a mean of probabilities is below the mean of the losses.
    assert both["loss"] < (one["loss"] + other["loss"]) / 2
    assert both["examples"] == 359


def test_classes_and_the_matrix(runs, recorded, tmp_path, capsys):
    file = tmp_path / "out" / "confusion.csv"
    arguments = ["--workdir", str(runs / "0"), "--classes", "--confusion", str(file)]
    assert evaluate.main(arguments) == 0
    assert capsys.readouterr().out.count("\n| ") >= 10
    matrix = np.array([row[1:] for row in list(csv.reader(file.read_text().splitlines()))[1:]], int)
    assert matrix.sum() == 359
    assert matrix.trace() / 359 == pytest.approx(recorded["top1_accuracy"])
    assert evaluate.main(arguments) == 1
    assert "is there already" in capsys.readouterr().err
    picture = tmp_path / "confusion.png"
    assert evaluate.main([*arguments[:2], "--confusion", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--protocols", "ten_crop"], "'ten_crop' needs eval.resize"),
        (["--protocols", "tencrop"], "did you mean 'ten_crop'"),
        (["--checkpoint", "7"], "there is no checkpoint '7'"),
        (["--ema"], "no moving average"),
        (["--confusion", "out.pgf"], "give a file .png"),
        (["--batch_size", "0"], "eval.batch_size"),
        (["--split", "nothing"], "nothing"),
        (["--workdir", "nowhere"], "not a run's work directory"),
    ],
)
def test_bad_input_is_one_line(runs, capsys, arguments, message):
    assert evaluate.main(["--workdir", str(runs / "0"), *arguments]) == 1
    assert message in capsys.readouterr().err


def test_images_are_normalized_by_the_runs_own_statistics(tmp_path, data_dir):
    own = ("data.normalization=pixel_mean", "data.std=(1.0,)", "data.train_split=train[:500]")
    train.train(recipe.load("configs/quickstart.py", [*OVERRIDES, *own]), tmp_path / "run")
    with np.load(tmp_path / "run" / "statistics.npz") as file:
        kept = file["pixel_mean"]
    opened = members.open_member(tmp_path / "run", "latest", ema=False, changes={"train_split": "train[500:]"})
    np.testing.assert_array_equal(opened.dataset.statistics["pixel_mean"], kept)
