"""MobileNet has the structure of table 1, whatever lineage its padding and normalization are of."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnn_research import models
from dnn_research.errors import UserError
from dnn_research.tools import summary

KEY = jax.random.key(0)

# Table 1: output size and channels of conv0 and of each pair (or of the convolution in its place).
SIZES = [
    (112, 32), (112, 64), (56, 128), (56, 128), (28, 256), (28, 256), (14, 512),
    (14, 512), (14, 512), (14, 512), (14, 512), (14, 512), (7, 1024), (7, 1024),
]  # fmt: skip


def small(image_shape=(32, 32, 3), **fields):
    """A narrow network with four classes, its variables, and images."""
    network = models.create("mobilenet", **{"width": 0.25, "num_classes": 4, **fields})
    return network, models.initialize(network, KEY, image_shape), jax.random.normal(KEY, (2, *image_shape))


def feature_shapes(network, image_shape):
    found = {}

    def run(variables, images):
        out = network.apply(variables, images, method="features")
        found.update({name: activation.shape[1:] for name, activation in out.items()})

    jax.eval_shape(run, models.shapes(network, image_shape), jax.ShapeDtypeStruct((1, *image_shape), jnp.float32))
    return found


@pytest.mark.parametrize("separable", [True, False])
@pytest.mark.parametrize("shallow", [False, True])
def test_output_sizes_of_table_one(separable, shallow):
    out = feature_shapes(models.create("mobilenet", separable=separable, shallow=shallow), (224, 224, 3))
    sizes = SIZES[:7] + SIZES[12:] if shallow else SIZES
    names = ["conv0"]
    for pair, (size, channels) in enumerate(sizes[1:], 1):
        names += [f"dw{pair}", f"pw{pair}"] if separable else [f"conv{pair}"]
        assert out[names[-1]] == (size, size, channels)
        if separable:
            assert out[f"dw{pair}"] == (size, size, sizes[pair - 1][1])
    assert list(out) == [*names, "pool", "fc"]
    assert (out["conv0"], out["pool"], out["fc"]) == ((112, 112, 32), (1024,), (1000,))


@pytest.mark.parametrize("lineage", ["paper", "keras", "torch"])
def test_small_images_end_as_four_by_four_with_the_cifar_stem(lineage):
    for shallow in (False, True):
        out = feature_shapes(models.create("mobilenet", lineage=lineage, stem="cifar", shallow=shallow), (32, 32, 3))
        assert out["conv0"] == (32, 32, 32)
        assert out["pw2"] == (32, 32, 128)
        assert list(out.values())[-3] == (4, 4, 1024)


def test_depthwise_filters_see_one_map_each():
    network, variables, images = small()
    params = variables["params"]
    kernels = {name: params[name]["kernel"].shape for name in (f"dw{number}" for number in range(1, 14))}
    assert {shape[:3] for shape in kernels.values()} == {(3, 3, 1)}
    assert [kernels[f"dw{number}"][-1] for number in (1, 2, 13)] == [8, 16, 256]
    assert [row.groups for row in summary.count(network, (32, 32, 3)) if row.layer == "dw2"] == [16]

    def means(offset):
        # The offset of pw1's normalization moves one map of dw2's input.
        moved = {**params, "pw1_bn": {**params["pw1_bn"], "bias": offset}}
        out = network.apply({**variables, "params": moved}, images, method="features", upto="dw2")
        return out["dw2"].sum((0, 1, 2))

    jacobian = np.asarray(jax.jit(jax.jacobian(means))(jnp.full((16,), 3.0)))
    assert np.array_equal(jacobian, np.diag(np.diag(jacobian)))
    assert np.any(np.diag(jacobian))


def test_every_convolution_has_normalization_instead_of_a_bias():
    rows = summary.count(models.create("mobilenet"), (224, 224, 3))
    names = [row.layer for row in rows]
    convolutions = [row.layer for row in rows if row.operation == "conv"]
    # "28 layers": these and the fully connected one.
    assert len(convolutions) == 27
    for name in convolutions:
        assert names[names.index(name) + 1] == f"{name}_bn"
    params = models.shapes(models.create("mobilenet"), (224, 224, 3))["params"]
    assert {name for name, layer in params.items() if "bias" in layer and not name.endswith("_bn")} == {"fc"}


def test_most_multiply_adds_are_those_of_pointwise_convolutions():
    # Table 2; it prints 1.19 for conv0, with which its column does not add up to 100.
    rows = summary.count(models.create("mobilenet"), (224, 224, 3))
    share = {
        kind: sum(row.macs for row in rows if row.layer.startswith(kind)) / sum(row.macs for row in rows)
        for kind in ("pw", "dw", "conv0", "fc")
    }
    assert {kind: round(100 * part, 2) for kind, part in share.items()} == {
        "pw": 94.86, "dw": 3.06, "conv0": 1.91, "fc": 0.18,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("lineage", "seen", "epsilon", "decay"),
    [
        ("paper", [0, 1, 2], 1e-3, 0.9997),
        ("keras", [0, 1, 2], 1e-3, 0.99),
        ("torch", [0, 1], 1e-5, 0.9),
    ],
)
def test_lineages_differ_in_padding_and_normalization(lineage, seen, epsilon, decay):
    network, variables, images = small(lineage=lineage)

    @jax.jit
    def run(variables, images):
        def conv0(variables, images, **more):
            return network.apply(variables, images, method="features", upto="conv0", **more)

        corner = jax.grad(lambda x: conv0(variables, x)["conv0"][:, 0, 0].sum())(images)
        without_variance = jax.tree.map(lambda leaf: leaf, variables)
        without_variance["batch_stats"]["conv0_bn"]["var"] = jnp.zeros(8)
        new = conv0(variables, images, train=True, mutable=["batch_stats"])[1]
        return corner, conv0(variables, images)["conv0"], conv0(without_variance, images)["conv0"], new

    corner, out, amplified, new = run(variables, images)
    # Which rows and columns of the image the first output sees: padding above and to the left hides one of three.
    assert [int(row) for row in np.flatnonzero(np.abs(corner).sum((0, 2, 3)))] == seen
    assert [int(column) for column in np.flatnonzero(np.abs(corner).sum((0, 1, 3)))] == seen
    np.testing.assert_allclose(amplified, out * ((1 + epsilon) / epsilon) ** 0.5, rtol=1e-4)
    # Running variance starts at 1: after one step 1 - decay of it is the batch's.
    kernel = variables["params"]["conv0"]["kernel"]
    padding = ((1, 1), (1, 1)) if lineage == "torch" else ((0, 1), (0, 1))
    raw = jax.lax.conv_general_dilated(images, kernel, (2, 2), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    np.testing.assert_allclose(
        new["batch_stats"]["conv0_bn"]["mean"], (1 - decay) * raw.mean((0, 1, 2)), rtol=1e-3, atol=1e-7
    )
    np.testing.assert_allclose(
        new["batch_stats"]["conv0_bn"]["var"], decay + (1 - decay) * raw.var((0, 1, 2)), rtol=1e-5
    )


@pytest.mark.parametrize(("lineage", "size"), [("paper", 5), ("torch", 5), ("keras", 4)])
def test_odd_maps_are_padded_as_tensorflow_does_by_itself(lineage, size):
    """144 pixels have 9x9 maps before dw12: 'SAME' pads them on all sides, which Keras' own padding does not."""
    network = models.create("mobilenet", lineage=lineage)
    assert feature_shapes(network, (144, 144, 3))["pw12"] == (size, size, 1024)


@pytest.mark.parametrize(("activation", "cut"), [("relu", False), ("relu6", True)])
def test_activation(activation, cut):
    network, variables, images = small(activation=activation)
    out = jax.jit(lambda v, x: network.apply(v, x, method="features", upto="pw2"))(variables, 1e4 * images)
    for name, activation_map in out.items():
        assert activation_map.min() == 0, name
        assert (activation_map.max() <= 6) == cut, name
    assert not cut or out["conv0"].max() == 6


def test_dropout_stands_before_the_fully_connected_layer_alone():
    network, variables, images = small(dropout_rate=0.5)
    rows = [row.layer for row in summary.count(network, (32, 32, 3))]
    assert rows[-3:] == ["pool", "dropout", "fc"]

    @jax.jit
    def run(key):
        return network.apply(
            variables, images, method="features", train=True, rngs={"dropout": key}, mutable=["batch_stats"]
        )[0]

    one, other = run(jax.random.key(1)), run(jax.random.key(2))
    np.testing.assert_array_equal(one["pool"], other["pool"])
    assert not np.allclose(one["fc"], other["fc"])


def test_training_normalizes_by_the_batch_and_evaluation_by_the_running_statistics():
    network, variables, images = small(lineage="torch")

    @jax.jit
    def run(variables):
        features = functools.partial(network.apply, variables, 3 * images + 1, method="features", upto="dw1")
        return features(train=True, mutable=["batch_stats"])[0], features()

    train, evaluated = run(variables)
    assert not np.allclose(train["conv0"], evaluated["conv0"])


@pytest.mark.parametrize("shared", [True, False])
def test_batch_statistics_are_shared_over_the_axis(shared):
    network, variables, _ = small(batch_norm_axis="devices" if shared else None)
    images = jax.random.normal(KEY, (2, 2, 32, 32, 3)) * jnp.array([1.0, 5.0]).reshape(2, 1, 1, 1, 1)

    def device(images):
        return network.apply(variables, images, method="features", train=True, upto="dw1", mutable=["batch_stats"])[1][
            "batch_stats"
        ]["conv0_bn"]["var"]

    first, second = jax.jit(jax.vmap(device, axis_name="devices"))(images)
    assert np.allclose(first, second, rtol=1e-6) == shared


@pytest.mark.parametrize(
    ("width", "conv0", "pw1", "pw13"), [(1.0, 32, 64, 1024), (0.75, 24, 48, 768), (0.3, 9, 19, 307), (0.1, 8, 8, 102)]
)
def test_the_width_multiplier_cuts_off_and_keeps_eight(width, conv0, pw1, pw13):
    params = models.shapes(models.create("mobilenet", width=width), (64, 64, 3))["params"]
    assert [params[name]["kernel"].shape[-1] for name in ("conv0", "pw1", "pw13")] == [conv0, pw1, pw13]
    assert params["fc"]["kernel"].shape == (pw13, 1000)


def test_initial_weights_are_tf_slims():
    params = small(width=0.5)[1]["params"]
    for name in ("conv0", "pw5", "dw13", "fc"):
        kernel = params[name]["kernel"]
        assert 0.15 < np.abs(kernel).max() <= 0.18
        # Cut off at two standard deviations, a normal distribution keeps 0.88 of its standard deviation.
        assert np.std(kernel) == pytest.approx(0.88 * 0.09, rel=0.1)
    assert not np.any(params["fc"]["bias"])


def test_modern_initial_weights_are_hes():
    params = small(weight_init="modern", width=0.5)[1]["params"]
    assert np.std(params["dw13"]["kernel"]) == pytest.approx((2 / 9) ** 0.5, rel=0.05)
    assert np.std(params["pw5"]["kernel"]) == pytest.approx((2 / 128) ** 0.5, rel=0.05)


@pytest.mark.parametrize(("stem", "size"), [("imagenet", 32), ("cifar", 8)])
def test_takes_images_down_to_the_size_it_states(stem, size):
    network = models.create("mobilenet", stem=stem)
    assert feature_shapes(network, (size, size, 3))["fc"] == (1000,)
    with pytest.raises(UserError, match=f"at least {size}x{size}"):
        models.shapes(network, (size - 1, size, 3))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lineage": "tf"}, "lineage is 'tf'; it can be paper, keras, torch"),
        ({"activation": "tanh"}, "activation is 'tanh'; it can be relu, relu6"),
        ({"stem": "mnist"}, "stem is 'mnist'; it can be imagenet, cifar"),
        ({"weight_init": "he"}, "weight_init is 'he'; it can be paper, modern"),
        ({"dropout_rate": 1.5}, "dropout_rate must be 0 or more and less than 1, not 1.5"),
        ({"width": 0.0}, "width must be positive, not 0.0"),
        ({"width_factor": 0.5}, "mobilenet has no field 'width_factor'"),
    ],
)
def test_wrong_fields_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        models.create("mobilenet", **fields)
