"""A run over a folder of images of which some are damaged."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dnn_research import models, train
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
