"""Labels of pictures: those of the network, by the preprocessing of its evaluation."""

import csv
import io
import json

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnn_research import checkpoint, recipe, train
from dnn_research.tools import predict

OVERRIDES = (
    "batch_size=16", "schedule.warmup_epochs=none", "schedule.warmup_steps=none", "model.depth=8",
    "train.num_steps=2", "eval.every_steps=2",
    "checkpoint.every_steps=2", "eval.batch_size=250", "record.images=0",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory, data_dir):
    workdir = tmp_path_factory.mktemp("predict") / "run"
    train.train(recipe.load("configs/quickstart.py", OVERRIDES), workdir)
    return workdir


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    (folder / "inside").mkdir()
    for name in ("b.png", "a.PNG", "inside/c.jpg"):
        cv2.imwrite(str(folder / name), random.integers(0, 256, (28, 28), dtype=np.uint8))
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_a_folder_gives_the_networks_probabilities_in_order(run, pictures, capsys):
    arguments = ["--workdir", str(run), str(pictures), "--format", "json", "--top", "10", "--batch_size", "2"]
    assert predict.main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    names = ["a.PNG", "b.png", "inside/c.jpg"]
    assert [prediction["file"] for prediction in found] == [str(pictures / name) for name in names]
    model, variables = checkpoint.load_network(run)
    for name, prediction in zip(names, found, strict=True):
        pixels = cv2.imread(str(pictures / name), cv2.IMREAD_GRAYSCALE).reshape(1, 28, 28, 1).astype(np.float32)
        expected = jax.nn.softmax(model.apply(variables, jnp.asarray((pixels - 33.3) / 78.6)))[0]
        best = np.argsort(-np.asarray(expected))
        assert prediction["labels"] == [str(n) for n in best]
        np.testing.assert_allclose(prediction["probabilities"], np.asarray(expected)[best], rtol=1e-4)
        assert sum(prediction["probabilities"]) == pytest.approx(1, abs=1e-5)


def test_csv_and_table_and_labels_of_ones_own(run, pictures, tmp_path, capsys):
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(f"digit {n}" for n in range(10)))
    common = ["--workdir", str(run), "--labels", str(labels), "--top", "2", str(pictures / "b.png")]
    assert predict.main([*common, "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["rank"] for row in rows] == ["1", "2"]
    assert float(rows[0]["probability"]) >= float(rows[1]["probability"])
    assert rows[0]["label"].startswith("digit ")
    assert predict.main(common) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].endswith("b.png") and shown[1].endswith(rows[0]["label"]) and len(shown) == 3


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_done(run, pictures, tmp_path, capsys):
    broken = tmp_path / "broken.png"
    broken.write_bytes((pictures / "b.png").read_bytes()[:60])
    assert predict.main(["--workdir", str(run), str(broken), str(pictures / "b.png")]) == 1
    out, err = capsys.readouterr()
    assert "b.png" in out and "broken.png: the image is damaged" in err
    assert "1 of 2 files could not be read" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.png"], "there is no file or folder nowhere.png"),
        (["{empty}"], "no picture in"),
        (["--labels", "{short}", "{picture}"], "--labels names 1 classes, the network has 10"),
        (["--labels", "{latin}", "{picture}"], "latin.txt is no text in UTF-8"),
        (["--top", "0", "{picture}"], "must be 1 or more"),
        (["--checkpoint", "7", "{picture}"], "there is no checkpoint '7'"),
    ],
)
def test_bad_input_is_one_line(run, pictures, tmp_path, capsys, arguments, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "short.txt").write_text("only one\n")
    (tmp_path / "latin.txt").write_bytes("Käfer\n".encode("latin-1"))
    places = {"empty": tmp_path / "empty", "short": tmp_path / "short.txt", "picture": pictures / "b.png"}
    places["latin"] = tmp_path / "latin.txt"
    assert predict.main(["--workdir", str(run), *(word.format(**places) for word in arguments)]) == 1
    assert message in capsys.readouterr().err
