"""Every registered network: its exact size, the fields that all share, and what is said about a wrong one."""

import inspect
import math
from typing import Any

import jax
import pytest

from dnn_research import models
from dnn_research.errors import UserError
from tests.models import test_paper_tables

IMAGENET = (224, 224, 3)
CIFAR = (32, 32, 3)


def resnet(params, *image_shape, **kwargs):
    return "resnet", kwargs, image_shape or IMAGENET, params


def cifar(params, **kwargs):
    return "resnet_cifar", kwargs, CIFAR, params


# Trainable parameters beside those that test_paper_tables.py counts layer by layer. ResNet: He et al. 2016
# (Tables 1 and 6 to the digits given), torchvision and pytorchcv exactly;
# LeNet-5: 60,000 as in the paper, and the softmax's 850.
PARAMS = [
    ("lenet", {}, (32, 32, 1), 60_850),
    resnet(11_515_688, depth=18, residual=False),
    resnet(21_623_848, depth=34, residual=False),
    resnet(11_515_688, depth=18, shortcut="A"),
    resnet(11_689_512, depth=18, shortcut="B"),
    resnet(12_043_816, depth=18, shortcut="C"),
    resnet(21_623_848, depth=34, shortcut="A"),
    resnet(21_797_672, depth=34, shortcut="B"),
    resnet(22_716_840, depth=34, shortcut="C"),
    resnet(25_557_032, depth=50),
    resnet(25_557_032, depth=50, stride_in="3x3"),
    resnet(44_549_160, depth=101),
    resnet(60_192_808, depth=152),
    resnet(60_192_808, depth=152, stride_in="3x3"),
    resnet(60_192_808, 32, 32, 3, depth=152),
    cifar(269_722, depth=20),
    cifar(464_154, depth=32),
    cifar(658_586, depth=44),
    cifar(853_018, depth=56),
    cifar(1_727_962, depth=110),
    cifar(19_421_274, depth=1202),
    cifar(272_474, depth=20, shortcut="B"),
    cifar(855_770, depth=56, shortcut="B"),
    cifar(1_730_714, depth=110, shortcut="B"),
    pytest.param(*cifar(19_424_026, depth=1202, shortcut="B"), marks=pytest.mark.slow),
    cifar(269_722, depth=20, residual=False),
    cifar(853_018, depth=56, residual=False),
    cifar(1_727_962, depth=110, residual=False),
]


@pytest.mark.parametrize(("name", "kwargs", "image_shape", "params"), PARAMS)
def test_exact_number_of_parameters(name, kwargs, image_shape, params):
    shapes = models.shapes(models.create(name, **kwargs), image_shape)["params"]
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)) == params


def test_no_network_is_missing_from_the_tables():
    rows = [*(getattr(row, "values", row) for row in PARAMS), *test_paper_tables.NETWORKS.values()]
    assert {name for name, *_ in rows} == set(models.MODELS)


@pytest.mark.parametrize("name", models.MODELS)
def test_shares_the_common_interface(name):
    network: Any = models.MODELS[name]
    fields = set(inspect.signature(network).parameters)
    assert fields >= {"dtype", "batch_norm_axis"} and ("num_classes" in fields) == (name not in models.IMAGE_NETWORKS)
    assert inspect.signature(network.__call__).parameters["train"].default is False
    assert set(inspect.signature(network.features).parameters) >= {"images", "train", "upto"}


def test_unknown_network():
    with pytest.raises(
        UserError, match=r"unknown network 'resnets'; did you mean 'resnet'\?; known: lenet, alexnet, vgg"
    ):
        models.create("resnets")


def test_unknown_field():
    with pytest.raises(UserError, match=r"resnet has no field 'dept'; did you mean 'depth'\?; it has depth, residual"):
        models.create("resnet", dept=50)
    with pytest.raises(UserError, match="no field 'parent'"):
        models.create("resnet", parent="x")


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        ("vgg", {"variant": 3}, "config.model.variant cannot be 3: it takes str"),
        ("resnet", {"depth": "50"}, "config.model.depth cannot be '50': it takes int"),
        ("alexnet", {"dropout_rate": "half"}, "config.model.dropout_rate cannot be 'half': it takes float"),
        ("mobilenet", {"separable": 1}, "config.model.separable cannot be 1: it takes bool"),
    ],
)
def test_value_of_another_type(name, fields, said):
    with pytest.raises(UserError, match=said):
        models.create(name, **fields)


def test_a_whole_number_is_a_number():
    assert models.create("alexnet", dropout_rate=0).dropout_rate == 0


def test_a_field_set_to_none_is_not_given():
    assert models.create("resnet_cifar", depth=20, stride_in=None, shortcut=None) == models.create(
        "resnet_cifar", depth=20
    )
