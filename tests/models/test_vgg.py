"""VGG has the structure of table 1, and its dense form is the same network at every position."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnn_research import models
from dnn_research.errors import UserError
from dnn_research.models.initialization import Constant, GlorotUniform, HeNormalFanOut, Normal, trace
from dnn_research.tools import summary

KEY = jax.random.key(0)
IMAGENET = (224, 224, 3)
DENSE = {"fully_convolutional": True}

# Compiling takes longer than running these networks.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def small(image_shape=(32, 32, 3), **fields):
    """A narrow network with seven classes, its variables, none of them constant, and images."""
    network = models.create("vgg", **{"variant": "A", "width_factor": 0.0625, "num_classes": 7, **fields})
    random = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key == "kernel":
            return jnp.asarray(random.normal(0, math.sqrt(2 / math.prod(leaf.shape[:-1])), leaf.shape), leaf.dtype)
        around = {"scale": 1.0, "var": 1.0}.get(path[-1].key, 0.0)
        return jnp.asarray(around + random.uniform(-0.5, 0.5, leaf.shape), leaf.dtype)

    variables = jax.tree_util.tree_map_with_path(draw, models.shapes(network, image_shape))
    return network, variables, jnp.asarray(random.normal(size=(2, *image_shape)), jnp.float32)


def features(network, variables, images, **more):
    """Activations by name, in the network's order (JAX sorts the keys of what it returns)."""
    names = []

    def run(variables, images):
        out = network.apply(variables, images, method="features", **more)
        names.extend(out)
        return list(out.values())

    values = jit(run)(variables, images)
    return dict(zip(names, map(np.asarray, values), strict=True))


def feature_shapes(image_shape, *, upto=None, **fields):
    """Shapes by name, of a network whose fc6 fits 224 pixels unless told."""
    network, found = models.create("vgg", **fields), {}

    def run(variables, images):
        for name, activation in network.apply(variables, images, method="features", upto=upto).items():
            found[name] = activation.shape[1:]

    size = fields.get("image_size", 224)
    jax.eval_shape(
        run, models.shapes(network, (size, size, 3)), jax.ShapeDtypeStruct((1, *image_shape, 3), jnp.float32)
    )
    return found


def leaves(**fields):
    return trace(models.create("vgg", **fields), IMAGENET).leaves


def kernels(**fields):
    """Layer -> shape of its kernel, in the network's order."""
    return {leaf.path[1]: leaf.shape for leaf in leaves(**fields) if leaf.path[-1] == "kernel"}


def rows(**fields):
    return {row.layer: row for row in summary.count(models.create("vgg", **fields), IMAGENET)}


# ------------------------------------------------------------------------------------------------------------- table 1


def test_output_sizes_of_table_one():
    expected = {}
    for block, (layers, channels) in enumerate(((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)), 1):
        size = 224 // 2 ** (block - 1)
        expected |= {f"relu{block}_{number}": (size, size, channels) for number in range(1, layers + 1)}
        expected[f"pool{block}"] = (size // 2, size // 2, channels)
    expected |= {"fc6": (4096,), "fc7": (4096,), "fc8": (1000,)}
    found = feature_shapes((224, 224))
    assert found == expected
    assert list(found) == list(expected)


def test_c_is_d_with_1x1_for_the_last_3x3_of_a_block():
    c, d = kernels(variant="C"), kernels(variant="D")
    assert list(c) == list(d)
    ones = ("conv3_3", "conv4_3", "conv5_3")
    assert c == {name: (1, 1, *shape[2:]) if name in ones else shape for name, shape in d.items()}
    assert {d[name][:2] for name in ones} == {(3, 3)}


def test_e_is_d_with_a_layer_more_in_each_of_the_last_three_blocks():
    d, e = kernels(variant="D"), kernels(variant="E")
    added = {"conv3_4": (3, 3, 256, 256), "conv4_4": (3, 3, 512, 512), "conv5_4": (3, 3, 512, 512)}
    assert e == d | added
    assert [name for name in e if name not in added] == list(d)
    for name in added:
        assert list(e)[list(e).index(name) - 1] == name[:-1] + "3"


def test_b_is_a_with_a_layer_more_in_each_of_the_first_two_blocks():
    assert kernels(variant="B") == kernels(variant="A") | {"conv1_2": (3, 3, 64, 64), "conv2_2": (3, 3, 128, 128)}


def test_normalization_of_responses_adds_a_layer_after_the_first_and_no_parameters():
    assert leaves(variant="A-LRN") == leaves(variant="A")
    plain, normalized = list(rows(variant="A")), list(rows(variant="A-LRN"))
    assert normalized == [plain[0], "norm1", *plain[1:]]


def test_two_3x3_see_what_one_5x5_sees_and_1x1_see_no_more():
    def fields(variant):
        return [row.receptive_field for name, row in rows(variant=variant).items() if name.startswith("pool")]

    # A block of two 3x3 widens by 4 pixels of its input, its pool by 1.
    assert fields("B") == fields("B-5x5") == fields("C") == [(n, n) for n in (6, 16, 36, 76, 156)]
    assert fields("D")[:2] == fields("B")[:2]
    assert all(d > b for d, b in zip(fields("D")[2:], fields("B")[2:], strict=True))


@pytest.mark.parametrize("variant", ["A", "D"])
def test_the_width_factor_is_of_every_layer(variant):
    wide, half = kernels(variant=variant), kernels(variant=variant, width_factor=0.5)
    assert list(wide) == list(half)
    for name, (*window, inputs, outputs) in wide.items():
        expected = (*window, 3 if name == "conv1_1" else inputs // 2, 1000 if name == "fc8" else outputs // 2)
        assert half[name] == expected, name
    assert {shape[-1] for shape in kernels(variant=variant, width_factor=1e-4, num_classes=1).values()} == {1}


# ---------------------------------------------------------------------------------------------- what the layers compute


def reference(variables, images, names):
    """Every activation, from convolutions with zeros around that keep the size."""
    params, out, x = variables["params"], {}, images

    def row(vector):
        return vector.reshape(1, -1)

    for name in names:
        layer = params.get(name.replace("relu", "conv"))
        if name.startswith("relu"):
            x = jax.lax.conv_general_dilated(
                x, layer["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            shape, x = x.shape, x.reshape(-1, x.shape[-1]) + row(layer["bias"])
            if name.replace("relu", "bn") in params:
                learned = params[name.replace("relu", "bn")]
                running = variables["batch_stats"][name.replace("relu", "bn")]
                x = (x - row(running["mean"])) / jnp.sqrt(row(running["var"]) + 1e-5)
                x = x * row(learned["scale"]) + row(learned["bias"])
            x = jnp.maximum(x, 0).reshape(shape)
        elif name == "norm1":
            # The constants are AlexNet's.
            squares = jnp.pad(jnp.square(x), ((0, 0), (0, 0), (0, 0), (2, 2)))
            sums = sum(squares[..., shift : shift + x.shape[-1]] for shift in range(5))
            x = x / (2 + 1e-4 * sums) ** 0.75
        elif name.startswith("pool"):
            batch, height, width, channels = x.shape
            x = x.reshape(batch, height // 2, 2, width // 2, 2, channels).max((2, 4))
        else:
            x = x.reshape(len(x), -1) @ layer["kernel"] + row(layer["bias"])
            x = x if name == "fc8" else jnp.maximum(x, 0)
        out[name] = x
    return out


@pytest.mark.parametrize(
    "fields",
    [{"variant": "A-LRN"}, {"variant": "B-5x5"}, {"variant": "C"}, {"variant": "B", "batch_norm": True}],
    ids=lambda fields: "-".join(map(str, fields.values())),
)
def test_activations_are_what_the_layers_make_of_the_images(fields):
    # Not square: height, width and channels of fc6's rows have their order. Large: the sum in norm1 counts.
    network, variables, images = small((64, 32, 3), **fields)
    out = features(network, variables, 50 * images)
    expected = jit(functools.partial(reference, names=network.names))(variables, 50 * images)
    assert list(out) == network.names
    assert set(out) == set(expected)
    for name in out:
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(out[name], expected[name], rtol=1e-4, atol=1e-5 * scale, err_msg=name)


@pytest.mark.parametrize(
    "fields",
    [{"variant": "E"}, {"variant": "D", "batch_norm": True}, {"variant": "A", "image_size": 32, **DENSE}],
    ids=["E", "D-bn", "A-dense"],
)
def test_every_hidden_layer_is_rectified_and_the_last_is_not(fields):
    out = features(*small(**fields))
    hidden = [name for name in out if name.startswith("relu")] + ["fc6", "fc7"]
    assert len(hidden) == {"E": 18, "D": 15, "A": 10}[fields["variant"]]
    for name in hidden:
        assert out[name].min() == 0 < out[name].max(), name
    assert out["fc8"].min() < 0 < out["fc8"].max()


def test_pools_cut_off_an_odd_row_or_column():
    network, variables, images = small((35, 38, 3))
    out = features(network, variables, images, upto="pool2")
    assert out["pool1"].shape[1:3] == (17, 19)
    assert out["pool2"].shape[1:3] == (8, 9)
    np.testing.assert_array_equal(out["pool2"][:, 7, 8], out["relu2_1"][:, 14:16, 16:18].max((1, 2)))


@pytest.mark.parametrize("shared", [True, False])
def test_training_normalizes_by_the_batch_shared_over_the_axis_or_not(shared):
    network, variables, _ = small(batch_norm=True, batch_norm_axis="devices" if shared else None)
    images = jax.random.normal(KEY, (2, 2, 32, 32, 3)) * jnp.array([1.0, 5.0]).reshape(2, 1, 1, 1, 1)

    def device(images):
        run = functools.partial(network.apply, variables, images, method="features", upto="relu1_1")
        trained, new = run(train=True, mutable=["batch_stats"])
        return trained["relu1_1"], run()["relu1_1"], new["batch_stats"]["bn1_1"]["var"]

    trained, evaluated, (one, other) = jit(jax.vmap(device, axis_name="devices"))(images)
    assert not np.allclose(trained, evaluated)
    assert np.allclose(one, other, rtol=1e-6) == shared


# ------------------------------------------------------------------------------------------------------ where to stop


@pytest.mark.parametrize(
    ("fields", "upto", "last"),
    [
        ({}, "relu1_1", "conv1_1"),
        ({}, "relu2_2", "conv2_2"),
        ({}, "pool5", "conv5_3"),
        ({}, "fc6", "fc6"),
        ({}, "fc8", "fc8"),
        ({"variant": "A-LRN"}, "norm1", "conv1_1"),
        (DENSE, "pool5", "conv5_3"),
        (DENSE, "fc6", "fc6"),
        (DENSE, "pool", "fc8"),
    ],
)
def test_upto_computes_nothing_beyond(fields, upto, last):
    network = models.create("vgg", **fields)
    variables, images = models.shapes(network, IMAGENET), jax.ShapeDtypeStruct((1, *IMAGENET), jnp.float32)
    program = jax.make_jaxpr(functools.partial(network.apply, method="features", upto=upto))(variables, images).jaxpr
    # However a layer computes, it reads its kernel.
    read = {id(variable) for equation in program.eqns for variable in equation.invars}
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(variables)]
    layers = {path[1].key for path, variable in zip(paths, program.invars, strict=False) if id(variable) in read}
    order = list(kernels(**fields))
    assert layers == set(order[: order.index(last) + 1])


@pytest.mark.parametrize("fields", [{}, DENSE], ids=["classifier", "dense"])
@pytest.mark.parametrize(
    ("upto", "least", "shape"),
    [("relu1_2", 1, (1, 1, 64)), ("relu2_2", 2, (1, 1, 128)), ("relu5_3", 16, (1, 1, 512)), ("pool5", 32, (1, 1, 512))],
)
def test_upto_takes_images_too_small_for_the_classifier(fields, upto, least, shape):
    assert feature_shapes((least, least), upto=upto, **fields)[upto] == shape
    if least > 1:
        with pytest.raises(UserError, match=f"images of {least - 1}x{least} are too small.*at least {least}x{least}"):
            feature_shapes((least - 1, least), upto=upto, **fields)


# ------------------------------------------------------------------------------------------------------------- dropout


@pytest.mark.parametrize("fields", [{}, DENSE], ids=["classifier", "dense"])
def test_dropout_stands_after_fc6_and_fc7_alone(fields):
    order = [row.operation if "dropout" in row.operation else name for name, row in rows(**fields).items()]
    assert order[-6:] == ["pool5", "fc6", "dropout 0.5", "fc7", "dropout 0.5", "fc8"]
    assert sum("dropout" in name for name in order) == 2


def test_dropout_acts_in_training_alone():
    network, variables, images = small()

    @jit
    def run(key):
        train = network.apply(variables, images, method="features", train=True, rngs={"dropout": key})
        return train, network.apply(variables, images, method="features")

    (train, evaluated), (other, again) = run(KEY), run(jax.random.key(1))
    for name in evaluated:
        np.testing.assert_array_equal(evaluated[name], again[name])
        assert np.allclose(train[name], evaluated[name]) == (name not in ("fc7", "fc8")), name
    assert not np.allclose(train["fc7"], other["fc7"])
    assert not np.allclose(train["fc8"], other["fc8"])


@pytest.mark.parametrize(("fields", "rate"), [({}, 0.5), ({"dropout_rate": 0.25}, 0.25), ({"dropout_rate": 0.0}, 0.0)])
def test_dropout_drops_its_share_and_makes_up_for_it(fields, rate):
    # With fc7 and fc8 the identity, they are what dropout leaves of fc6 and fc7.
    network, variables, images = small(num_classes=256, **fields)
    same = {"kernel": jnp.eye(256), "bias": jnp.zeros(256)}
    variables = {"params": {**variables["params"], "fc7": same, "fc8": same}}
    out = features(network, variables, images, train=True, rngs={"dropout": KEY})
    for before, after in (("fc6", "fc7"), ("fc7", "fc8")):
        alive = out[before] > 0
        ratio = out[after][alive] / out[before][alive]
        np.testing.assert_allclose(ratio[ratio != 0], 1 / (1 - rate), rtol=1e-5)
        assert (ratio == 0).mean() == pytest.approx(rate, abs=0.1 if rate else 0)


# ------------------------------------------------------------------------------------------------------ initial values


@pytest.mark.parametrize("dense", [False, True], ids=["classifier", "dense"])
@pytest.mark.parametrize(
    ("weight_init", "convolutional", "connected"),
    [
        ("paper", Normal(0.1), Normal(0.1)),
        ("glorot", GlorotUniform(), GlorotUniform()),
        ("modern", HeNormalFanOut(), Normal(0.01)),
    ],
)
def test_initial_values_of_every_layer(weight_init, convolutional, connected, dense):
    found = leaves(variant="D", batch_norm=True, weight_init=weight_init, fully_convolutional=dense)
    assert len(found) == 13 * (2 + 4) + 3 * 2
    for leaf in found:
        expected = {"bias": Constant(0), "mean": Constant(0), "scale": Constant(1), "var": Constant(1)}
        expected["kernel"] = connected if leaf.path[1].startswith("fc") else convolutional
        assert leaf.initializer == expected[leaf.path[-1]], leaf.path


# Inputs and outputs of conv4_1 and fc7 at a quarter of the width.
CONV4_1, FC7 = (9 * 64, 9 * 128), (1024, 1024)


@pytest.mark.parametrize(
    ("weight_init", "convolutional", "connected"),
    [
        ("paper", 0.1, 0.1),
        ("glorot", math.sqrt(2 / sum(CONV4_1)), math.sqrt(2 / sum(FC7))),
        ("modern", math.sqrt(2 / CONV4_1[1]), 0.01),
    ],
)
def test_drawn_values_have_their_spread(weight_init, convolutional, connected):
    found = {leaf.path[1:]: leaf for leaf in leaves(variant="A", width_factor=0.25, weight_init=weight_init)}
    for layer, shape, spread in (("conv4_1", (3, 3, 64, 128), convolutional), ("fc7", (1024, 1024), connected)):
        leaf = found[layer, "kernel"]
        assert leaf.shape == shape
        drawn = jit(leaf.initializer, static_argnums=(1, 2))(KEY, leaf.shape, jnp.float32)
        assert float(drawn.std()) == pytest.approx(spread, rel=0.02)
        assert abs(float(drawn.mean())) < 0.02 * spread
        # A uniform distribution ends at 1.73 standard deviations, a normal one does not.
        assert (float(jnp.abs(drawn).max()) <= 1.7321 * spread) == (weight_init == "glorot")


# ---------------------------------------------------------------------------------------------------- dense evaluation


@pytest.mark.parametrize("fields", [{"variant": "A"}, {"variant": "D"}, {"variant": "D", "batch_norm": True}])
def test_dense_variables_are_the_classifiers(fields):
    # Names, shapes and distributions, in their order: so the same key gives the same numbers too.
    classifier = leaves(**fields)
    for image_shape in (IMAGENET, (256, 384, 3)):
        assert trace(models.create("vgg", **fields, **DENSE), image_shape).leaves == classifier


@pytest.mark.parametrize("fields", [{}, {"batch_norm": True}, {"variant": "A-LRN"}, {"variant": "C"}])
def test_dense_logits_are_the_classifiers_at_224_pixels(fields):
    network, variables, images = small(IMAGENET, **fields)
    plain, dense = features(network, variables, images), features(network.clone(**DENSE), variables, images)
    assert list(dense) == [*plain, "pool"]
    for name in ("fc6", "fc7", "fc8"):
        assert dense[name].shape == (2, 1, 1, plain[name].shape[-1])
        scale = np.abs(plain[name]).max()
        np.testing.assert_allclose(dense[name].squeeze((1, 2)), plain[name], rtol=1e-4, atol=1e-5 * scale)
    np.testing.assert_array_equal(dense["pool"], dense["fc8"].squeeze((1, 2)))


@pytest.mark.slow
@pytest.mark.parametrize("batch_norm", [False, True])
def test_dense_logits_are_the_classifiers_in_full_width(batch_norm):
    network = models.create("vgg", variant="D", batch_norm=batch_norm, weight_init="modern")
    variables = models.initialize(network, KEY, IMAGENET)
    images = 58 * jax.random.normal(KEY, (1, *IMAGENET))
    plain = np.asarray(jax.jit(network.apply)(variables, images))
    dense = jax.jit(network.clone(**DENSE).apply)(variables, images)
    assert plain.shape == dense.shape == (1, 1000)
    assert plain.std() > 0
    np.testing.assert_allclose(dense, plain, rtol=1e-3, atol=1e-4 * np.abs(plain).max())


@pytest.mark.parametrize(
    ("image_shape", "size"), [((256, 256), (2, 2)), ((384, 384), (6, 6)), ((512, 512), (10, 10)), ((256, 384), (2, 6))]
)
def test_dense_maps_are_the_classifier_at_every_position(image_shape, size):
    network, variables, images = small((*image_shape, 3), **DENSE)
    out = features(network, variables, images)
    x = np.lib.stride_tricks.sliding_window_view(out["pool5"], (7, 7), (1, 2))
    # From [B, positions, C, 7, 7] to fc6's rows: height, width, channel.
    x = x.transpose(0, 1, 2, 4, 5, 3).reshape(2, *size, -1)
    for name in ("fc6", "fc7", "fc8"):
        layer = {key: np.asarray(value) for key, value in variables["params"][name].items()}
        x = x @ layer["kernel"] + layer["bias"].reshape(1, 1, 1, -1)
        x = x if name == "fc8" else np.maximum(x, 0)
        assert out[name].shape == x.shape, name
        np.testing.assert_allclose(out[name], x, rtol=1e-4, atol=1e-5 * np.abs(x).max(), err_msg=name)
    np.testing.assert_allclose(out["pool"], x.mean((1, 2)), rtol=1e-4, atol=1e-5)
    # The positions differ: the mean is not any one of them.
    assert np.ptp(x, axis=(1, 2)).min() > 1e-3


@pytest.mark.parametrize(
    ("image_shape", "image_size", "size"),
    [
        ((512, 256), 224, (10, 2)),
        ((255, 290), 224, (1, 3)),
        ((96, 128), 64, (2, 3)),
    ],
)
def test_dense_sizes_in_full_width(image_shape, image_size, size):
    out = feature_shapes(image_shape, image_size=image_size, **DENSE)
    found = [out[name] for name in ("fc6", "fc7", "fc8", "pool")]
    assert found == [(*size, 4096), (*size, 4096), (*size, 1000), (1000,)]


# ------------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"variant": "F"}, "variant is 'F'; it can be A, A-LRN, B, B-5x5, C, D, E"),
        ({"weight_init": "he"}, "weight_init is 'he'; it can be paper, glorot, modern"),
        ({"width_factor": 0.0}, "width_factor must be positive, not 0.0"),
        ({"width_factor": -1.0}, "width_factor must be positive, not -1.0"),
        ({"dropout_rate": -0.5}, "dropout_rate must be 0 or more and less than 1, not -0.5"),
        ({"image_size": 31}, "image_size is 31; five pools need at least 32"),
        ({"depth": 16}, "vgg has no field 'depth'"),
    ],
)
def test_wrong_fields_are_one_line(fields, message):
    with pytest.raises(UserError) as error:
        models.create("vgg", **fields)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("fields", "image_shape", "message"),
    [
        ({}, (32, 31), "images of 32x31 are too small for this network; take at least 32x32"),
        (DENSE, (223, 512), "images of 223x512 are smaller than the 224 pixels that fc6 fits; set model.image_size to"),
        ({"image_size": 64, **DENSE}, (96, 63), "images of 96x63 are smaller than the 64 pixels that fc6 fits"),
    ],
)
def test_images_that_are_too_small_are_one_line(fields, image_shape, message):
    with pytest.raises(UserError) as error:
        models.shapes(models.create("vgg", **fields), (*image_shape, 3))
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(("fields", "upto"), [({}, "norm1"), ({"variant": "A"}, "relu1_2"), ({}, "pool")])
def test_an_activation_of_another_variant_is_answered_with_those_there_are(fields, upto):
    with pytest.raises(UserError) as error:
        feature_shapes((224, 224), upto=upto, **fields)
    assert str(error.value).startswith(f"there is no activation '{upto}'; there are relu1_1, ")
    assert str(error.value).endswith("pool5, fc6, fc7, fc8")
