"""Every network of the papers, layer by layer: parameters and multiply-adds exactly, as `tables/` has them.

A table without a network, a registered network without a table, and a variant without a row fail.
"""

import math
from collections import Counter
from fractions import Fraction
from typing import Any

import jax
import pytest

from dnn_research import models
from dnn_research.models import alexnet, googlenet, nin, transform_net, vgg
from dnn_research.tools import summary
from tests.models import paper_tables

IMAGENET = (224, 224, 3)
CIFAR = (32, 32, 3)

Network = tuple[str, dict[str, Any], tuple[int, int, int]]


def mobilenet(width: float, size: int) -> Network:
    return "mobilenet", {"width": width}, (size, size, 3)


# Table -> network, its fields, the images' shape.
NETWORKS: dict[str, Network] = {
    "alexnet_paper": ("alexnet", {"variant": "paper"}, IMAGENET),
    "alexnet_half": ("alexnet", {"variant": "half"}, IMAGENET),
    "alexnet_ungrouped": ("alexnet", {"variant": "ungrouped"}, IMAGENET),
    "alexnet_caffenet": ("alexnet", {"variant": "caffenet"}, (227, 227, 3)),
    "alexnet_owt_torchvision": ("alexnet", {"variant": "torchvision"}, IMAGENET),
    **{f"vgg_{variant}": ("vgg", {"variant": variant}, IMAGENET) for variant in vgg.VARIANTS},
    **{f"vgg_{variant}_bn": ("vgg", {"variant": variant, "batch_norm": True}, IMAGENET) for variant in "ABDE"},
    "nin_cifar10": ("nin", {"variant": "cifar10", "num_classes": 10}, CIFAR),
    "nin_cifar100": ("nin", {"variant": "cifar100", "num_classes": 100}, CIFAR),
    "nin_svhn": ("nin", {"variant": "svhn", "num_classes": 10}, CIFAR),
    "nin_mnist": ("nin", {"variant": "mnist", "num_classes": 10}, (28, 28, 1)),
    "nin_imagenet": ("nin", {"variant": "imagenet", "num_classes": 1000}, IMAGENET),
    "googlenet": ("googlenet", {"aux_heads": False}, IMAGENET),
    "googlenet_aux": ("googlenet", {}, IMAGENET),
    "googlenet_tv": ("googlenet", {"variant": "torchvision", "aux_heads": False}, IMAGENET),
    "googlenet_tv_aux": ("googlenet", {"variant": "torchvision"}, IMAGENET),
    **{f"plain{depth}": ("resnet", {"depth": depth, "residual": False}, IMAGENET) for depth in (18, 34)},
    **{
        f"resnet{depth}_{option}": ("resnet", {"depth": depth, "shortcut": option}, IMAGENET)
        for depth in (18, 34)
        for option in "ABC"
    },
    **{f"resnet{depth}_B": ("resnet", {"depth": depth}, IMAGENET) for depth in (50, 101, 152)},
    **{f"resnet{depth}_B_v1.5": ("resnet", {"depth": depth, "stride_in": "3x3"}, IMAGENET) for depth in (50, 101, 152)},
    **{
        f"plain{depth}_cifar_A": ("resnet_cifar", {"depth": depth, "residual": False}, CIFAR) for depth in (20, 56, 110)
    },
    **{f"resnet{depth}_cifar_A": ("resnet_cifar", {"depth": depth}, CIFAR) for depth in (20, 32, 44, 56, 110)},
    **{f"resnet{depth}_cifar_B": ("resnet_cifar", {"depth": depth, "shortcut": "B"}, CIFAR) for depth in (20, 56, 110)},
    **{
        f"mobilenet_{width}_{size}": mobilenet(width, size)
        for width in (0.25, 0.5, 0.75, 1.0)
        for size in (128, 160, 192, 224)
    },
    "mobilenet_1.0_224_fullconv": ("mobilenet", {"separable": False}, IMAGENET),
    "mobilenet_1.0_224_shallow": ("mobilenet", {"shallow": True}, IMAGENET),
    "johnson_style_1.0_bn": ("transform_net", {}, (256, 256, 3)),
    "johnson_style_1.0_in": ("transform_net", {"norm": "instance"}, (256, 256, 3)),
    "johnson_style_0.5_in": ("transform_net", {"variant": "released", "width_factor": 0.5}, (256, 256, 3)),
    "pytorch_examples_fast_neural_style": ("transform_net", {"variant": "pytorch"}, (256, 256, 3)),
    **{f"johnson_sr_x{f}": ("super_resolution_net", {"factor": f}, (288 // f, 288 // f, 3)) for f in (4, 8)},
}


def kernels_and_pools(rows: list[summary.Row]) -> Counter:
    """Convolutions, fully connected layers, shrinking maximum pools; a convolution has its normalization's numbers."""
    found = []
    for row in rows:
        if row.operation in ("batch norm", "instance norm"):
            found[-1][-2] += row.params
        elif row.macs or (row.operation == "max pool" and row.strides != (1, 1)):
            kind = {"c": "conv", "f": "fc", "m": "maxpool", "t": "deconv"}[row.operation[0]]
            height, width = row.out_shape[:2] if len(row.out_shape) == 3 else (1, 1)
            in_channels = row.in_shape[-1] if kind != "fc" else math.prod(row.in_shape)
            kernel, stride = (row.kernel or (None,))[0], (row.strides or (None,))[0]
            if kind == "deconv":
                stride = Fraction(1, stride)
            found.append(
                [kind, kernel, stride, row.groups, in_channels, row.out_shape[-1], height, width, row.params, row.macs]
            )
    return Counter(tuple(line) for line in found)


def from_table(table: str) -> Counter:
    lines = []
    for row in paper_tables.rows(table):
        kind = "maxpool" if row.op.startswith("maxpool") else "fc" if row.op == "fc" else "conv"
        kind = "deconv" if row.op.startswith("deconv") else kind
        if "conv" in row.op or kind != "conv":
            lines.append(
                (
                    kind, row.kernel, row.stride, row.groups, row.in_channels, row.out_channels,
                    row.height, row.width, row.params, row.macs,
                )
            )  # fmt: skip
    return Counter(lines)


@pytest.mark.parametrize("table", NETWORKS)
def test_every_layer_is_the_papers(table):
    name, fields, image_shape = NETWORKS[table]
    network = models.create(name, **fields)
    rows = summary.count(network, image_shape)
    assert (sum(row.params for row in rows), sum(row.macs for row in rows)) == paper_tables.totals(table)
    params = models.shapes(network, image_shape)["params"]
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == paper_tables.totals(table)[0]
    ours, paper = kernels_and_pools(rows), from_table(table)
    assert (ours - paper, paper - ours) == (Counter(), Counter())


def test_every_table_has_its_network():
    assert {path.stem for path in paper_tables.TABLES.glob("*.md")} == set(NETWORKS)


@pytest.mark.parametrize(
    ("name", "variants", "the_same_layers"),
    [
        ("alexnet", alexnet.VARIANTS, {"caffe": "caffenet"}),
        ("vgg", vgg.VARIANTS, {}),
        ("nin", nin.VARIANTS, {}),
        ("googlenet", googlenet.VARIANTS, {}),
        ("transform_net", transform_net.VARIANTS, {}),
    ],
)
def test_no_variant_is_without_a_table(name, variants, the_same_layers):
    defaults = {field.name: field.default for field in models.MODELS[name].__dataclass_fields__.values()}
    with_a_table = {
        fields.get("variant", defaults["variant"]) for network, fields, _ in NETWORKS.values() if network == name
    }
    assert with_a_table | set(the_same_layers) == set(variants)
    for variant, twin in the_same_layers.items():
        one, other = (
            [
                (row.layer, row.params, row.macs)
                for row in summary.count(models.create(name, variant=v), IMAGENET)
                if row.macs
            ]
            for v in (variant, twin)
        )
        assert one == other
