"""Import, export and certificate by their commands: nothing is forgotten, nothing written when anything is wrong."""

import json
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from dnn_research import checkpoint, models, recipe, train
from dnn_research.errors import UserError
from dnn_research.weights import __main__ as command
from dnn_research.weights import bridge, conventions, files
from tests.weights import pattern
from tests.weights.networks import NETWORKS
from tests.weights.test_peers import PEERS, shapes_of

RESNET = ["--lineage", "torchvision", "--config", "configs/resnet18.py"]


@pytest.fixture(scope="session")
def resnet18():
    """torchvision's state_dict of ResNet-18 with the pattern's weights."""
    network = models.create("resnet", depth=18, stride_in="3x3")
    layout = conventions.layout(conventions.convention("torchvision", "resnet"), {"depth": 18}, shapes_of(network))
    theirs = {name: pattern.torch_tensor(name, shape, 4.0) for name, shape in layout.items()}
    return {**theirs, "bn1.num_batches_tracked": np.zeros((), np.int64)}


@pytest.fixture
def weights_file(tmp_path, resnet18):
    path = tmp_path / "resnet18.safetensors"
    files.write_safetensors(path, resnet18, {})
    return path


def import_it(path, workdir, *more):
    return command.main(["import", "--file", str(path), "--workdir", str(workdir), *RESNET, *more])


def test_an_imported_network_is_a_run_like_any_other(tmp_path, weights_file, capsys):
    assert import_it(weights_file, tmp_path / "run") == 0
    said = capsys.readouterr().out
    assert "122" not in said and "103 arrays, 11,689,512 parameters" in said
    assert "model.stride_in=3x3" in said and "--config.checkpoint.init_exclude=fc " in said

    model, variables = checkpoint.load_network(tmp_path / "run")
    logits = model.apply(variables, jnp.asarray(pattern.images(2, 224)))
    expected = np.load(PEERS / "torchvision_resnet18.npy")[0]
    assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()
    run = json.loads((tmp_path / "run/run.json").read_text())
    assert run["imported"]["sha256"] == files.sha256(weights_file)
    assert run["imported"]["left_out"] == ["bn1.num_batches_tracked"]
    assert run["config"]["data"]["mean"] == [123.675, 116.28, 103.53]

    # The command that the import proposes for an evaluation.
    (line,) = [line for line in said.splitlines() if line.startswith("evaluate:")]
    overrides = [w.replace('"', "") for w in line.replace(", ", ",").split() if w.startswith("--config.")]
    chosen = recipe.load(
        "configs/resnet18.py",
        [w.removeprefix("--") for w in overrides]
        + ["data.source=synthetic", "data.synthetic_examples=8", "eval.batch_size=8"],
    )
    results = train.evaluate_run(chosen, tmp_path / "run", "latest", lambda line: None)
    assert results["eval/examples"] == 8

    assert import_it(weights_file, tmp_path / "run") == 1
    assert "exists" in capsys.readouterr().err


def test_export_gives_back_the_file_bit_for_bit(tmp_path, weights_file, resnet18, capsys):
    assert import_it(weights_file, tmp_path / "run") == 0
    out = ["export", "--workdir", str(tmp_path / "run"), "--lineage", "torchvision", "--output"]
    assert command.main([*out, str(tmp_path / "out.safetensors")]) == 0
    back = files.read(tmp_path / "out.safetensors")
    assert set(back) == set(resnet18) - {"bn1.num_batches_tracked"}
    for name, array in back.items():
        np.testing.assert_array_equal(array, resnet18[name], err_msg=name)
    assert command.main([*out, str(tmp_path / "out.safetensors")]) == 1
    capsys.readouterr()
    assert command.main(["export", *out[1:4], "keras", "--output", str(tmp_path / "k.safetensors")]) == 1
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("recording", [name for name in NETWORKS if not name.startswith("keras")])
def test_every_torch_layout_comes_back_from_ours(recording):
    peer = NETWORKS[recording]
    narrow = {"depth": 18} if peer.ours == "resnet" else {}
    network = models.create(peer.ours, **{**peer.fields, **narrow})
    convention = conventions.convention(peer.lineage, peer.ours)
    every_field = {field: getattr(network, field) for field in network.__dataclass_fields__}
    shapes = shapes_of(network)
    layout = conventions.layout(convention, every_field, shapes)
    # One small array of each kind of layer tells of the layout: the large ones go through the same functions.
    for entry in convention.entries(every_field):
        if np.prod(shapes[entry.ours]) > 4e6:
            continue
        theirs = pattern.uniform(entry.theirs, layout[entry.theirs])
        there = entry.layout.ours(theirs)
        assert there.shape == shapes[entry.ours]
        np.testing.assert_array_equal(entry.layout.theirs(there), theirs)


@pytest.mark.parametrize(
    ("name", "fields", "lineage", "message"),
    [
        ("resnet", {"depth": 50, "stride_in": "1x1"}, "torchvision", "has model.stride_in=3x3, this one 1x1"),
        ("mobilenet", {}, "timm", "has model.lineage=torch, this one paper"),
        ("vgg", {"variant": "A-LRN"}, "torchvision", "has model.variant=A, this one A-LRN"),
        ("vgg", {"pooling": "average"}, "torchvision", "has model.pooling=max, this one average"),
        ("vgg", {"width_factor": 0.125}, "torchvision", "over 512 maps of 7x7, this network's has 3,136 inputs"),
        ("alexnet", {"variant": "paper"}, "caffe", "is model.variant=caffe or caffenet, not paper"),
        ("alexnet", {"variant": "caffe", "lrn_k": 2.0}, "caffe", "has model.lrn_k=1.0, this one 2.0"),
        ("googlenet", {"lrn": False}, "caffe", "has model.lrn=True, this one False"),
        ("alexnet", {"variant": "torchvision", "lrn": True}, "torchvision", "has model.lrn=False, this one True"),
        ("googlenet", {"batch_norm": True}, "torchvision", "has model.variant=torchvision, this one paper"),
        ("resnet", {"depth": 18, "residual": False}, "torchvision", "differ in batch_stats/stage3/block1/shortcut_bn"),
    ],
)
def test_a_network_that_computes_something_else_has_no_form_in_a_lineage(name, fields, lineage, message):
    """Whatever its arrays are called, and though they have the shapes."""
    network = models.create(name, **fields)
    shapes = shapes_of(network)
    ours = {path: np.broadcast_to(np.float32(0), shape) for path, shape in shapes.items()}
    convention, every_field = conventions.convention(lineage, name), bridge._every_field(network)
    with pytest.raises(UserError, match=message):
        conventions.checked_entries(convention, every_field, ours)
        entries = convention.entries(every_field)
        theirs = {entry.theirs: entry.layout.theirs(ours[entry.ours]) for entry in entries}
        conventions.check_form(convention, every_field, theirs)


def test_a_layer_as_wide_as_there_are_classes_is_no_head(tmp_path, resnet18, capsys):
    path, classes = tmp_path / "weights.npz", 64  # conv1 has as many channels
    np.savez(path, **{**resnet18, "fc.weight": np.zeros((classes, 512), "f4"), "fc.bias": np.zeros(classes, "f4")})
    assert import_it(path, tmp_path / "run") == 0
    assert "--config.checkpoint.init_exclude=fc " in capsys.readouterr().out


def test_a_recipe_need_not_name_what_is_by_default_as_the_weights_want_it(tmp_path, weights_file, capsys):
    words = ["--file", str(weights_file), "--workdir", str(tmp_path / "run"), "--lineage", "torchvision"]
    assert command.main(["import", *words, "--config", "configs/finetune.py"]) == 0
    said = capsys.readouterr().out
    assert "--config.model.residual" not in said and "--config.model.depth=18" in said


def test_a_recipe_may_leave_out_what_tells_which_arrays_there_are(tmp_path, capsys):
    network = models.create("vgg", variant="A")
    held, every_field = conventions.convention("torchvision", "vgg"), bridge._every_field(network)
    layout = conventions.layout(held, every_field, shapes_of(network))
    files.write_safetensors(tmp_path / "a.safetensors", {n: np.zeros(shape, "f4") for n, shape in layout.items()}, {})
    text = (Path("configs/vgg16.py")).read_text()
    assert "    config.model.batch_norm = False\n" in text
    (tmp_path / "vgg.py").write_text(text.replace("    config.model.batch_norm = False\n", ""))
    words = ["--file", str(tmp_path / "a.safetensors"), "--lineage", "torchvision", "--workdir", str(tmp_path / "run")]
    assert command.main(["import", *words, "--config", f"{tmp_path / 'vgg.py'}:A"]) == 0
    assert "132,863,336 parameters" in capsys.readouterr().out


def test_a_network_that_a_lineage_lacks_is_one_line():
    network = models.create("googlenet", batch_norm=True)
    with pytest.raises(UserError, match=r"no form of this network: they differ in batch_stats/.*, \.\.\.$"):
        conventions.to_ours(
            conventions.convention("caffe", "googlenet"), bridge._every_field(network), {}, shapes_of(network)
        )


def test_biases_that_are_folded_are_checked_too():
    network, held = models.create("resnet", depth=18), conventions.convention("keras", "resnet")
    fields, shapes = bridge._every_field(network), shapes_of(network)
    arrays = {name: np.ones(shape, "f4") for name, shape in conventions.layout(held, fields, shapes).items()}
    arrays["conv1_conv/bias"] = np.full(64, np.nan, "f4")
    with pytest.raises(UserError, match="'conv1_conv/bias' has values that are not finite"):
        conventions.to_ours(held, fields, arrays, shapes)


def damaged(arrays, change):
    arrays = dict(arrays)
    if change == "missing":
        del arrays["layer3.1.conv2.weight"]
    elif change == "extra":
        arrays["layer9.weight"] = np.zeros(3, np.float32)
    elif change == "misshapen":
        arrays["layer2.0.bn1.weight"] = np.zeros(64, np.float32)
    elif change == "transposed":
        arrays["layer2.0.conv1.weight"] = arrays["layer2.0.conv1.weight"].transpose(1, 0, 2, 3).copy()
    elif change == "not finite":
        arrays["fc.bias"] = np.full(1000, np.nan, np.float32)
    return arrays


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", "'layer3.1.conv2.weight' is missing"),
        ("extra", "'layer9.weight' is not known"),
        ("misshapen", r"'layer2.0.bn1.weight' is \(64,\), which does not fit params/stage3/block1/bn1/scale \(128,\)"),
        ("transposed", r"'layer2.0.conv1.weight' is \(64, 128, 3, 3\), which does not fit"),
        ("not finite", "'fc.bias' has values that are not finite"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_name_and_nothing_is_written(
    tmp_path, resnet18, capsys, change, message
):

    path = tmp_path / "weights.npz"
    np.savez(path, **damaged(resnet18, change))
    assert import_it(path, tmp_path / "run") == 1
    said = capsys.readouterr().err
    assert re.search(message, said)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.model.stride_in=1x1"], "the weights call for model.stride_in=3x3, not 1x1"),
        (["--what"], "unknown argument --what"),
    ],
)
def test_what_contradicts_the_weights_is_refused(tmp_path, weights_file, capsys, arguments, message):
    assert import_it(weights_file, tmp_path / "run", *arguments) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_an_unknown_lineage_and_a_network_that_it_lacks(tmp_path, weights_file, capsys):
    base = ["import", "--file", str(weights_file), "--workdir", str(tmp_path / "run"), "--config"]
    assert command.main([*base, "configs/resnet18.py", "--lineage", "torchvison"]) == 1
    assert "did you mean 'torchvision'" in capsys.readouterr().err
    assert command.main([*base, "configs/nin.py", "--lineage", "torchvision"]) == 1
    assert "torchvision has no weights for the network 'nin'" in capsys.readouterr().err


def test_a_certificate_can_be_checked(tmp_path, weights_file, capsys):
    assert import_it(weights_file, tmp_path / "run") == 0
    assert command.main(["certify", "--workdir", str(tmp_path / "run")]) == 0
    certificate = json.loads((tmp_path / "run/certificate.json").read_text())
    assert certificate["parameters"] == 11_689_512
    assert certificate["imported"]["sha256"] == files.sha256(weights_file)
    assert (certificate["input"]["channels"], certificate["input"]["normalization"]) == ("rgb", "channel")
    assert certificate["peer"] is None
    model, variables = checkpoint.load_network(tmp_path / "run")
    logits = np.asarray(model.apply(variables, jnp.asarray(bridge.fixed_images(2, 224, 3))))
    assert certificate["logits"]["top5"] == np.argsort(-logits, axis=-1)[:, :5].tolist()
    np.testing.assert_allclose(certificate["logits"]["largest"], -np.sort(-logits, axis=-1)[:, :5], rtol=1e-4)
    capsys.readouterr()
    assert command.main(["certify", "--workdir", str(tmp_path / "run")]) == 1
    assert "exists" in capsys.readouterr().err


def test_fixed_images_are_the_formula():
    images = bridge.fixed_images(1, 4, 3).ravel()
    expected = [4 * ((i * 2654435769 % 2**32) >> 16) / 2**16 - 2 for i in range(48)]
    np.testing.assert_array_equal(images, np.float32(expected))


def test_weights_of_bgr_networks_are_turned_around():
    shape = (64, 3, 3, 3)
    kernel = pattern.uniform("kernel", shape)
    convention = conventions.convention("caffe", "vgg")
    fields = {"variant": "A", "batch_norm": False}
    network = models.create("vgg", **fields, width_factor=1.0)
    shapes = shapes_of(network)
    arrays = {
        name: np.zeros(shape, np.float32) for name, shape in conventions.layout(convention, fields, shapes).items()
    }
    arrays["conv1_1/0"] = kernel
    ours = conventions.to_ours(convention, fields, arrays, shapes)["params/conv1_1/kernel"]
    np.testing.assert_array_equal(ours[:, :, 0], kernel.transpose(2, 3, 1, 0)[:, :, 2])


@pytest.mark.parametrize(
    ("name", "fields", "size"),
    [
        ("alexnet", {"variant": "caffenet"}, 227),
        ("nin", {"variant": "imagenet", "num_classes": 1000}, 224),
        ("googlenet", {"aux_heads": True}, 224),
    ],
)
def test_caffes_names_cover_the_network(name, fields, size):
    network = models.create(name, **fields)
    tree = models.shapes(network, (size, size, 3))
    paths = {"/".join(path) for path in bridge._flat(tree)}
    entries = conventions.convention("caffe", name).entries(fields)
    assert {entry.ours for entry in entries} == paths
    assert len({entry.theirs for entry in entries}) == len(entries)
