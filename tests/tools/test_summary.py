"""The summary counts as the papers do."""

import itertools
import json
import math
from collections import Counter
from fractions import Fraction

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from dnn_research import models
from dnn_research.models import layers, tracing
from dnn_research.models.googlenet import adaptive_average_pool
from dnn_research.models.initialization import Operation, note_operation
from dnn_research.ops import pooling
from dnn_research.tools import summary
from tests.models import paper_tables, test_paper_tables

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


@pytest.mark.parametrize(
    ("name", "kwargs", "image_shape"),
    [
        ("lenet", {}, (32, 32, 1)),
        ("alexnet", {"width_factor": 0.1}, (64, 96, 3)),
        ("vgg", {"variant": "A-LRN", "width_factor": 0.1}, (32, 64, 3)),
        ("vgg", {"fully_convolutional": True, "image_size": 64, "width_factor": 0.1}, (96, 96, 3)),
        ("nin", {"head": "fc"}, (32, 32, 3)),
        ("googlenet", {"width_factor": 0.1}, (96, 96, 3)),
        ("mobilenet", {"width": 0.25}, (64, 64, 3)),
        ("resnet", {"depth": 101}, (64, 96, 3)),
        ("resnet_cifar", {"depth": 56, "shortcut": "C"}, (29, 32, 1)),
        ("resnet_cifar", {"depth": 20, "remat_blocks": True}, (29, 32, 1)),
    ],
)
def test_rows_agree_with_what_training_runs(name, kwargs, image_shape):
    model = models.create(name, **kwargs)
    rows = summary.count(model, image_shape)
    assert sum(row.macs / row.connected for row in rows) == summary.macs_of_training(model, image_shape)
    assert {row.layer: row.connected for row in rows if row.connected != 1} == (
        {"c3": Fraction(60, 96)} if name == "lenet" else {}
    )
    params = jax.tree.leaves(models.shapes(model, image_shape)["params"])
    assert sum(row.params for row in rows) == sum(math.prod(leaf.shape) for leaf in params)


def test_rows_do_not_depend_on_how_stages_run():
    model = models.create("resnet_cifar", depth=56, scan_blocks=False)
    other = model.clone(scan_blocks=True, remat_blocks=True)
    assert summary.count(other, CIFAR) == summary.count(model, CIFAR)
    assert summary.macs_of_training(other, CIFAR) == summary.macs_of_training(model, CIFAR)


def test_a_layer_that_tells_nothing_is_found_out():
    class Untold(nn.Module):
        @nn.compact
        def __call__(self, images, *, train=False):
            del train
            return layers.global_average_pool(nn.Conv(4, (3, 3))(images), name="pool") @ jnp.ones((4, 2))

    # The pool would take the convolution for its own; the last product has no layer after it.
    with pytest.raises(RuntimeError, match="8 multiply-adds belong to no layer"):
        summary.count(Untold(), (8, 8, 3))


def test_a_layer_has_the_multiply_adds_of_its_own_kernels_alone():
    class Outer(nn.Module):
        @nn.compact
        def __call__(self, images, *, train=False):
            del train
            name = layers.path_name(self)
            note_operation(Operation(name, "conv", images.shape[1:], (8, 8, 2)))
            inner = layers.Conv(4, (1, 1), name="inner")(self.halved(images))
            return inner @ jnp.ones((4, 2)) + layers.Conv(2, (1, 1), name="other")(inner)

        def halved(self, images):
            return images / 2

    class Network(nn.Module):
        @nn.compact
        def __call__(self, images, *, train=False):
            x = Outer(name="outer")(images, train=train)
            return layers.Dense(5, name="fc")(layers.global_average_pool(x, name="pool"))

    rows = {row.layer: row.macs for row in summary.count(Network(), (8, 8, 3))}
    assert rows == {"outer": 64 * 8, "outer/inner": 64 * 12, "outer/other": 64 * 8, "pool": 0, "fc": 10}


def test_multiply_adds_of_programs():
    kernel = jnp.ones((3, 5, 2, 12))

    def grouped(x):
        return jax.lax.conv_general_dilated(
            x, kernel, (2, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=4
        )

    def macs(function, *arguments):
        return tracing.multiply_adds(jax.make_jaxpr(function)(*arguments))

    # 4 x 5 positions, 12 units of 3 * 5 * 2 inputs
    assert macs(grouped, jnp.ones((1, 9, 9, 8))) == 4 * 5 * 12 * 30
    square = jnp.ones((3, 3))

    def loop(x):
        return jax.lax.scan(lambda x, _: (jax.lax.fori_loop(0, 4, lambda _, y: y @ square, x), None), x, length=5)

    assert macs(loop, square) == 5 * 4 * 27
    assert macs(jax.checkpoint(jax.jit(lambda x: jax.nn.relu(x @ square))), square) == 27
    assert macs(lambda x: jax.lax.cond(x[0, 0] > 0, lambda x: x @ square, lambda x: -x @ square, x), square) == 27
    assert macs(lambda x: jnp.einsum("bij,bjk->bik", x, x), jnp.ones((2, 3, 3))) == 2 * 27
    with pytest.raises(ValueError, match="how often"):
        macs(lambda x: jax.lax.while_loop(lambda x: x[0, 0] < 9, lambda x: x @ square, x), square)


# Papers and published tables of receptive fields, in pixels.
FIELDS = {
    ("lenet", ()): {"c1": 5, "s2": 6, "c3": 14, "s4": 16, "c5": 32, "f6": "all", "fc": "all"},
    ("vgg", ()): {"conv1_2": 5, "pool3": 44, "conv5_3": 196, "pool5": 212, "fc6": "all", "fc8": "all"},
    ("alexnet", ()): {"conv1": 11, "pool1": 19, "conv2": 51, "pool2": 67, "conv5": 163, "pool5": 195, "fc6": "all"},
    ("resnet", ()): {
        "conv1": 7, "bn1": 7, "pool1": 11, "stage2/block3/bn3": 35, "stage3/block4/bn3": 99, "stage4/block6/bn3": 291,
        "stage5/block3/conv3": 483, "stage5/block1/shortcut_conv": 291, "pool": "all", "fc": "all",
    },
    # A first block's 3x3 with the stride still spans the pixels of the stage before.
    ("resnet", (("stride_in", "3x3"),)): {"stage2/block3/bn3": 35, "stage3/block4/bn3": 91, "stage5/block3/bn3": 427},
    ("googlenet", ()): {
        "pool1": 11, "conv2": 19, "pool2": 27, "inception_3a/1x1": 27, "inception_3a/5x5": 59,
        "inception_3b/pool_proj": 75, "inception_3b/5x5": 91, "pool3": 107, "pool4": 459, "aux1/pool": 235,
        "aux1/fc": "all", "inception_5b/5x5": 715, "fc": "all",
    },
    # Four windows of four among 14 positions: 107 + 3 * 16.
    ("googlenet", (("variant", "torchvision"),)): {
        "pool3": 75, "inception_4a/3x3": 107, "aux1/pool": 155, "aux1/conv": 155, "aux1/fc": "all",
        "aux1/classifier": "all", "inception_4d/3x3": 203, "aux2/pool": 251, "aux2/fc": "all",
    },
    ("mobilenet", ()): {"conv0": 3, "dw2": 11, "pw13": 315, "fc": "all"},
    ("nin", ()): {"conv1": 5, "pool1": 7, "cccp6": 27, "gap": "all"},
}  # fmt: skip


@pytest.mark.parametrize(("name", "fields"), FIELDS)
def test_receptive_fields(name, fields):
    image_shape = {"lenet": (32, 32, 1), "nin": CIFAR}.get(name, IMAGENET)
    rows = {row.layer: row for row in summary.count(models.create(name, **dict(fields)), image_shape)}
    found = {layer: rows[layer].receptive_field for layer in FIELDS[name, fields]}
    assert found == {
        layer: field if field == "all" else (field, field) for layer, field in FIELDS[name, fields].items()
    }


class Paths(nn.Module):
    """Two paths of different depth that meet, unequal along the axes, and a shortcut as ResNet's option A."""

    @nn.compact
    def __call__(self, images, *, train=False):
        del train
        long = layers.Conv(2, (5, 3), (2, 2), ((2, 2), (1, 1)), name="long1")(images)
        long = layers.Conv(2, (3, 7), padding=((1, 1), (3, 3)), name="long2")(nn.relu(long))
        short = jnp.pad(images[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (0, 1)))
        x = jnp.concatenate([long + short, short], axis=-1)
        x = layers.max_pool(x, window_shape=(3, 2), strides=(1, 2), name="pool")
        return layers.Conv(1, (2, 2), name="last")(x)


def test_receptive_fields_are_the_pixels_that_change_the_output():
    """Where the gradient of one output unit is not zero, without ReLU's and the maxima's choices."""
    model, image_shape = Paths(), (64, 64, 1)
    rows = {row.layer: row.receptive_field for row in summary.count(model, image_shape)}
    # By hand: 2 * 2 + 5 = 9 and 2 * 6 + 3 = 15; + 2 * 2 and + 2; + 2 (the pool keeps the vertical stride) and + 4.
    assert rows == {"long1": (5, 3), "long2": (9, 15), "pool": (13, 17), "last": (15, 21)}
    ones = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), models.shapes(model, image_shape))

    def unit(images):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pooling, "max_pool", nn.avg_pool)
            return model.apply(ones, images)[0, 12, 6, 0]

    seen = jax.grad(unit)(jnp.ones((1, *image_shape)))[0, :, :, 0] != 0
    assert (int(seen.any(1).sum()), int(seen.any(0).sum())) == rows["last"]


class Windows(nn.Module):
    """4 x 4 windows of maps that 4 need not divide, and a unit that sees two by two of them."""

    @nn.compact
    def __call__(self, images, *, train=False):
        del train
        x = layers.Conv(1, (3, 3), (2, 2), ((1, 1), (1, 1)), name="conv")(images)
        pooled = adaptive_average_pool(x, 4, name="pool")
        pairs = layers.Conv(1, (2, 2), name="pairs")(pooled)
        return pooled, pairs, layers.Dense(1, name="fc")(layers.flatten(pooled))


# Windows are 4 of 14, 5 of 15 and 2 of 8 positions wide at most, and 4, 4 and 2 apart; positions are 2 pixels apart.
@pytest.mark.parametrize(
    ("size", "window", "pair"),
    [(14, 3 + 3 * 2, 3 + 7 * 2), (15, 3 + 4 * 2, 3 + 8 * 2), (8, 3 + 1 * 2, 3 + 3 * 2)],
)
def test_receptive_fields_of_adaptive_windows_are_those_of_the_largest(size, window, pair):
    model, image_shape = Windows(), (2 * size, 2 * size, 1)
    rows = {row.layer: row.receptive_field for row in summary.count(model, image_shape)}
    assert rows == {"conv": (3, 3), "pool": (window, window), "pairs": (pair, pair), "fc": "all"}
    ones = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), models.shapes(model, image_shape))
    outputs = jax.jacobian(lambda images: model.apply(ones, images))(jnp.ones((1, *image_shape)))
    for gradients, expected in zip(outputs, (window, pair, 2 * size), strict=True):
        seen = gradients.reshape(-1, *image_shape[:2]) != 0
        assert (int(seen.any(2).sum(1).max()), int(seen.any(1).sum(1).max())) == (expected, expected)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: jnp.cumsum(x, 1),
        lambda x: jax.image.resize(x, (1, 9, 9, 2), "nearest"),
        lambda x: jax.lax.conv_transpose(x, jnp.ones((3, 3, 2, 2)), (2, 2), "SAME"),
        lambda x: x + x[:, :1],
        lambda x: x + jnp.tile(x[:, ::2], (1, 2, 1, 1)),
        lambda x: x + jnp.pad(x[:, ::2], ((0, 0), (0, 4), (0, 0), (0, 0))),
        lambda x: jax.lax.fori_loop(0, 3, lambda _, y: jnp.roll(y, 1, 1), x),
        lambda x: x.reshape(1, 8, 2, 4, 2)[:, :, 0],
    ],
)
def test_no_receptive_field_is_told_where_it_cannot_be(function):
    program = jax.make_jaxpr(function)(jnp.ones((1, 8, 8, 2)))
    ((output,), _) = tracing.outputs(program, images=0)
    assert not all(map(math.isfinite, output.field))


TABLES = [table for table in test_paper_tables.NETWORKS if table.startswith(("resnet", "plain"))]


@pytest.mark.parametrize("table", TABLES)
def test_folded_rows_are_the_lines_of_the_papers_tables(table):
    name, fields, image_shape = test_paper_tables.NETWORKS[table]
    rows = summary.folded(summary.count(models.create(name, **fields), image_shape))
    ours = Counter(
        (
            *(numbers[0] if numbers else None for numbers in (row.kernel, row.strides)),
            row.padding[0][0] if row.padding else None,
            row.groups,
            row.in_shape[-1],
            row.out_shape,
            row.params,
            row.macs,
        )
        for row in rows
        if row.operation != "global average pool"
    )
    paper = Counter(
        (
            line.kernel,
            line.stride,
            line.padding,
            line.groups,
            line.in_channels,
            (line.out_channels,) if line.op == "fc" else (line.height, line.width, line.out_channels),
            line.params,
            line.macs,
        )
        for line in paper_tables.rows(table)
        if line.op != "avgpool"
    )
    assert (ours - paper, paper - ours) == (Counter(), Counter())


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
        layer="conv1",
        operation="conv",
        kernel=(7, 7),
        strides=(2, 2),
        padding=((3, 3), (3, 3)),
        groups=1,
        in_shape=IMAGENET,
        out_shape=(112, 112, 64),
        params=9_408,
        macs=118_013_952,
        connected=Fraction(1),
        receptive_field=(7, 7),
        activation_bytes=4 * 112 * 112 * 64,
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
    line = "conv1 conv 7x7 2x2 3 1 3 -> 64 112x112 9,408 118,013,952 7x7 3,211,264"
    assert lines[2].split() == line.split()
    total = sum(layer["activation_bytes"] for layer in result["layers"])
    assert result["activation_bytes"] == total
    assert lines[-1].split() == ["total", "25,557,032", "3,857,973,248", f"{total:,}"]


def test_command_prints_markdown_as_the_papers_count(capsys):
    assert summary.main(["--config", "configs/resnet18.py:smoke", "--markdown", "--fold"]) == 0
    header, rule, *lines, total = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()
    ]
    assert {len(line) for line in (header, rule, *lines, total)} == {12}
    assert lines[0][:10] == (
        ["conv1", "conv + batch norm", "7x7", "2x2", "3", "1", "3 -> 64", "112x112", "9,536", "118,013,952"]
    )
    assert [line[0] for line in lines[:3]] == ["conv1", "pool1", "stage2/block1/conv1"]
    for column in (8, 9, 11):
        assert f"**{sum(int(line[column].replace(',', '')) for line in lines):,}**" == total[column]


def test_command_shows_connections_that_do_not_exist(capsys):
    assert summary.main(["--config", "configs/lenet.py", "--config.model.num_classes=10"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("c3")]
    assert "conv, Table I, 5/8 of the connections" in line and "150,000" in line


def test_command_refuses_two_forms(capsys):
    with pytest.raises(SystemExit):
        summary.main(["--config", "configs/lenet.py", "--json", "--markdown"])
    assert "not allowed with" in capsys.readouterr().err


def test_command_counts_the_data_sets_classes(capsys):
    arguments = ["--config", "configs/resnet18.py:smoke", "--config.data.synthetic_classes=7", "--json"]
    assert summary.main(arguments) == 0
    fc = json.loads(capsys.readouterr().out)["layers"][-1]
    assert (fc["layer"], fc["out_shape"]) == ("fc", [7])


@pytest.mark.parametrize(("words", "classes"), [("", 10), (":cifar100", 100), (":imagenet", 1000)])
def test_command_counts_the_recipes_classes_without_its_data_set(capsys, words, classes):
    arguments = ["--config", f"configs/nin.py{words}", "--config.data.source=tfds:not_prepared", "--json"]
    assert summary.main(arguments) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["layers"][-1]["out_shape"] == [classes]
    assert captured.err == (
        f"note: tfds:not_prepared cannot be opened here; counting with config.data.synthetic_classes, {classes}\n"
    )


def test_command_names_what_is_wrong(capsys):
    assert summary.main(["--config", "configs/resnet152.py", "--config.model.depth=51"]) == 1
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1] == "error: resnet has no depth 51; it has 18, 34, 50, 101, 152"
    assert summary.main(["--config", "configs/resnet152.py", "--model", "vgg"]) == 1
