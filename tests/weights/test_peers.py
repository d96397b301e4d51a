"""The same weights give the same logits here as in torchvision, timm and Keras, and layers are torch's.

What the peers compute was recorded once (`peers/record.py`, `peers/recorded.json`, `peers/layers.py`) for weights and
images that anyone can make again (`pattern.py`), so that none of them is needed here. `test_live_peers.py` asks the
peers themselves.
"""

import json
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnn_research import models
from dnn_research.models.layers import Conv, LocalResponseNorm, ceil_padding, max_pool
from dnn_research.weights import conventions
from tests.weights import pattern
from tests.weights.networks import NETWORKS, QUICK
from tests.weights.peers import layers

PEERS = Path(__file__).parent / "peers"
RECORDED = json.loads((PEERS / "recorded.json").read_text())["networks"]


def shapes_of(network):
    tree = models.shapes(network, (224, 224, 3))
    return {"/".join(k.key for k in path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def outputs(network, variables, channels, *, training):
    """What a network of ours puts out for the pattern's images: [outputs, 2, classes], as `record.logits` has it."""
    images = pattern.images(2, 224)
    # A network that was trained on BGR was shown the first channel as blue; ours is turned around.
    images = jnp.asarray(images[..., ::-1] if channels == "bgr" else images)
    if not training:
        return np.asarray(jax.jit(lambda v: network.apply(v, images))(variables))[None]
    run = jax.jit(
        lambda v: network.apply(v, images, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)})
    )
    return np.stack(run(variables)[0])


def worst_difference(ours, theirs):
    """The largest difference of any of the outputs [outputs, 2, classes], relative to its peer's largest logit."""
    return float((np.abs(ours - theirs).max((1, 2)) / np.abs(theirs).max((1, 2))).max())


def test_every_recording_is_compared():
    assert set(NETWORKS) == set(RECORDED)
    assert set(NETWORKS) >= QUICK


@pytest.mark.parametrize(
    "recording", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS]
)
def test_same_logits(recording):
    peer = NETWORKS[recording]
    fields = peer.fields
    no_dropout = {"dropout_rate": 0.0, "aux_dropout_rate": 0.0} if peer.training else {}
    network = models.create(peer.ours, **fields, **no_dropout)
    convention = conventions.convention(peer.lineage, peer.ours)
    all_fields = {field: getattr(network, field) for field in network.__dataclass_fields__}
    shapes = shapes_of(network)
    fill = pattern.keras_tensor if peer.lineage == "keras" else pattern.torch_tensor
    theirs = {
        key: fill(key, shape, peer.variance)
        for key, shape in conventions.layout(convention, all_fields, shapes).items()
    }
    numbers = sum(array.size for array in theirs.values()) + _tracked(peer.lineage, theirs)
    assert numbers == RECORDED[recording]["numbers"]
    found = convention.fields(theirs)
    assert {key: found[key] for key in fields if key in found} == {key: fields[key] for key in fields if key in found}

    variables: dict = {}
    for path, array in conventions.to_ours(convention, all_fields, theirs, shapes).items():
        *parents, leaf = path.split("/")
        node = variables
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = jnp.asarray(array)
    logits = outputs(network, variables, convention.channels, training=peer.training)
    expected = np.load(PEERS / f"{recording}.npy")
    assert logits.shape == expected.shape
    assert worst_difference(logits, expected) < 1e-4


def _tracked(lineage, theirs):
    """torch counts batches, one number a normalization, which is no weight."""
    return sum(name.endswith("running_mean") for name in theirs) if lineage != "keras" else 0


def test_the_pattern_is_what_it_was_when_the_peers_were_recorded():
    weights = pattern.torch_tensor("layer1.0.conv1.weight", (64, 64, 3, 3))
    assert zlib.crc32(weights.tobytes()) == 1687537357
    assert zlib.crc32(pattern.images(2, 224).tobytes()) == 2200531485


def layer_output(name):
    """A layer of `layers.LAYERS` as our networks have it."""
    layer = layers.LAYERS[name]
    x = jnp.asarray(layers.images(name))
    if isinstance(layer, layers.Norm):
        return LocalResponseNorm(layer.size, layer.k, layer.alpha, layer.beta, mean=True).apply({}, x)
    if isinstance(layer, layers.Pool):
        window, strides = (layer.window, layer.window), (layer.stride, layer.stride)
        padding = ceil_padding(x, window, strides, layer.padding)
        return max_pool(x, window_shape=window, strides=strides, padding=padding, name=name)
    kernel = conventions.CONV.ours(pattern.torch_tensor(f"{name}/weight", layer.kernel_shape))
    bias = pattern.torch_tensor(f"{name}/bias", (layer.features,))
    params = {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}
    size, around = (layer.kernel, layer.kernel), (layer.padding, layer.padding)
    conv = Conv(layer.features, size, (layer.stride, layer.stride), (around, around), layer.groups)
    return conv.apply({"params": params}, x)


def assert_is_torchs(name, expected):
    ours = layer_output(name)
    assert ours.shape == expected.shape
    if isinstance(layers.LAYERS[name], layers.Pool):
        np.testing.assert_array_equal(ours, expected)
    else:
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", layers.LAYERS)
def test_layers_are_torchs(name):
    with np.load(layers.RECORDED) as recorded:
        assert set(recorded) == set(layers.LAYERS)
        assert_is_torchs(name, recorded[name])
