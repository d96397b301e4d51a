"""Network in Network has the structure of the author's definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnn_research import models
from dnn_research.errors import UserError
from dnn_research.tools import summary

KEY = jax.random.key(0)

# Output sizes and channels of the convolutions and pools, as the tables have them.
CIFAR = {
    "conv1": (32, 192), "cccp1": (32, 160), "cccp2": (32, 96), "pool1": (16, 96),
    "conv2": (16, 192), "cccp3": (16, 192), "cccp4": (16, 192), "pool2": (8, 192),
    "conv3": (8, 192), "cccp5": (8, 192), "cccp6": (8, 10),
}  # fmt: skip
MNIST = {
    "conv1": (28, 96), "cccp1": (28, 64), "cccp2": (28, 48), "pool1": (14, 48),
    "conv2": (14, 128), "cccp3": (14, 96), "cccp4": (14, 48), "pool2": (7, 48),
    "conv3": (7, 128), "cccp5": (7, 96), "cccp6": (7, 10),
}  # fmt: skip
IMAGENET = {
    "conv1": (54, 96), "cccp1": (54, 96), "cccp2": (54, 96), "pool1": (27, 96),
    "conv2": (27, 256), "cccp3": (27, 256), "cccp4": (27, 256), "pool2": (13, 256),
    "conv3": (13, 384), "cccp5": (13, 384), "cccp6": (13, 384), "pool3": (6, 384),
    "conv4": (6, 1024), "cccp7": (6, 1024), "cccp8": (6, 10),
}  # fmt: skip


def small(image_shape=(16, 16, 3), **fields):
    """A narrow network with four classes, its variables, and images."""
    network = models.create("nin", **{"width_factor": 0.25, "weight_init": "modern", "num_classes": 4, **fields})
    return network, models.initialize(network, KEY, image_shape), jax.random.normal(KEY, (2, *image_shape))


def features(network, variables, images, **more):
    return jax.jit(lambda v, x: network.apply(v, x, method="features", **more))(variables, images)


def feature_shapes(network, image_shape):
    found = {}

    def run(variables, images):
        out = network.apply(variables, images, method="features")
        found.update({name: activation.shape[1:] for name, activation in out.items()})

    jax.eval_shape(run, models.shapes(network, image_shape), jax.ShapeDtypeStruct((1, *image_shape), jnp.float32))
    return found


@pytest.mark.parametrize(
    ("variant", "image_shape", "sizes"),
    [("cifar10", (32, 32, 3), CIFAR), ("mnist", (28, 28, 1), MNIST), ("imagenet", (224, 224, 3), IMAGENET)],
)
def test_output_sizes(variant, image_shape, sizes):
    out = feature_shapes(models.create("nin", variant=variant), image_shape)
    assert list(out) == [*sizes, "gap"]
    assert {name: out[name] for name in sizes} == {name: (size, size, n) for name, (size, n) in sizes.items()}
    assert out["gap"] == (10,)


@pytest.mark.parametrize("variant", ["cifar10", "imagenet"])
def test_without_the_1x1_layers_what_follows_a_block_is_unchanged(variant):
    size = 32 if variant == "cifar10" else 224
    sizes = CIFAR if variant == "cifar10" else IMAGENET
    out = feature_shapes(models.create("nin", variant=variant, mlpconv=False), (size, size, 3))
    assert list(out) == [name for name in (*sizes, "gap") if not name.startswith("cccp")]
    assert {name: out[name] for name in out if name.startswith("pool")} == {
        name: (n, n, channels) for name, (n, channels) in sizes.items() if name.startswith("pool")
    }
    last = list(sizes)[-1]
    assert out[max(name for name in out if name.startswith("conv"))] == (sizes[last][0], sizes[last][0], 10)


@pytest.mark.parametrize("mlpconv", [True, False])
def test_every_layer_is_rectified_and_the_logits_are_the_means_of_the_class_maps(mlpconv):
    network, variables, images = small(mlpconv=mlpconv)
    out = features(network, variables, images)
    for name in out:
        if name[:4] in ("conv", "cccp"):
            assert out[name].min() == 0 < out[name].max(), name
    class_maps = out["cccp6" if mlpconv else "conv3"]
    assert class_maps.shape == (2, 4, 4, 4)
    np.testing.assert_allclose(out["gap"], class_maps.mean((1, 2)), rtol=1e-5)


def test_pools_take_the_maximum_and_windows_that_hang_over_the_border_count():
    network, variables, images = small((15, 12, 3))
    out = features(network, variables, images, upto="pool2")
    for number, before in ((1, "cccp2"), (2, "cccp4")):
        maps = np.asarray(out[before])
        height, width = (-(-(n - 3) // 2) + 1 for n in maps.shape[1:3])
        expected = [
            [maps[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max((1, 2)) for j in range(width)] for i in range(height)
        ]
        np.testing.assert_array_equal(out[f"pool{number}"], np.moveaxis(np.array(expected), 2, 0))


@pytest.mark.parametrize(
    ("variant", "after"),
    [
        ("cifar10", ["pool1", "pool2"]),
        ("svhn", ["pool1", "pool2"]),
        ("mnist", ["pool1", "pool2"]),
        ("imagenet", ["pool3"]),
    ],
)
def test_dropout_follows_the_pools_of_the_definition(variant, after):
    rows = summary.count(models.create("nin", variant=variant), (32, 32, 3))
    at = [number for number, row in enumerate(rows) if row.operation == "dropout 0.5"]
    assert [rows[number - 1].layer for number in at] == after


def test_dropout_acts_in_training_alone_and_after_the_pool_that_is_reported():
    network, variables, images = small()

    @jax.jit
    def run(variables, key):
        train = network.apply(variables, images, method="features", train=True, rngs={"dropout": key})
        return train, network.apply(variables, images, method="features")

    train, evaluated = run(variables, KEY)
    np.testing.assert_array_equal(train["pool1"], evaluated["pool1"])
    for name in ("conv2", "conv3", "gap"):
        assert not np.allclose(train[name], evaluated[name]), name


def test_fully_connected_head_sees_every_pixel_of_the_class_maps():
    network, variables, images = small(head="fc", dropout_rate=0.0, fc_dropout_rate=0.5)
    params = variables["params"]
    assert params["fc"]["kernel"].shape == (4 * 4 * 4, 4)

    @jax.jit
    def run(variables, key):
        train = network.apply(variables, images, method="features", train=True, rngs={"dropout": key})
        return train, network.apply(variables, images, method="features")

    train, out = run(variables, KEY)
    assert list(network.names)[-2:] == ["cccp6", "fc"]
    expected = out["cccp6"].reshape(2, -1) @ params["fc"]["kernel"] + params["fc"]["bias"].reshape(1, -1)
    np.testing.assert_allclose(out["fc"], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(train["cccp6"], out["cccp6"])
    assert not np.allclose(train["fc"], out["fc"])


def test_the_width_factor_leaves_the_class_maps():
    params = models.shapes(models.create("nin", width_factor=0.5, num_classes=7), (32, 32, 3))["params"]
    assert params["conv1"]["kernel"].shape == (5, 5, 3, 96)
    assert params["cccp5"]["kernel"].shape == (1, 1, 96, 96)
    assert params["cccp6"]["kernel"].shape == (1, 1, 96, 7)


@pytest.mark.parametrize(
    ("variant", "others"),
    [
        ("cifar10", {}),
        ("cifar100", {"conv1": 0.001, "cccp1": 0.01, "cccp2": 0.01}),
        ("svhn", {}),
        ("mnist", {}),
        ("imagenet", {"conv1": 0.01, "conv3": 0.01, "cccp8": 0.01}),
    ],
)
def test_initial_weights_are_the_authors(variant, others):
    network = models.create("nin", variant=variant, width_factor=0.25, num_classes=40)
    params = models.initialize(network, KEY, (32, 32, 3))["params"]
    for name, layer in params.items():
        assert np.std(layer["kernel"]) == pytest.approx(others.get(name, 0.05), rel=0.1), name
        assert not np.any(layer["bias"]), name


def test_modern_initial_weights_are_hes():
    params = small()[1]["params"]
    assert np.std(params["conv2"]["kernel"]) == pytest.approx((2 / (25 * 24)) ** 0.5, rel=0.05)
    assert not np.any(params["conv2"]["bias"])


@pytest.mark.parametrize(("variant", "size"), [("cifar10", 2), ("svhn", 2), ("mnist", 2), ("imagenet", 11)])
def test_takes_images_down_to_the_size_it_states(variant, size):
    network = models.create("nin", variant=variant)
    assert feature_shapes(network, (size, size, 3))["gap"] == (10,)
    with pytest.raises(UserError, match=f"at least {size}x{size}"):
        models.shapes(network, (size - 1, size, 3))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"variant": "cifar"}, "variant is 'cifar'; it can be cifar10, cifar100, svhn, mnist, imagenet"),
        ({"head": "pool"}, "head is 'pool'; it can be gap, fc"),
        ({"weight_init": "he"}, "weight_init is 'he'; it can be paper, modern"),
        ({"width_factor": 0.0}, "width_factor must be positive, not 0.0"),
        ({"fc_dropout_rate": 0.5}, "fc_dropout_rate is of the head 'fc'"),
    ],
)
def test_wrong_fields_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        models.create("nin", **fields)
