"""The summary counts as the papers do."""

import itertools
import json
import math

import jax
import jax.numpy as jnp
import pytest

from dnn_research import models
from dnn_research.tools import summary
from tests.models import test_paper_tables

IMAGENET, CIFAR = (224, 224, 3), (32, 32, 3)

# Multiply-adds at batch 1; the papers give them to two digits ("FLOPs"): 1.8, 3.6, 3.8, 7.6 and 11.3 billion.
MACS = [
    ("resnet", {"depth": 18, "residual": False}, IMAGENET, 1_794_805_760),
    ("resnet", {"depth": 34, "residual": False}, IMAGENET, 3_644_493_824),
    ("resnet", {"depth": 18, "shortcut": "A"}, IMAGENET, 1_794_805_760),
    ("resnet", {"depth": 18, "shortcut": "B"}, IMAGENET, 1_814_073_344),
    ("resnet", {"depth": 18, "shortcut": "C"}, IMAGENET, 1_878_298_624),
    ("resnet", {"depth": 34, "shortcut": "A"}, IMAGENET, 3_644_493_824),
    ("resnet", {"depth": 34, "shortcut": "B"}, IMAGENET, 3_663_761_408),
    ("resnet", {"depth": 34, "shortcut": "C"}, IMAGENET, 3_830_747_136),
    ("resnet", {"depth": 50}, IMAGENET, 3_857_973_248),
    ("resnet", {"depth": 50, "stride_in": "3x3"}, IMAGENET, 4_089_184_256),
    ("resnet", {"depth": 101}, IMAGENET, 7_570_194_432),
    ("resnet", {"depth": 101, "stride_in": "3x3"}, IMAGENET, 7_801_405_440),
    ("resnet", {"depth": 152}, IMAGENET, 11_282_415_616),
    ("resnet", {"depth": 152, "stride_in": "3x3"}, IMAGENET, 11_513_626_624),
    ("resnet_cifar", {"depth": 20}, CIFAR, 40_551_040),
    ("resnet_cifar", {"depth": 20, "residual": False}, CIFAR, 40_551_040),
    ("resnet_cifar", {"depth": 20, "shortcut": "B"}, CIFAR, 40_813_184),
    ("resnet_cifar", {"depth": 32}, CIFAR, 68_862_592),
    ("resnet_cifar", {"depth": 44}, CIFAR, 97_174_144),
    ("resnet_cifar", {"depth": 56}, CIFAR, 125_485_696),
    ("resnet_cifar", {"depth": 56, "residual": False}, CIFAR, 125_485_696),
    ("resnet_cifar", {"depth": 56, "shortcut": "B"}, CIFAR, 125_747_840),
    ("resnet_cifar", {"depth": 110}, CIFAR, 252_887_680),
    ("resnet_cifar", {"depth": 110, "residual": False}, CIFAR, 252_887_680),
    ("resnet_cifar", {"depth": 110, "shortcut": "B"}, CIFAR, 253_149_824),
    pytest.param("resnet_cifar", {"depth": 1202}, CIFAR, 2_829_238_912, marks=pytest.mark.slow),
    pytest.param("resnet_cifar", {"depth": 1202, "shortcut": "B"}, CIFAR, 2_829_501_056, marks=pytest.mark.slow),
    # Figure 2's connections without their biases: 28*28*150 + 10*10*1500 + 48000 + 10080 + 840.
    ("lenet", {}, (32, 32, 1), 326_520),
]


@pytest.mark.parametrize(("name", "kwargs", "image_shape", "macs"), MACS)
def test_exact_multiply_adds(name, kwargs, image_shape, macs):
    assert sum(row.macs for row in summary.count(models.create(name, **kwargs), image_shape)) == macs


def test_no_network_is_missing_from_the_table():
    rows = [getattr(row, "values", row) for row in MACS]
    rows += list(test_paper_tables.NETWORKS.values())
    assert {name for name, *_ in rows} == set(models.MODELS)


def multiply_adds(jaxpr) -> int:
    """The multiply-adds of the convolutions and matrix products in a traced function."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("conv_general_dilated", "dot_general"):
            kernel = equation.invars[1].aval.shape
            total += math.prod(equation.outvars[0].aval.shape[:-1]) * math.prod(kernel)
        for inner in equation.params.values():
            if hasattr(inner, "jaxpr"):
                total += multiply_adds(inner.jaxpr)
    return total


@pytest.mark.parametrize(
    ("name", "kwargs", "image_shape"),
    [("resnet", {"depth": 50}, (64, 96, 3)), ("resnet_cifar", {"depth": 20, "shortcut": "C"}, (29, 32, 1))],
)
def test_rows_agree_with_the_traced_forward_pass(name, kwargs, image_shape):
    model = models.create(name, **kwargs, scan_blocks=False)
    rows = summary.count(model, image_shape)
    variables = models.shapes(model, image_shape)
    jaxpr = jax.make_jaxpr(model.apply)(variables, jnp.zeros((1, *image_shape))).jaxpr
    assert sum(row.macs for row in rows) == multiply_adds(jaxpr)
    assert sum(row.params for row in rows) == sum(math.prod(a.shape) for a in jax.tree.leaves(variables["params"]))
    assert rows == summary.count(model.clone(scan_blocks=True, remat_blocks=True), image_shape)


def test_rows_stand_in_execution_order():
    rows = summary.count(models.create("resnet", depth=18), IMAGENET)
    assert [row.layer for row in rows[:5]] == [
        "conv1",
        "bn1",
        "pool1",
        "stage2/block1/conv1",
        "stage2/block1/bn1",
    ]
    assert rows[0] == summary.Row(
        "conv1", "conv", (7, 7), (2, 2), ((3, 3), (3, 3)), IMAGENET, (112, 112, 64), 9_408, 118_013_952, 1
    )
    assert [row.layer for row in rows[-2:]] == ["pool", "fc"]
    for before, after in itertools.pairwise(rows):
        if after.layer != "stage3/block1/shortcut_conv" and "shortcut" not in before.layer + after.layer:
            assert before.out_shape[-1] == after.in_shape[-1]


def test_command(capsys):
    arguments = ["--config", "configs/resnet152.py", "--config.model.depth=50", "--config.model.num_classes=1000"]
    assert summary.main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["params"], result["macs"]) == (25_557_032, 3_857_973_248)
    assert sum(layer["params"] for layer in result["layers"]) == 25_557_032
    assert summary.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["layer", "operation"]
    assert lines[2].split() == ["conv1", "conv", "7x7", "2x2", "3", "3", "->", "64", "112x112", "9,408", "118,013,952"]
    assert lines[-1].split() == ["total", "25,557,032", "3,857,973,248"]


def test_command_counts_the_data_sets_classes(capsys):
    arguments = ["--config", "configs/resnet18.py:smoke", "--config.data.synthetic_classes=7", "--json"]
    assert summary.main(arguments) == 0
    fc = json.loads(capsys.readouterr().out)["layers"][-1]
    assert (fc["layer"], fc["out_shape"]) == ("fc", [7])


def test_command_names_what_is_wrong(capsys):
    assert summary.main(["--config", "configs/resnet152.py", "--config.model.depth=51"]) == 1
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1] == "error: resnet has no depth 51; it has 18, 34, 50, 101, 152"
    with pytest.raises(SystemExit, match="1"):
        summary.main(["--config", "configs/resnet152.py", "--model", "vgg"])
