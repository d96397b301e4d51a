"""Layers against a peer's: the differences are those that there are, and what cannot be compared is said in one line.

The peers here are programs that answer what the test gives them; `test_live_peers.py` asks the real ones.
"""

import ast
import json
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnn_research import checkpoint, models
from dnn_research.weights import __main__ as command
from dnn_research.weights import bridge, comparison, conventions
from tests.weights import pattern
from tests.weights.networks import NETWORKS
from tests.weights.test_peers import shapes_of

PEER = """#!{python}
import pathlib, shutil, sys
script, folder = sys.argv[1:]
shutil.copytree(folder, {asked!r})
shutil.copy({answer!r}, pathlib.Path(folder, "layers.npz"))
pathlib.Path(folder, "versions.json").write_text('{{"keras": "3.0"}}')
"""


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """A file of Keras' smallest MobileNet, the work directory made of it, and the outputs of its layers by Keras' names
    as they are here.
    """
    folder = tmp_path_factory.mktemp("comparison")
    convention = conventions.convention("keras", "mobilenet")
    network = models.create("mobilenet", lineage="keras", activation="relu6", width=0.25)
    layout = conventions.layout(convention, {}, shapes_of(network))
    file, workdir = folder / "weights.npz", folder / "run"
    np.savez(file, **{name: pattern.keras_tensor(name, shape) for name, shape in layout.items()})
    arguments = ["--file", str(file), "--lineage", "keras", "--config", "configs/mobilenet.py"]
    assert command.main(["import", *arguments, "--workdir", str(workdir)]) == 0
    pairs, _ = comparison.counterparts(convention.entries({}))
    images = bridge.fixed_images(2, 224, 3)
    ours = comparison.layer_outputs(*checkpoint.load_network(workdir), images, set(pairs))
    return file, workdir, {theirs: ours[name] for name, theirs in pairs.items()}


@pytest.fixture
def ask(tmp_path, imported):
    """Certifies with a peer that answers with some outputs; gives the exit status."""

    def certify(outputs, workdir=None):
        np.savez(tmp_path / "answer.npz", **outputs)
        text = PEER.format(python=sys.executable, asked=str(tmp_path / "asked"), answer=str(tmp_path / "answer.npz"))
        peer = program(tmp_path / "peer", text)
        return certify_with(peer, imported[0], workdir or imported[1], tmp_path / "certificate.json")

    return certify


def program(path, text):
    path.write_text(text)
    path.chmod(0o755)
    return path


def certify_with(python, file, workdir, output):
    arguments = ["--workdir", str(workdir), "--output", str(output), "--peer_python", str(python), "--file", str(file)]
    return command.main(["certify", *arguments])


def with_run(imported, workdir, **changes):
    """A copy of the work directory whose run.json says something else of the file; without changes, nothing."""
    shutil.copytree(imported[1], workdir)
    run = json.loads((workdir / "run.json").read_text())
    source = run.pop("imported")
    run |= {"imported": {**source, **changes}} if changes else {}
    (workdir / "run.json").write_text(json.dumps(run))
    return workdir


def test_the_certificate_has_every_layer_and_names_the_farthest(tmp_path, imported, ask, capsys):
    outputs = dict(imported[2])
    outputs["conv_pw_7"] = outputs["conv_pw_7"] + np.float32(0.5)
    outputs["conv_dw_3_bn"] = outputs["conv_dw_3_bn"].copy()
    outputs["conv_dw_3_bn"][1, 2, 3, 4] -= 0.25
    # Keras' last layer is a convolution over one pixel.
    outputs["conv_preds"] = outputs["conv_preds"][:, None, None, :]
    assert ask(outputs) == 0
    said = capsys.readouterr().out
    peer = json.loads((tmp_path / "certificate.json").read_text())["peer"]
    assert (peer["lineage"], peer["network"], peer["versions"]) == ("keras", "MobileNet", {"keras": "3.0"})
    assert peer["folded"] == []
    assert {ours: layer["theirs"] for ours, layer in peer["layers"].items()} == {
        **{f"conv0{bn}": f"conv1{bn}" for bn in ("", "_bn")},
        **{
            f"{kind}{n}{bn}": f"conv_{kind}_{n}{bn}"
            for n in range(1, 14)
            for kind in ("dw", "pw")
            for bn in ("", "_bn")
        },
        "fc": "conv_preds",
    }
    for ours, absolute in (("pw7", 0.5), ("dw3_bn", 0.25), ("conv0", 0.0), ("fc", 0.0)):
        layer = peer["layers"][ours]
        largest = np.abs(outputs[layer["theirs"]]).max()
        assert layer["max_abs_difference"] == pytest.approx(absolute, abs=1e-5)
        assert layer["max_relative_difference"] == pytest.approx(absolute / largest, abs=1e-5)
    farthest = peer["layers"]["pw7"]["max_relative_difference"]
    assert "55 layers compared with keras's MobileNet (keras 3.0)" in said
    assert f"the farthest: pw7 (conv_pw_7), relative difference {farthest:.1e}, absolute 5.0e-01" in said


def test_the_peer_gets_the_original_file_and_the_images_as_its_network_takes_them(tmp_path, imported, ask):
    assert ask(imported[2]) == 0
    request = json.loads((tmp_path / "asked/request.json").read_text())
    assert request["file"] == str(imported[0].absolute())
    assert (request["lineage"], request["network"], request["heads"]) == ("keras", "MobileNet", False)
    assert request["options"] == {
        "alpha": 0.25,
        "classes": 1000,
        "classifier_activation": None,
        "input_shape": [224, 224, 3],
    }
    assert set(request["layers"]) == set(imported[2])
    images = bridge.fixed_images(2, 224, 3)
    np.testing.assert_array_equal(np.load(tmp_path / "asked/images.npy"), images)

    shutil.rmtree(tmp_path / "asked")
    (tmp_path / "certificate.json").unlink()
    assert ask(imported[2], with_run(imported, tmp_path / "bgr", channels="bgr")) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "asked/images.npy"), images[..., ::-1])


def changed(outputs, change):
    outputs = dict(outputs)
    if change == "missing":
        del outputs["conv_pw_3"]
    elif change == "misshapen":
        outputs["conv_pw_3"] = outputs["conv_pw_3"][:, 1:]
    else:
        outputs["conv_pw_3"] = np.full_like(outputs["conv_pw_3"], np.inf)
    return outputs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", "the layer 'pw3' has no counterpart: 'conv_pw_3' of the peer put nothing out"),
        ("misshapen", "no counterpart: it puts out (2, 56, 56, 32), 'conv_pw_3' of the peer (2, 55, 56, 32)"),
        ("not finite", "the layer 'pw3' or 'conv_pw_3' of the peer puts out values that are not finite"),
    ],
)
def test_a_layer_without_counterpart_is_named_and_nothing_written(tmp_path, imported, ask, capsys, change, message):
    assert ask(changed(imported[2], change)) == 1
    assert_one_line(capsys, message)
    assert not (tmp_path / "certificate.json").exists()


def assert_one_line(capsys, message):
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("error: ") and len(said.splitlines()) == 1


FAILS = """#!/bin/sh
echo 'Traceback (most recent call last):' >&2
echo "ModuleNotFoundError: No module named 'keras'" >&2
exit 1
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FAILS, "failed: ModuleNotFoundError: No module named 'keras'"),
        ("#!/bin/sh\nexit 0\n", "failed: it ended with status 0 and no word"),
        ("#!/bin/sh\nexit 3\n", "failed: it ended with status 3 and no word"),
        ('#!/bin/sh\ntouch "$2/layers.npz" "$2/versions.json"\necho killed >&2\nexit 1\n', "failed: killed"),
        # The script itself, by a Python that has no packages.
        (f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n', "failed: ModuleNotFoundError: No module named 'numpy'"),
        (None, "cannot run the peer"),
    ],
)
def test_a_peer_that_does_not_run_is_quoted_and_nothing_written(tmp_path, imported, capsys, text, message):
    peer = tmp_path / "peer"
    if text is not None:
        program(peer, text)
    assert certify_with(peer, imported[0], imported[1], tmp_path / "certificate.json") == 1
    assert_one_line(capsys, message)
    assert not (tmp_path / "certificate.json").exists()


def test_the_file_must_be_the_one_that_was_imported(tmp_path, imported, capsys):
    other = tmp_path / "other.npz"
    other.write_bytes(imported[0].read_bytes() + b"\0")
    for file, message in (
        (other, "other.npz is not the file that was imported, weights.npz: its sha256 is"),
        (tmp_path / "none.npz", "there is no file"),
    ):
        assert certify_with("python", file, imported[1], tmp_path / "certificate.json") == 1
        assert_one_line(capsys, message)
    assert not (tmp_path / "certificate.json").exists()


def test_what_has_no_peer(tmp_path, imported, capsys):
    caffe = with_run(imported, tmp_path / "caffe", lineage="caffe")
    trained = with_run(imported, tmp_path / "trained")
    for workdir, message in (
        (caffe, "there is no peer for the lineage caffe, but for torchvision, timm, keras; leave out --peer_python"),
        (trained, "the run was not imported from a file that a peer could read; leave out --peer_python"),
    ):
        assert certify_with("python", imported[0], workdir, tmp_path / "certificate.json") == 1
        assert_one_line(capsys, message)
    assert not (tmp_path / "certificate.json").exists()


def test_file_and_python_of_the_peer_come_together(imported, capsys):
    base = ["certify", "--workdir", str(imported[1])]
    assert command.main([*base, "--peer_python", sys.executable]) == 1
    assert_one_line(capsys, "--peer_python needs --file")
    assert command.main([*base, "--file", str(imported[0])]) == 1
    assert_one_line(capsys, "give --peer_python too")


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_has_a_counterpart_or_is_folded(name):
    peer = NETWORKS[name]
    shapes = shapes_of(models.create(peer.ours, **peer.fields))
    ours = {path.removeprefix("params/").rpartition("/")[0] for path in shapes if path.startswith("params/")}
    pairs, folded = comparison.counterparts(conventions.convention(peer.lineage, peer.ours).entries(peer.fields))
    assert sorted([*pairs, *folded]) == sorted(ours)
    assert len(set(pairs.values())) == len(pairs)
    convolutions = {layer for layer in ours if "conv" in layer}
    assert set(folded) == (convolutions if name.startswith("keras_ResNet") else set())


@pytest.mark.parametrize("name", NETWORKS)
def test_the_peers_network_is_the_one_that_is_compared(name):
    """As the table of networks has it; so `record.py` and `peer.py` make the same."""
    peer = NETWORKS[name]
    network = models.create(peer.ours, **peer.fields)
    fields = {field: getattr(network, field) for field in network.__dataclass_fields__} | {"name": peer.ours}
    theirs = comparison.peer_network(peer.lineage, fields, (224, 224, 3))
    assert theirs.name == peer.theirs
    own = {option: value for option, value in peer.options.items() if not option.startswith("dropout")}
    assert own.items() <= theirs.options.items()


@pytest.mark.parametrize("heads", [False, True])
def test_googlenets_peer_has_heads_where_the_file_has_them(heads):
    fields = {"name": "googlenet", "aux_heads": heads, "num_classes": 10}
    assert comparison.peer_network("torchvision", fields, (224, 224, 3)).options["aux_logits"] is heads


def test_layers_are_seen_where_blocks_run_in_a_loop():
    network = models.create("resnet_cifar", depth=56, width_factor=0.25)
    variables = with_statistics(models.initialize(network, jax.random.key(0), (8, 8, 3)))
    images = pattern.images(2, 8)
    outputs = comparison.layer_outputs(network, variables, images, {"conv1", "stage2/block9/bn2", "fc", "none"})
    assert set(outputs) == {"conv1", "stage2/block9/bn2", "fc"}
    np.testing.assert_allclose(
        outputs["fc"], jax.jit(network.apply)(variables, jnp.asarray(images)), rtol=1e-4, atol=1e-5
    )


def test_auxiliary_heads_run_as_in_evaluation():
    """With running statistics and without dropout: the logits are those of evaluation, and nothing needs a key."""
    network = models.create("googlenet", variant="torchvision", width_factor=0.125, num_classes=10)
    variables = with_statistics(models.initialize(network, jax.random.key(0), (32, 32, 3)))
    images = pattern.images(2, 32)
    outputs = comparison.layer_outputs(network, variables, images, {"fc", "aux1/conv_bn", "aux1/classifier"})
    assert set(outputs) == {"fc", "aux1/conv_bn", "aux1/classifier"}
    assert outputs["aux1/classifier"].shape == (2, 10)
    np.testing.assert_allclose(
        outputs["fc"], jax.jit(network.apply)(variables, jnp.asarray(images)), rtol=1e-4, atol=1e-6
    )


def with_statistics(variables):
    """Running statistics far from a batch's own."""
    return {**variables, "batch_stats": jax.tree.map(lambda leaf: leaf + 0.5, variables["batch_stats"])}


def test_the_peers_script_needs_numpy_alone():
    nodes = list(ast.walk(ast.parse(comparison.SCRIPT.read_text())))
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {module.partition(".")[0] for module in modules} <= {"numpy", *sys.stdlib_module_names}
