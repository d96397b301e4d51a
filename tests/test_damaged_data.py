"""A run over a folder of images of which some are damaged."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dnn_research import checkpoint, models, record, train
from dnn_research.errors import UserError
from tests.tiny import TinyNet, recipe


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve images for training and nine for evaluation, a damaged one in each."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 3)):
        for label in "abc":
            for i in range(count):
                path = tmp_path / "data" / split / label / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[:-20])
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    monkeypatch.setattr(models, "create", lambda *_, num_classes, **__: TinyNet(num_classes))


def folder_recipe(folder: Path, *overrides: str):
    return recipe(
        f"data.source=folder:{folder}", "eval.batch_size=16", "train.num_steps=6", "eval.every_steps=6", *overrides
    )


def test_a_damaged_image_stops_the_run_by_name(folder, tmp_path):
    with pytest.raises(
        UserError, match=r"train/c/3.png: the image is damaged .*; data.damaged=skip goes on without it"
    ):
        train.train(folder_recipe(folder), tmp_path / "run")


@pytest.fixture
def sound_folder(folder):
    for split, i in (("train", 3), ("val", 2)):
        for label in "abc":
            (folder / split / label / f"{i}.png").unlink()
    return folder


@pytest.mark.parametrize("change", ["disappears", "is cut short"])
def test_a_file_that_changes_under_the_run_ends_it_by_name_and_nothing_is_lost(
    sound_folder, tmp_path, monkeypatch, change
):
    chosen = folder_recipe(sound_folder, "record.every_steps=1", "data.num_workers=2")
    train.train(chosen, tmp_path / "straight")
    image = sound_folder / "train/b/1.png"
    content = image.read_bytes()
    write = record.Recorder.metrics

    def then_change(self, line):
        write(self, line)
        if line["step"] == 1:
            image.unlink() if change == "disappears" else image.write_bytes(content[:-20])

    with monkeypatch.context() as patch:
        patch.setattr(record.Recorder, "metrics", then_change)
        with pytest.raises(UserError, match=r"train/b/1\.png.*saved at step \d in ") as ended:
            train.train(chosen, tmp_path / "run")
    step = checkpoint.steps(tmp_path / "run/checkpoints")[-1]
    assert 1 <= step < 6 and str(ended.value).endswith(f"checkpoints/{step}")
    image.write_bytes(content)
    train.train(chosen, tmp_path / "run")
    straight, run = ((tmp_path / name / "metrics.jsonl").read_bytes() for name in ("straight", "run"))
    assert run == straight
    leaves = [checkpoint.read_manifest(tmp_path / name / "checkpoints/6").leaves for name in ("straight", "run")]
    assert leaves[0] == leaves[1]


def test_a_run_does_not_go_on_with_other_data(sound_folder, tmp_path, monkeypatch):
    chosen = folder_recipe(sound_folder, "checkpoint.every_steps=3")
    train.train(chosen, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/checkpoints/6")
    (sound_folder / "train/a/1.png").rename(sound_folder / "train/a/9.png")
    with pytest.raises(UserError, match="checkpoints/3 is of a run with another data set"):
        train.train(chosen, tmp_path / "run")


def test_skipped_images_are_counted(folder, tmp_path, capsys):
    results = train.train(folder_recipe(folder, "data.damaged=skip"), tmp_path / "run")
    assert (results["eval/examples"], results["eval/skipped"]) == (8, 1)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [(line["examples"], line["skipped"]) for line in lines if line["split"] == "eval"] == [(8, 1)]
    timing = [json.loads(line) for line in (tmp_path / "run" / "timing.jsonl").read_text().splitlines()]
    assert sum(line["damaged_replaced"] for line in timing) == 8  # 6 steps of 16: every one of 12 images 8 times
    printed = capsys.readouterr().out.splitlines()
    assert "damaged training images came up so often, and others took their places: 8" in printed
    assert "damaged evaluation images are left out of the following: 1" in printed
    assert printed[-1].startswith("top-1 accuracy ")
    assert printed[-1].endswith("(8 examples)")


def test_nothing_but_damaged_images_cannot_be_evaluated(folder, tmp_path):
    for path in (folder / "val").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="all 9 evaluation images of data are damaged"):
        train.train(folder_recipe(folder, "data.damaged=skip"), tmp_path / "run")
