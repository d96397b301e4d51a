"""The benchmark of input pipelines: the same images as the peer, in turns; and where a recipe's own pipeline spends."""

import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from dnn_research import data, recipe
from dnn_research.data import turbojpeg
from dnn_research.errors import construct
from dnn_research.tools import benchmark
from dnn_research.tools.measuring import input_race, input_stages, jpeg_files, jpegs, peer
from dnn_research.tools.measuring.input_turns import UNCOUNTED_SECONDS, take_batches

QUICKSTART = str(Path(__file__).parents[2] / "configs/quickstart.py")
SYNTHETIC = ["--config", QUICKSTART, "--config.data.source=synthetic", "--config.data.augment.pad=2"]
SHORT = ["--rounds", "2", "--seconds", "0.2"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    jpeg_files.make(folder, 20)
    return folder


def run(capsys, *arguments):
    assert benchmark.main(["data", *arguments, "--json"]) == 0
    printed = capsys.readouterr()
    return json.loads(printed.out), printed.err


def test_files_are_as_large_as_imagenets(files):
    sizes = [(files / name).stat().st_size for name in jpegs.names(files)]
    assert len(sizes) == 20
    assert 70_000 < np.mean(sizes) < 110_000
    assert cv2.imread(jpegs.names(files)[0]).shape == (375, 500, 3)


def test_a_turn_counts_what_comes_in_its_time():
    taken = []

    def batches():
        while True:
            taken.append(None)
            yield None

    found = take_batches(batches(), 8, 0.05)
    assert 0.05 <= found["seconds"] < 5
    assert 0 < found["images"] < 8 * len(taken)
    assert UNCOUNTED_SECONDS > 0


@pytest.mark.slow
def test_ours_alone_in_a_process_of_its_own(files, capsys):
    found, table = run(capsys, "--files", str(files), *SHORT, "--batch_size", "8")
    names = [pipeline["name"] for pipeline in found["pipelines"]]
    assert names == (["ours", "ours, whole rows"] if turbojpeg.library() else ["ours"])
    for ours in found["pipelines"]:
        assert len(ours["images_per_second"]) == 2
        assert min(ours["images_per_second"]) > 10
        assert 0.05 < ours["peak_gib"] < 3
    assert found["difference"] is None
    assert "ours " in table


TENSORFLOW = """
import numpy as np, time
__version__ = "0"
uint8 = np.uint8
def cond(p, a, b): return a() if p else b()
def reverse(image, axes): return image[:, ::-1]
def cast(image, kind): return np.floor(image).astype(kind)
def zeros(shape): return np.zeros(shape)
def concat(parts, axis): return np.concatenate(parts, axis)
class random:
    uniform = staticmethod(lambda shape: np.random.uniform(size=shape))
class io:
    read_file = staticmethod(lambda name: open(name, "rb").read())
class image:
    @staticmethod
    def extract_jpeg_shape(encoded):
        import cv2
        return cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR).shape
    @staticmethod
    def sample_distorted_bounding_box(shape, boxes, min_object_covered, use_image_if_no_bounding_boxes, **ranges):
        assert ranges == {"aspect_ratio_range": (3 / 4, 4 / 3), "area_range": (0.08, 1.0), "max_attempts": 10}
        return np.array([2, 1, 0]), np.array([shape[0] - 2, shape[1] - 1, -1]), boxes
    @staticmethod
    def decode_and_crop_jpeg(encoded, window, channels, dct_method):
        import cv2
        top, left, height, width = window
        found = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        return found[top:top + height, left:left + width] + np.uint8(SHIFT)
    @staticmethod
    def resize(image, size, method):
        import cv2
        return cv2.resize(np.ascontiguousarray(image).astype(np.float32), size)
class data:
    AUTOTUNE = -1
    class Options:
        class threading: pass
    class Dataset:
        @staticmethod
        def from_tensor_slices(arrays):
            made = data.Dataset(); made.arrays = arrays; return made
        def shuffle(self, n): return self
        def repeat(self): return self
        def map(self, load, num_parallel_calls): self.load = load; return self
        def batch(self, size, drop_remainder): self.size = size; return self
        def prefetch(self, n): return self
        def with_options(self, options): return self
        def __iter__(self):
            while True:
                time.sleep(0.02)
                yield np.stack([self.load(*example) for example in list(zip(*self.arrays))[:self.size]])
"""


@pytest.fixture
def tensorflow(tmp_path, monkeypatch):
    """A Python with a tensorflow that does what is asked of it, in OpenCV; `shift` is added to every pixel."""

    def made(shift=0):
        (tmp_path / "tensorflow.py").write_text(TENSORFLOW.replace("SHIFT", str(shift)))
        script = tmp_path / "python"
        script.write_text(f'#!/bin/sh\nPYTHONPATH="{tmp_path}:$PYTHONPATH" exec {sys.executable} "$@"\n')
        script.chmod(0o755)
        return str(script)

    return made


@pytest.mark.slow
def test_tf_data_takes_turns_with_ours(files, tensorflow, capsys, monkeypatch):
    monkeypatch.setattr(turbojpeg, "library", lambda: None)
    arguments = ["--files", str(files), "--peer", "tf.data", "--peer_python", tensorflow(), "--batch_size", "4"]
    found, table = run(capsys, *arguments, "--rounds", "1", "--seconds", "0.1")
    names = [pipeline["name"] for pipeline in found["pipelines"]]
    assert names == ["ours", "tf.data drawn", "tf.data autotune", "tf.data fixed", "tf.data fast_dct"]
    ours, drawn = found["pipelines"][:2]
    assert drawn["ratios"] == [ours["images_per_second"][0] / drawn["images_per_second"][0]]
    assert 0 < found["difference"] < 0.5
    assert "ours is faster by" in table


def test_a_peer_with_other_images_is_refused(files, tensorflow, capsys):
    arguments = ["data", "--files", str(files), "--peer", "tf.data", "--peer_python", tensorflow(2)]
    assert benchmark.main([*arguments, "--threads", "1"]) == 1
    assert "it does not do the same" in capsys.readouterr().err


@pytest.mark.peer
def test_real_tf_data_gives_our_images(files):
    python = os.environ.get("DNN_PEER_PYTHON")
    if not python:
        pytest.skip("DNN_PEER_PYTHON is not set")
    command = peer.command(python, name="tf.data", library="tensorflow", module=input_race.THEIRS)
    race = input_race.run(files, 0, batch_size=8, threads=2, rounds=1, seconds=0.5, pause=0, peer_command=command)
    assert race.difference is not None
    assert race.difference < input_race.TOLERANCE


def test_stages_of_a_recipes_own_pipeline(capsys):
    found, table = run(capsys, *SYNTHETIC, *SHORT, "--batch_size", "32", "--threads", "2")
    assert list(found["microseconds"]) == list(input_stages.STAGES)
    assert found["microseconds"]["augment"] > 1
    assert all(value >= 0 for value in found["microseconds"].values())
    assert [len(speeds) for speeds in found["images_per_second"].values()] == [2]
    assert "augment" in table


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.seed=3"], "--config.KEY=VALUE goes with --config FILE"),
        ([*SYNTHETIC, "--peer", "tf.data"], "--peer, --files and --pause are without --config"),
        (["--peer", "torch"], "--peer is 'torch'; it can be tf.data"),
        (["--peer_python", "x"], "--peer_python needs --peer tf.data"),
        (["--rounds", "0"], "--rounds is 0: give 1 or more"),
        (["--seconds", "0"], "--seconds is 0.0: give more than 0"),
        (["--pause", "-1"], "--pause is -1.0: give 0 to 600"),
        (["--pause", "1", "--config", QUICKSTART], "--peer, --files and --pause are without --config"),
        (["--files", "/nowhere"], "no JPEG file in the folder /nowhere"),
        (["--quick"], "unknown argument --quick"),
        (["--peer", "tf.data", "--peer_python", "/nowhere/python"], "/nowhere/python is not a program"),
        (["--peer", "tf.data", "--peer_python", sys.executable], "has no tensorflow; install it there"),
    ],
)
def test_wrong_arguments(capsys, arguments, message):
    assert benchmark.main(["data", *arguments]) == 1
    error = capsys.readouterr().err
    assert (error.count("\n"), message in error) == (1, True), error


def test_stages_add_up_where_images_come_again_and_are_decoded_in_part(tmp_path):
    for number in range(8):
        (tmp_path / "train" / "a").mkdir(parents=True, exist_ok=True)
        image = np.random.default_rng(number).integers(0, 256, (200, 200, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "train" / "a" / f"{number}.jpg"), image)
    changes = [
        f"data.source=folder:{tmp_path}", "data.holdout_fraction=0.3", "data.eval_split=validation",
        "data.image_size=32", "data.augment.area=0.1,0.4", "data.augment.shorter_side=()",
    ]  # fmt: skip
    config = recipe.load("configs/resnet50.py:smoke", changes).config
    dataset = construct(data.create, "config.data", config.to_dict()["data"])
    spent = input_stages.one_thread(dataset, batch_size=4, seconds=0.2)
    assert all(microseconds >= 0 for microseconds in spent.values()) and spent["decode"] > 0
