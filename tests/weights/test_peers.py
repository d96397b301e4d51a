"""The same weights give the same logits here as in torchvision, timm and Keras.

What the peers compute was recorded once (`peers/record.py`, `peers/recorded.json`) for weights and images that anyone
can make again (`pattern.py`), so that none of them is needed here.
"""

import json
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnn_research import models
from dnn_research.weights import conventions
from tests.weights import pattern

PEERS = Path(__file__).parent / "peers"
RECORDED = json.loads((PEERS / "recorded.json").read_text())["networks"]

VGG = {"image_size": 224}
RESNET = {"residual": True, "shortcut": "B"}

# Recording -> lineage, our network, the fields that the weights call for.
NETWORKS = {
    "torchvision_alexnet": ("torchvision", "alexnet", {"variant": "torchvision", "stem": "imagenet"}),
    **{
        f"torchvision_vgg{depth}{'_bn' if bn else ''}": ("torchvision", "vgg", {"variant": v, "batch_norm": bn, **VGG})
        for depth, v in ((11, "A"), (13, "B"), (16, "D"), (19, "E"))
        for bn in (False, True)
    },
    "torchvision_googlenet": ("torchvision", "googlenet", {"variant": "torchvision", "aux_heads": True}),
    "torchvision_googlenet_training": ("torchvision", "googlenet", {"variant": "torchvision", "aux_heads": True}),
    **{
        f"{lineage}_resnet{depth}": (lineage, "resnet", {"depth": depth, "stride_in": "3x3", **RESNET})
        for lineage in ("torchvision", "timm")
        for depth in (18, 34, 50, 101, 152)
    },
    "timm_mobilenetv1_100": ("timm", "mobilenet", {"lineage": "torch", "activation": "relu6", "width": 1.0}),
    **{
        f"keras_VGG{depth}": ("keras", "vgg", {"variant": v, "batch_norm": False, **VGG})
        for depth, v in ((16, "D"), (19, "E"))
    },
    **{
        f"keras_ResNet{depth}": ("keras", "resnet", {"depth": depth, "stride_in": "1x1", **RESNET})
        for depth in (50, 101, 152)
    },
    **{
        f"keras_MobileNet_{width}": ("keras", "mobilenet", {"lineage": "keras", "activation": "relu6", "width": width})
        for width in (0.25, 0.5, 0.75, 1.0)
    },
}
QUICK = {
    "torchvision_googlenet",
    "torchvision_googlenet_training",
    "torchvision_resnet18",
    "torchvision_resnet50",
    "timm_mobilenetv1_100",
    "keras_ResNet50",
    "keras_MobileNet_0.25",
    "keras_MobileNet_1.0",
}


def shapes_of(network):
    tree = models.shapes(network, (224, 224, 3))
    return {"/".join(k.key for k in path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def test_every_recording_is_compared():
    assert set(NETWORKS) == set(RECORDED)
    assert set(NETWORKS) >= QUICK


@pytest.mark.parametrize(
    "recording", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS]
)
def test_same_logits(recording):
    lineage, name, fields = NETWORKS[recording]
    training = recording.endswith("training")
    no_dropout = {"dropout_rate": 0.0, "aux_dropout_rate": 0.0} if training else {}
    network = models.create(name, **fields, **no_dropout)
    convention = conventions.convention(lineage, name)
    all_fields = {field: getattr(network, field) for field in network.__dataclass_fields__}
    shapes = shapes_of(network)
    fill = pattern.keras_tensor if lineage == "keras" else pattern.torch_tensor
    variance = 4.0 if name == "resnet" else 1.0
    theirs = {
        key: fill(key, shape, variance) for key, shape in conventions.layout(convention, all_fields, shapes).items()
    }
    assert sum(array.size for array in theirs.values()) + _tracked(lineage, theirs) == RECORDED[recording]["numbers"]
    found = convention.fields(theirs)
    assert {key: found[key] for key in fields if key in found} == {key: fields[key] for key in fields if key in found}

    variables: dict = {}
    for path, array in conventions.to_ours(convention, all_fields, theirs, shapes).items():
        *parents, leaf = path.split("/")
        node = variables
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = jnp.asarray(array)
    images = pattern.images(2, 224)
    # A network that was trained on BGR was shown the first channel as blue; ours is turned around.
    images = jnp.asarray(images[..., ::-1] if convention.channels == "bgr" else images)
    if training:
        run = jax.jit(
            lambda v: network.apply(v, images, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)})
        )
        logits = np.stack(run(variables)[0])
    else:
        logits = np.asarray(jax.jit(lambda v: network.apply(v, images))(variables))[None]
    expected = np.load(PEERS / f"{recording}.npy")
    assert logits.shape == expected.shape
    for ours, peer in zip(logits, expected, strict=True):
        assert np.abs(ours - peer).max() < 1e-4 * np.abs(peer).max()


def _tracked(lineage, theirs):
    """torch counts batches, one number a normalization, which is no weight."""
    return sum(name.endswith("running_mean") for name in theirs) if lineage != "keras" else 0


def test_the_pattern_is_what_it_was_when_the_peers_were_recorded():
    weights = pattern.torch_tensor("layer1.0.conv1.weight", (64, 64, 3, 3))
    assert zlib.crc32(weights.tobytes()) == 1687537357
    assert zlib.crc32(pattern.images(2, 224).tobytes()) == 2200531485
