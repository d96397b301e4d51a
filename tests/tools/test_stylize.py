"""The commands on a person's pictures: files, folders, animations, blends, and one line for whatever is wrong."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from dnn_research import recipe, train
from dnn_research.data import pictures
from dnn_research.data.builtin.photo_patches import read_photo
from dnn_research.tasks import pixels
from dnn_research.tools import evaluate, stylize, upscale

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    "data.source=synthetic", "data.synthetic_examples=8", "data.num_workers=0", "eval.batch_size=4", "batch_size=4",
    "train.num_steps=1", "eval.every_steps=1", "checkpoint.every_steps=1", "record.every_steps=1",
    "model.width_factor=0.0625", "task.loss_network.weights=random", "task.loss_network.model.width_factor=0.0625",
)  # fmt: skip
STYLE = (
    *SMALL, "data.image_size=16", "data.augment.shorter_side=(16,16)", "eval.resize=16", "model.variant=pytorch",
    "task.style_size=32", "task.style_images=builtin:tissue,builtin:coffee", "model.styles=2",
)  # fmt: skip
LARGER = (*SMALL, "data.image_size=32", "data.augment.shorter_side=(32,32)", "eval.resize=32")


@pytest.fixture(scope="module")
def one_device():
    there, patch = jax.local_devices(), pytest.MonkeyPatch()
    patch.setattr(jax, "local_devices", lambda: there[:1])
    patch.setattr(jax, "local_device_count", lambda: 1)
    patch.setattr(jax, "device_count", lambda: 1)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def painter(tmp_path_factory, one_device):
    workdir = tmp_path_factory.mktemp("runs") / "style"
    train.train(recipe.load(str(ROOT / "configs/style_transfer.py"), STYLE), workdir)
    return workdir


@pytest.fixture(scope="module")
def enlarger(tmp_path_factory, one_device):
    workdir = tmp_path_factory.mktemp("runs") / "super"
    train.train(recipe.load(str(ROOT / "configs/super_resolution.py"), LARGER), workdir)
    return workdir


@pytest.fixture
def photos(tmp_path):
    """A folder with all kinds of pictures."""
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    photo = read_photo("cat")[:30, :37]
    Image.fromarray(photo).save(folder / "a.jpg")
    Image.fromarray(photo).convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(photo[..., 0]).save(folder / "gray.png")
    Image.fromarray(np.dstack([photo, photo[..., 0]])).save(folder / "deep" / "alpha.png")
    Image.fromarray(photo[..., 0].astype(np.uint16) * 257).save(folder / "deep" / "sixteen.png")
    Image.fromarray(photo[:1, :1]).save(folder / "pixel.png")
    frames = [Image.fromarray(photo), Image.fromarray(photo[::-1])]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:], duration=80)
    return folder


def size(path):
    with Image.open(path) as image:
        return image.size


def test_a_folder_of_all_kinds_becomes_a_folder(painter, photos, tmp_path, capsys):
    out = tmp_path / "painted"
    assert stylize.main([str(photos), "--workdir", str(painter), "--output", str(out)]) == 0
    made = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert made == sorted(str(path.relative_to(photos)) for path in photos.rglob("*") if path.is_file())
    assert all(size(out / name) == size(photos / name) for name in made)
    np.testing.assert_array_equal(
        pictures.read(out / "deep/alpha.png").alphas[0], pictures.read(photos / "deep/alpha.png").alphas[0]
    )
    assert pictures.read(out / "moving.gif").durations == (80, 80)
    said = capsys.readouterr().out
    assert "losses by VGG, random weights (seed 0)" in said
    assert "in one piece, 0.0" in said

    assert stylize.main([str(photos), "--workdir", str(painter), "--output", str(out)]) == 1
    assert "exists; give another --output, or --overwrite" in capsys.readouterr().err
    assert stylize.main([str(photos / "a.jpg"), "--workdir", str(painter), "--output", str(out), "--overwrite"]) == 0


def test_styles_blend_and_losses_are_measured(painter, photos, tmp_path, capsys):
    run = ["--workdir", str(painter), "--measure", str(photos / "a.jpg"), "--output"]
    for name, words in (("1", []), ("2", ["coffee"]), ("12", ["tissue=1", "coffee=3"])):
        styles = [part for word in words for part in ("--style", word)]
        assert stylize.main([*run, str(tmp_path / f"{name}.png"), *styles]) == 0
    assert capsys.readouterr().out.count("(the photograph's own") == 3
    assert stylize.main([*run, str(tmp_path / "x.png"), "--style", "monet"]) == 1
    assert "the network has no style 'monet'; it has tissue, coffee" in capsys.readouterr().err


def test_losses_are_not_measured_by_another_loss_network_than_the_runs(painter, photos, tmp_path, capsys):
    other = shutil.copytree(painter, tmp_path / "other")
    run = json.loads((other / "run.json").read_text())
    run["task"]["loss_network"]["sha256"] = "0" * 64
    (other / "run.json").write_text(json.dumps(run))
    paint = [str(photos / "a.jpg"), "--workdir", str(other), "--output", str(tmp_path / "x.png")]
    for how in (["--measure"], ["--method", "optimize"]):
        assert stylize.main([*paint, *how]) == 1
        message = "was trained with another loss network of that name. Differences (there -> here): sha256: 000"
        assert message in capsys.readouterr().err
    assert stylize.main(paint) == 0


def test_losses_are_not_measured_by_another_style_picture_than_the_runs(painter, photos, tmp_path, capsys):
    other = shutil.copytree(painter, tmp_path / "other")
    run = json.loads((other / "run.json").read_text())
    run["task"]["style_images"]["builtin:coffee"] = "0" * 64
    (other / "run.json").write_text(json.dumps(run))
    paint = [str(photos / "a.jpg"), "--workdir", str(other), "--output", str(tmp_path / "x.png")]
    for how in (["--measure"], ["--method", "optimize"]):
        assert stylize.main([*paint, *how]) == 1
        message = (
            "was trained with another style picture of that name. Differences (there -> here): builtin:coffee: 000"
        )
        assert message in capsys.readouterr().err
    assert stylize.main([*paint, "--method", "optimize", "--style", "builtin:tissue", "--iterations", "1"]) == 0


def test_optimization_lowers_the_loss_and_keeps_what_it_is_told(tmp_path, photos, capsys):
    common = [
        "--method", "optimize", "--preset", "johnson", "--width_factor", "0.0625", "--style", "builtin:tissue",
        "--style", "builtin:coffee=0.5", "--size", "32", "--iterations", "6", "--every", "3", str(photos / "a.jpg"),
    ]  # fmt: skip
    for optimizer in pixels.OPTIMIZERS:
        out = tmp_path / f"{optimizer}.png"
        more = ["--optimizer", optimizer, "--scales", "20", "--progress", str(tmp_path / optimizer)]
        assert stylize.main([*common, *more, "--output", str(out)]) == 0
        assert size(out) == (32, 26)
        losses = [float(line.rpartition(" ")[2]) for line in capsys.readouterr().out.splitlines() if ", loss " in line]
        assert losses[2] < losses[0]
        kept = [f"a.jpg_{number:05d}.png" for number in (1, 3, 6, 9, 12)]
        assert sorted(path.name for path in (tmp_path / optimizer).iterdir()) == kept
    assert stylize.main([*common, *more, "--output", str(tmp_path / "again.png")]) == 1
    assert "holds pictures; give another --progress, or --overwrite" in capsys.readouterr().err
    more = ["--start", "noise", "--colors", "luminance", "--output", str(tmp_path / "l.png")]
    assert stylize.main([*common, *more]) == 0
    assert stylize.main([*common, "--colors", "histogram", "--output", str(tmp_path / "h.png")]) == 0


def test_colours_are_preserved():
    photo, style = read_photo("coffee")[::4, ::4], read_photo("tissue")[::4, ::4]
    moved = pixels.match_colors(style, photo)
    np.testing.assert_allclose(moved.mean((0, 1)), photo.mean((0, 1)), atol=12)  # clipping moves it a little
    covariance = [np.cov(x.reshape(-1, 3).T.astype(float)) for x in (moved, photo, style)]
    assert np.abs(covariance[0] - covariance[1]).max() < 0.3 * np.abs(covariance[2] - covariance[1]).max()
    flat = np.full_like(photo, 120)
    kept = pixels.keep_chrominance(flat, photo).astype(float) @ pixels.YIQ.T
    wanted = photo.astype(float) @ pixels.YIQ.T
    assert np.abs(np.median(kept[..., 0]) - 120) < 1
    assert np.corrcoef(kept[..., 1].ravel(), wanted[..., 1].ravel())[0, 1] > 0.95


def test_enlarging(enlarger, photos, tmp_path, capsys, monkeypatch):
    out = tmp_path / "large"
    assert upscale.main([str(photos), "--workdir", str(enlarger), "--output", str(out)]) == 0
    assert size(out / "a.jpg") == (148, 120)
    assert size(out / "pixel.png") == (4, 4)
    assert pictures.read(out / "deep/alpha.png").alphas[0].shape == (120, 148)
    assert "a.jpg: 37x30 to 148x120" in capsys.readouterr().out
    for more in (["--method", "bicubic"], ["--match_histogram"]):
        command = [str(photos / "a.jpg"), "--workdir", str(enlarger), *more]
        assert upscale.main([*command, "--output", str(tmp_path / f"{more[-1]}.png")]) == 0
    # In tiles it is the same.
    photo = read_photo("cat")[:100, :90]
    Image.fromarray(photo).save(tmp_path / "b.png")
    for tile in (192, 80):
        monkeypatch.setattr(upscale, "TILE", tile)
        command = [str(tmp_path / "b.png"), "--workdir", str(enlarger), "--output", str(tmp_path / f"t{tile}.png")]
        assert upscale.main(command) == 0
    one, other = (pictures.read(tmp_path / f"t{tile}.png").frames[0].astype(int) for tile in (192, 80))
    assert np.abs(one - other).max() <= 1


@pytest.mark.parametrize(
    ("content", "complaint"),
    [("empty folder", "no picture in"), ("nothing there", "there is no file or folder"), ("text", "is not a picture")],
)
def test_what_cannot_be_painted_is_one_line(painter, tmp_path, capsys, content, complaint):
    path = tmp_path / "x"
    if content == "empty folder":
        path.mkdir()
    elif content == "text":
        path = tmp_path / "x.png"
        path.write_text("hello")
    assert stylize.main([str(path), "--workdir", str(painter), "--output", str(tmp_path / "y.png")]) == 1
    said = capsys.readouterr().err.strip()
    assert complaint in said and "\n" not in said and said.startswith("error: ")


def test_one_bad_picture_does_not_stop_the_others(painter, photos, tmp_path, capsys):
    (photos / "bad.png").write_bytes(b"damaged")
    out = tmp_path / "painted"
    assert stylize.main([str(photos), "--workdir", str(painter), "--output", str(out)]) == 1
    assert "1 of 8 pictures could not be painted" in capsys.readouterr().err
    assert (out / "a.jpg").exists() and not (out / "bad.png").exists()


OPTIMIZE = ["a.png", "--output", "b.png", "--method", "optimize", "--loss_network", "random", "--width_factor", "0.05"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["a.png", "--output", "b.png"], "--workdir, of a trained network, is missing"),
        (["a.png", "--output", "b.png", "--method", "optimize"], "--style, a picture to take the style from"),
        (["a.png", "--output", "b.png", "--size", "x"], "argument --size: invalid int value: 'x'; --help"),
        ([*OPTIMIZE, "--style", "builtin:tissue=inf"], "a weight must be positive and finite"),
        ([*OPTIMIZE, "--style", "builtin:tissue", "--every", "0"], "--every is 0: give 1 or more"),
        ([*OPTIMIZE, "--style", "builtin:tissue", "--seed", "-1"], "--seed is -1: give 0 or more"),
        (["a.png"], "the following arguments are required: --output"),
        (["a.png", "--output", "b.what", "--workdir", "c"], "is no format of pictures"),
        (["a.png", "--output", "b.png", "--workdir", "c"], "c is not a run's work directory"),
    ],
)
def test_what_is_wrong_with_the_options_is_one_line(tmp_path, monkeypatch, capsys, words, complaint):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(read_photo("cat")[:8, :8]).save("a.png")
    assert stylize.main(words) == 1
    said = capsys.readouterr().err.strip()
    assert complaint in said and "\n" not in said


def test_a_run_of_something_else_is_refused(painter, enlarger, photos, tmp_path, capsys):
    for command, workdir in ((stylize, enlarger), (upscale, painter)):
        status = command.main([str(photos / "a.jpg"), "--workdir", str(workdir), "--output", str(tmp_path / "b.png")])
        assert status == 1
        assert "is a run of s" in capsys.readouterr().err
    for workdir in (painter, enlarger):
        assert evaluate.main(["--workdir", str(workdir)]) == 1
        assert "tools.evaluate is for classifiers" in capsys.readouterr().err
    assert json.loads((painter / "run.json").read_text())["config"]["task"]["name"] == "style_transfer"
