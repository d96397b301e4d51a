"""Files that torchvision, timm and Keras write themselves come in, and compute here what they compute there.

The peers run in a Python of their own:

    DNN_PEER_PYTHON=peers/bin/python python -m pytest tests/weights/test_live_peers.py

where that Python has torch, torchvision, timm, keras and h5py. Without it these tests are skipped.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from dnn_research import checkpoint
from dnn_research.weights import __main__ as command
from dnn_research.weights import bridge
from tests.weights.networks import NETWORKS, QUICK
from tests.weights.peers import layers
from tests.weights.test_peers import assert_is_torchs, outputs, worst_difference

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.peer

# The file formats of each network, as save.py calls them; of most torchvision and timm have one.
FORMATS = {
    **{name: (".safetensors",) for name in NETWORKS if name.startswith("timm")},
    **{f"torchvision_{name}": (".pth", ".legacy.pth") for name in ("alexnet", "resnet18", "googlenet")},
    "timm_resnet34": (".pth",),
    "timm_mobilenetv1_100": (".pth", ".safetensors"),
    "keras_VGG16": (".h5",),
    "keras_VGG19": (".weights.h5",),
    "keras_ResNet50": (".weights_alone.h5", ".keras"),
    "keras_ResNet101": (".h5",),
    "keras_ResNet152": (".weights.h5",),
    "keras_MobileNet_0.25": (".h5", ".weights_alone.h5", ".keras", ".weights.h5"),
    "keras_MobileNet_0.5": (".weights.h5",),
    "keras_MobileNet_0.75": (".keras",),
    "keras_MobileNet_1.0": (".h5",),
}


@pytest.fixture
def peer_python():
    """The peers' Python."""
    if "DNN_PEER_PYTHON" not in os.environ:
        pytest.skip("DNN_PEER_PYTHON names no Python with torch, torchvision, timm, keras and h5py")
    return os.environ["DNN_PEER_PYTHON"]


@pytest.fixture
def folder(tmp_path):
    """A folder that is removed after the test: the largest network takes 1.2 GB in it."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def run_peer(python, module, *arguments):
    done = subprocess.run(
        [python, "-m", f"tests.weights.peers.{module}", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def import_it(network, file, workdir):
    config = f"configs/{network.recipe}.py"
    arguments = ["--file", str(file), "--lineage", network.lineage, "--config", config, "--workdir", str(workdir)]
    assert command.main(["import", *arguments]) == 0


def quick_or_slow(names):
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", quick_or_slow(NETWORKS))
def test_its_files_compute_the_same_here(peer_python, folder, name):
    network, endings = NETWORKS[name], FORMATS.get(name, (".pth",))
    run_peer(peer_python, "save", name, folder, *endings)
    theirs = np.load(folder / "logits.npy")
    for ending in endings:
        workdir = folder / f"run{ending}"
        import_it(network, folder / f"weights{ending}", workdir)
        run = json.loads((workdir / "run.json").read_text())
        assert {key: run["config"]["model"][key] for key in network.fields} == network.fields
        model, variables = checkpoint.load_network(workdir)
        if network.training:
            model = model.clone(dropout_rate=0.0, aux_dropout_rate=0.0)
        ours = outputs(model, variables, run["imported"]["channels"], training=network.training)
        assert ours.shape == theirs.shape
        difference = worst_difference(ours, theirs)
        print(f"{name}{ending}: relative difference {difference:.1e}")
        assert difference < 1e-4


def test_layers_are_torchs(peer_python, folder):
    run_peer(peer_python, "layers", folder / "layers.npz")
    with np.load(folder / "layers.npz") as live, np.load(layers.RECORDED) as recorded:
        for name in layers.LAYERS:
            assert_is_torchs(name, live[name])
            np.testing.assert_allclose(live[name], recorded[name], rtol=1e-5, atol=1e-5, err_msg=name)


# Name -> the format, how many layers have weights, and one of ours with theirs.
CERTIFIED = {
    "torchvision_resnet18": (".pth", 41, ("stage3/block1/shortcut_bn", "layer2.0.downsample.1")),
    "torchvision_vgg11_bn": (".pth", 19, ("bn2_1", "features.5")),
    "torchvision_googlenet": (".legacy.pth", 123, ("aux1/conv_bn", "aux1.conv.bn")),
    "timm_mobilenetv1_100": (".safetensors", 55, ("dw1_bn", "blocks.0.0.bn1")),
    "keras_MobileNet_0.25": (".h5", 55, ("fc", "conv_preds")),
    "keras_ResNet50": (".keras", 54, ("stage2/block1/shortcut_bn", "conv2_block1_0_bn")),
    "keras_VGG16": (".weights.h5", 16, ("fc6", "fc1")),
}


@pytest.mark.parametrize("name", quick_or_slow(CERTIFIED))
def test_every_layer_is_certified(peer_python, folder, capsys, name):
    network = NETWORKS[name]
    ending, count, (ours, theirs) = CERTIFIED[name]
    run_peer(peer_python, "save", name, folder, ending)
    file, workdir = folder / f"weights{ending}", folder / "run"
    import_it(network, file, workdir)
    capsys.readouterr()
    arguments = ["--workdir", str(workdir), "--peer_python", peer_python, "--file", str(file)]
    assert command.main(["certify", *arguments]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    print(f"{name}: {said}")
    peer = json.loads((workdir / bridge.CERTIFICATE).read_text())["peer"]
    assert peer["network"] == network.theirs
    assert len(peer["layers"]) == count
    assert peer["layers"][ours]["theirs"] == theirs
    assert len(peer["folded"]) == (53 if name == "keras_ResNet50" else 0)
    worst = max(peer["layers"].items(), key=lambda item: item[1]["max_relative_difference"])
    assert 0 < worst[1]["max_relative_difference"] < 1e-4
    assert f"the farthest: {worst[0]} ({worst[1]['theirs']})" in said
