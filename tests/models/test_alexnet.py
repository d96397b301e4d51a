"""AlexNet has the paper's sizes, towers, normalization, pooling, dropout and initial values; its variants have theirs.

Layer by layer counts are in test_paper_tables.py, learning and gradients in test_families.py, two devices in
test_towers.py.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnn_research import models
from dnn_research.errors import UserError
from dnn_research.models.alexnet import VARIANTS
from dnn_research.models.initialization import Constant, HeNormal, Normal, Uniform, trace
from dnn_research.models.layers import LocalResponseNorm, ceil_padding, max_pool
from dnn_research.ops.lowering import stock_operations
from dnn_research.tools import summary

KEY = jax.random.key(0)
SIZE = 67  # conv1 gives 15x15, the pools 7x7, 3x3 and 1x1
BEFORE_POOL = ["conv1", "norm1", "pool1", "conv2", "norm2", "pool2", "conv3", "conv4", "conv5", "pool5"]
AFTER_POOL = ["conv1", "pool1", "norm1", "conv2", "pool2", "norm2", "conv3", "conv4", "conv5", "pool5"]
NO_NORM = [name for name in BEFORE_POOL if not name.startswith("norm")]
FULLY_CONNECTED = ["fc6", "fc7", "fc8"]

# Compiling is all that takes time here.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def small(**fields):
    """A narrow network (conv1: 12 maps, conv2: 32) with activations of order one, its variables and images."""
    model = models.create("alexnet", **{"width_factor": 0.125, "weight_init": "modern", "num_classes": 5, **fields})
    size = 32 if fields.get("stem") == "cifar" else SIZE
    images = 10 * jax.random.normal(KEY, (2, size, size, 3))
    return model, models.initialize(model, KEY, (size, size, 3)), images


def features(model, variables, images, **more):
    """Activations by name, in the network's order (JAX sorts the keys of what it returns)."""
    names = []

    def run(variables, images):
        out = model.apply(variables, images, method="features", **more)
        names.extend(out)
        return list(out.values())

    values = jit(run)(variables, images)
    return dict(zip(names, values, strict=True))


def feature_shapes(size, **fields):
    model = models.create("alexnet", **fields)
    found = {}

    def run(variables, images):
        for name, activation in model.apply(variables, images, method="features").items():
            found[name] = activation.shape[1:]

    jax.eval_shape(run, models.shapes(model, (size, size, 3)), jnp.zeros((1, size, size, 3)))
    return found


# ------------------------------------------------------------------------------------------------- order and sizes


@pytest.mark.parametrize("size", [224, 227])
@pytest.mark.parametrize("variant", VARIANTS)
def test_output_sizes(variant, size):
    out = feature_shapes(size, variant=variant)
    order = {"caffenet": AFTER_POOL, "torchvision": NO_NORM}.get(variant, BEFORE_POOL)
    assert list(out) == order + FULLY_CONNECTED
    sizes = dict(conv1=55, norm1=55, pool1=27, conv2=27, norm2=27, pool2=13, conv3=13, conv4=13, conv5=13, pool5=6)
    if variant == "caffenet":
        sizes |= {"norm1": 27, "norm2": 13}
    if (variant, size) == ("torchvision", 227):
        sizes["conv1"] = 56
    widths = dict(zip(("conv1", "conv2", "conv3", "conv4", "conv5"), VARIANTS[variant].channels, strict=True))
    for name in order:
        assert out[name][:2] == (sizes[name], sizes[name]), name
        if name in widths:
            assert out[name][2] == widths[name]
    assert [out[name] for name in FULLY_CONNECTED] == [(4096,), (4096,), (1000,)]


@pytest.mark.parametrize("variant", [variant for variant in VARIANTS if variant != "torchvision"])
def test_a_224_crop_is_a_227_crop_with_zeros_below_and_to_the_right(variant):
    model, variables, _ = small(variant=variant)
    images = jax.random.normal(KEY, (1, 224, 224, 3))
    run = jit(lambda images: model.apply(variables, images, method="features", upto="conv1")["conv1"])
    padded = jnp.pad(images, ((0, 0), (0, 3), (0, 3), (0, 0)))
    assert (run(images) > 0).any()
    np.testing.assert_allclose(run(images), run(padded), rtol=1e-4, atol=1e-5)


def rows(size=224, **fields):
    return {row.layer: row for row in summary.count(models.create("alexnet", **fields), (size, size, 3))}


def test_conv1_and_the_pools_round_up_except_torchvisions():
    none, end, both = ((0, 0), (0, 0)), ((0, 3), (0, 3)), ((2, 2), (2, 2))
    assert rows()["conv1"].padding == end
    assert rows(227, variant="caffe")["conv1"].padding == none
    assert rows(variant="torchvision")["conv1"].padding == both
    # 220 gives 54x54, and a pool of 54 has 26.5 windows.
    assert rows(220)["pool1"].padding == ((0, 1), (0, 1))
    assert rows(220, variant="torchvision")["pool1"].padding == none


def test_pooling_without_overlap_keeps_every_size_and_parameter():
    overlapping, apart = rows(), rows(overlapping_pooling=False)
    assert [row.out_shape for row in overlapping.values()] == [row.out_shape for row in apart.values()]
    for name in ("pool1", "pool2", "pool5"):
        assert (overlapping[name].kernel, overlapping[name].strides) == ((3, 3), (2, 2))
        assert (apart[name].kernel, apart[name].strides) == ((2, 2), (2, 2))
        assert apart[name].padding == ((0, 0), (0, 0))


def test_cifar_stem_ends_at_4x4():
    out = feature_shapes(32, stem="cifar")
    sizes = {name: shape[0] for name, shape in out.items() if len(shape) == 3}
    assert list(sizes.values()) == [32, 32, 16, 16, 16, 8, 8, 8, 8, 4]
    conv1 = rows(32, stem="cifar")["conv1"]
    assert (conv1.kernel, conv1.strides, conv1.padding) == ((5, 5), (1, 1), ((2, 2), (2, 2)))


def test_fc6_fits_the_images():
    fc6 = {size: models.shapes(models.create("alexnet"), (size, size, 3))["params"]["fc6"] for size in (128, 224)}
    assert fc6[224]["kernel"].shape == (6 * 6 * 256, 4096)
    assert fc6[128]["kernel"].shape == (3 * 3 * 256, 4096)


def test_width_factor_keeps_two_equal_groups():
    out = feature_shapes(SIZE, width_factor=0.07, num_classes=7)
    assert [out[f"conv{number}"][-1] for number in (1, 2, 3, 4, 5)] == [6, 18, 26, 26, 18]
    assert [out[name] for name in FULLY_CONNECTED] == [(286,), (286,), (7,)]


def test_upto_computes_no_more_convolutions_than_it_needs():
    model, variables, images = small()
    for upto, convolutions in {"conv1": 1, "pool2": 2, "conv4": 4, "fc8": 5}.items():
        run = functools.partial(model.apply, method="features", upto=upto)
        with stock_operations():
            program = str(jax.make_jaxpr(run)(variables, images))
        assert program.count("conv_general_dilated[") == convolutions


# --------------------------------------------------------------------------------------------------------- two towers


def changed_maps(model, variables, images, upto):
    """Layer -> which of its maps change with the first tower's maps of conv1."""
    kernel = variables["params"]["conv1"]["kernel"]
    half = kernel.shape[-1] // 2
    other = {"params": {**variables["params"], "conv1": {**variables["params"]["conv1"]}}}
    other["params"]["conv1"]["kernel"] = kernel.at[..., :half].multiply(1.5)
    run = jit(lambda variables: model.apply(variables, images, method="features", upto=upto))
    one, two = run(variables), run(other)
    return {name: np.asarray(one[name] != two[name]).any((0, 1, 2)) for name in one}


# Constants that make the neighbours count.
STRONG = {"lrn_alpha": 0.1, "lrn_k": 1.0}


def test_towers_meet_in_conv3():
    changed = changed_maps(*small(**STRONG), "conv3")
    for name in ("conv1", "norm1", "pool1", "conv2", "norm2", "pool2"):
        first, second = np.split(changed[name], 2)
        assert first.any()
        assert not second.any(), name
    first, second = np.split(changed["conv3"], 2)
    assert first.any()
    assert second.any()


def test_conv4_and_conv5_stay_in_their_tower():
    model, variables, images = small(lrn=False)
    kernel = variables["params"]["conv3"]["kernel"]
    moved = {"params": {**variables["params"], "conv3": {**variables["params"]["conv3"]}}}
    moved["params"]["conv3"]["kernel"] = kernel.at[..., : kernel.shape[-1] // 2].multiply(1.5)
    run = jit(lambda variables: model.apply(variables, images, method="features", upto="pool5"))
    one, two = run(variables), run(moved)
    for name in ("conv3", "conv4", "conv5", "pool5"):
        first, second = np.split(np.asarray(one[name] != two[name]).any((0, 1, 2)), 2)
        assert first.any()
        assert not second.any(), name


@pytest.mark.parametrize(
    ("fields", "reached"),
    [
        ({"variant": "paper"}, 0),
        ({"variant": "paper", "lrn_across_towers": True}, 2),
        ({"variant": "caffe"}, 2),
        ({"variant": "caffenet"}, 2),
        ({"variant": "caffe", "lrn_across_towers": False}, 0),
    ],
)
def test_normalization_crosses_between_the_towers_where_caffe_does(fields, reached):
    changed = changed_maps(*small(**fields, **STRONG), "norm1")["norm1"]
    second = np.split(changed, 2)[1]
    assert list(np.flatnonzero(second)) == list(range(reached))


def test_one_tower_is_dense():
    changed = changed_maps(*small(variant="ungrouped", lrn=False), "conv2")["conv2"]
    assert np.split(changed, 2)[1].any()
    for variant, expected in {
        "paper": 2,
        "caffe": 2,
        "caffenet": 2,
        "half": 1,
        "ungrouped": 1,
        "torchvision": 1,
    }.items():
        found = rows(variant=variant)
        groups = [found[f"conv{number}"].groups for number in (1, 2, 3, 4, 5)]
        assert groups == [1, expected, 1, expected, expected]


# -------------------------------------------------------------------------------------- normalization and activations


@pytest.mark.parametrize(
    ("fields", "norm"),
    [
        ({"variant": "paper"}, LocalResponseNorm(5, 2.0, 1e-4, 0.75, mean=False, groups=2)),
        ({"variant": "half"}, LocalResponseNorm(5, 2.0, 1e-4, 0.75, mean=False)),
        ({"variant": "ungrouped"}, LocalResponseNorm(5, 2.0, 1e-4, 0.75, mean=False)),
        ({"variant": "caffe"}, LocalResponseNorm(5, 1.0, 1e-4, 0.75, mean=True)),
        ({"variant": "caffenet"}, LocalResponseNorm(5, 1.0, 1e-4, 0.75, mean=True)),
        (
            {"lrn_size": 3, "lrn_k": 0.5, "lrn_alpha": 0.2, "lrn_beta": 0.5, "lrn_scaling": "mean"},
            LocalResponseNorm(3, 0.5, 0.2, 0.5, mean=True, groups=2),
        ),
        ({"variant": "torchvision", "lrn": True}, LocalResponseNorm(5, 2.0, 1e-4, 0.75)),
        ({"variant": "caffe", "lrn_k": 2.0, "lrn_scaling": "sum"}, LocalResponseNorm(5, 2.0, 1e-4, 0.75)),
    ],
)
def test_normalization_has_the_variants_constants_unless_told(fields, norm):
    model, variables, images = small(**fields)
    out = features(model, variables, 10 * images, upto="conv3")
    for number in (1, 2):
        before = "pool" if fields.get("variant") == "caffenet" else "conv"
        x, y = out[f"{before}{number}"], out[f"norm{number}"]
        np.testing.assert_allclose(y, norm.apply({}, x), rtol=1e-5, atol=1e-5)
        # The activations are large enough for the neighbours to count.
        assert not np.allclose(y, norm.clone(alpha=0.0).apply({}, x), rtol=0.02)


def test_normalization_moves_and_goes():
    model, variables, images = small(variant="paper", lrn_place="after_pool")
    assert list(features(model, variables, images)) == AFTER_POOL + FULLY_CONNECTED
    model, variables, images = small(variant="caffenet", lrn_place="before_pool")
    assert list(features(model, variables, images)) == BEFORE_POOL + FULLY_CONNECTED
    model, variables, images = small(lrn=False)
    assert list(features(model, variables, images)) == NO_NORM + FULLY_CONNECTED


@pytest.mark.parametrize(("activation", "low", "high"), [("relu", 0, math.inf), ("tanh", -1, 1), ("sigmoid", 0, 1)])
def test_every_layer_but_the_last_has_the_activation(activation, low, high):
    out = features(*small(activation=activation))
    for name in ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"):
        assert low <= out[name].min() < out[name].max() <= high, name
        if activation == "relu":
            assert (out[name] == 0).any(), name
        if activation == "tanh":
            assert out[name].min() < 0, name
    assert out["fc8"].min() < 0


def test_features_are_what_the_layers_make_of_each_other():
    model, variables, images = small()
    out, params = features(model, variables, images), variables["params"]

    def dense(x, name):
        return x @ params[name]["kernel"] + params[name]["bias"].reshape(1, -1)

    # Rows of fc6's kernel: height, width, channel; the channels of the first tower come first.
    fc6 = jax.nn.relu(dense(out["pool5"].reshape(2, -1), "fc6"))
    np.testing.assert_allclose(out["fc6"], fc6, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(out["fc7"], jax.nn.relu(dense(fc6, "fc7")), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(out["fc8"], dense(out["fc7"], "fc8"), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(out["fc8"], jit(model.apply)(variables, images), rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------------------------------------------------- dropout


@pytest.mark.parametrize(
    ("variant", "order"),
    [
        ("paper", ["pool5", "fc6", "dropout", "fc7", "dropout", "fc8"]),
        ("caffe", ["pool5", "fc6", "dropout", "fc7", "dropout", "fc8"]),
        ("torchvision", ["pool5", "dropout", "fc6", "dropout", "fc7", "fc8"]),
    ],
)
def test_dropout_stands_after_the_hidden_layers_or_torchvisions_before(variant, order):
    layers = ["dropout" if "dropout" in row.operation else name for name, row in rows(variant=variant).items()]
    assert layers[-6:] == order
    model, variables, images = small(variant=variant)
    run = jit(
        lambda variables, key: model.apply(variables, images, method="features", train=True, rngs={"dropout": key})
    )
    evaluated = features(model, variables, images)
    trained, again, other = run(variables, KEY), run(variables, KEY), run(variables, jax.random.key(1))
    drops = order.index("dropout")
    for name in evaluated:
        unchanged = name not in order or order.index(name) < drops
        assert np.allclose(trained[name], evaluated[name], rtol=1e-4, atol=1e-4) == unchanged, name
        np.testing.assert_array_equal(trained[name], again[name])
    assert not np.allclose(trained["fc8"], other["fc8"])


def test_dropout_of_fc7_drops_half_and_doubles_the_rest():
    # With fc8 the identity the logits are what dropout leaves of fc7.
    model, variables, images = small(num_classes=512)
    params = {**variables["params"], "fc8": {"kernel": jnp.eye(512), "bias": jnp.zeros(512)}}
    out = features(model, {"params": params}, images, train=True, rngs={"dropout": KEY})
    alive = np.asarray(out["fc7"]) > 0
    ratio = np.asarray(out["fc8"])[alive] / np.asarray(out["fc7"])[alive]
    np.testing.assert_allclose(ratio[ratio != 0], 2, rtol=1e-5)
    assert 0.35 < (ratio == 0).mean() < 0.65


def test_without_dropout_training_is_evaluation():
    model, variables, images = small(dropout_rate=0.0)
    run = jit(lambda train: model.apply(variables, images, train=train), static_argnums=0)
    np.testing.assert_array_equal(run(True), run(False))


# ------------------------------------------------------------------------------------------------------ initial values

LAYERS = ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]
WITH_BIAS = {"conv2", "conv4", "conv5", "fc6", "fc7"}


def initializers(**fields):
    """Layer -> what its kernel and its bias are drawn from."""
    traced = trace(models.create("alexnet", **fields), (224, 224, 3))
    found = {leaf.path[1:]: leaf.initializer for leaf in traced.leaves}
    return {layer: (found[layer, "kernel"], found[layer, "bias"]) for layer in LAYERS}


@pytest.mark.parametrize(
    ("variant", "bias", "hidden"),
    [("paper", 1.0, 0.01), ("half", 1.0, 0.01), ("ungrouped", 1.0, 0.01), ("caffe", 0.1, 0.005)],
)
def test_initial_values_of_the_paper_and_of_caffe(variant, bias, hidden):
    for layer, found in initializers(variant=variant).items():
        std = hidden if layer in ("fc6", "fc7") else 0.01
        assert found == (Normal(std), Constant(bias if layer in WITH_BIAS else 0.0)), layer


def test_initial_values_of_torchvision_are_torchs_defaults():
    fan_in = dict(conv1=363, conv2=1600, conv3=1728, conv4=3456, conv5=2304, fc6=9216, fc7=4096, fc8=4096)
    for layer, found in initializers(variant="torchvision").items():
        assert found == (Uniform(1 / math.sqrt(fan_in[layer])),) * 2, layer


@pytest.mark.parametrize("variant", VARIANTS)
def test_modern_initial_values(variant):
    assert set(initializers(variant=variant, weight_init="modern").values()) == {(HeNormal(), Constant(0.0))}


@pytest.mark.parametrize(
    ("fields", "spread"),
    [
        ({"variant": "paper"}, 0.01),
        # He's fan-in is that of a group: 5 x 5 x 48 maps.
        ({"variant": "paper", "weight_init": "modern"}, math.sqrt(2 / 1200)),
        ({"variant": "torchvision"}, 1 / math.sqrt(3 * 1600)),
    ],
)
def test_a_drawn_kernel_has_its_spread(fields, spread):
    leaves = trace(models.create("alexnet", **fields), (224, 224, 3)).leaves
    (kernel,) = [leaf for leaf in leaves if leaf.path == ("params", "conv2", "kernel")]
    drawn = kernel.initializer(KEY, kernel.shape, jnp.float32)
    assert float(drawn.std()) == pytest.approx(spread, rel=0.02)


# -------------------------------------------------------------------------------------------------------- ceil_padding


def caffes_pool(x, window, stride, before):
    """Maxima of windows that are clipped to the image, as Caffe's pooling layer takes them: (maxima, windows)."""
    size = len(x)
    count = math.ceil((size + 2 * before - window) / stride) + 1
    if before and (count - 1) * stride >= size + before:
        count -= 1
    starts = [number * stride - before for number in range(count)]
    return np.array([[x[max(i, 0) : i + window, max(j, 0) : j + window].max() for j in starts] for i in starts])


@pytest.mark.parametrize(
    ("size", "window", "stride", "before", "outputs"),
    [
        (55, 3, 2, 0, 27),
        (13, 3, 2, 0, 6),
        (112, 3, 2, 0, 56),  # the last window hangs over by one
        (6, 3, 2, 0, 3),
        (224, 11, 4, 0, 55),
        (227, 11, 4, 0, 55),
        (4, 3, 2, 1, 3),
        (5, 3, 2, 1, 3),
        (3, 2, 2, 1, 2),  # a third window would start beyond the image and its padding
        (5, 3, 3, 1, 2),
        (7, 2, 3, 1, 3),
    ],
)
def test_pools_round_up_as_caffes(size, window, stride, before, outputs):
    x = np.random.default_rng(0).normal(size=(size, size)).astype(np.float32) - 10
    images = jnp.asarray(x.reshape(1, size, size, 1))
    shape, strides = (window, window), (stride, stride)
    padding = ceil_padding(images, shape, strides, before)
    assert padding[0][0] == padding[1][0] == before
    y = max_pool(images, window_shape=shape, strides=strides, padding=padding, name="pool")
    assert y.shape == (1, outputs, outputs, 1)
    np.testing.assert_array_equal(y[0, :, :, 0], caffes_pool(x, window, stride, before))


def test_ceil_padding_takes_each_side_by_itself():
    assert ceil_padding(jnp.zeros((1, 6, 7, 1)), (3, 3), (2, 2)) == ((0, 1), (0, 0))
    assert ceil_padding(jnp.zeros((1, 2, 9, 1)), (3, 5), (2, 4)) == ((0, 1), (0, 0))


# -------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"variant": "zfnet"}, "variant is 'zfnet'; it can be paper, half, ungrouped, caffe, caffenet, torchvision"),
        ({"lrn_place": "before"}, "lrn_place is 'before'; it can be None, before_pool, after_pool"),
        ({"lrn_scaling": "max"}, "lrn_scaling is 'max'; it can be None, sum, mean"),
        ({"activation": "relu6"}, "activation is 'relu6'; it can be relu, tanh, sigmoid"),
        ({"stem": "mnist"}, "stem is 'mnist'; it can be imagenet, cifar"),
        ({"weight_init": "he"}, "weight_init is 'he'; it can be paper, modern"),
        ({"width_factor": 0.0}, "width_factor must be positive, not 0.0"),
        ({"dropout_rate": 1.0}, "dropout_rate must be 0 or more and less than 1, not 1.0"),
        ({"towers": 3}, "towers is '3'; it can be 1, 2"),
        ({"towers": 2, "variant": "half"}, "towers=2 needs a network of two groups; variant 'half' has one"),
        ({"towers": 2, "variant": "caffe"}, "set lrn_across_towers=False, or lrn=False"),
    ],
)
def test_refuses_what_there_is_not(fields, message):
    with pytest.raises(UserError, match=message):
        models.create("alexnet", **fields)


@pytest.mark.parametrize(
    ("fields", "least"),
    [
        ({}, 11),
        ({"overlapping_pooling": False}, 36),
        ({"variant": "torchvision"}, 63),
        ({"variant": "torchvision", "overlapping_pooling": False}, 35),
        ({"stem": "cifar"}, 8),
        ({"stem": "cifar", "overlapping_pooling": False}, 8),
        ({"stem": "cifar", "variant": "torchvision"}, 15),
    ],
)
def test_takes_images_down_to_its_smallest(fields, least):
    model = models.create("alexnet", width_factor=0.125, **fields)
    fc6 = models.shapes(model, (least, least, 3))["params"]["fc6"]["kernel"]
    assert fc6.shape == (32, 512)
    with pytest.raises(UserError, match=f"images of {least - 1}x{least} are too small.*at least {least}x{least}"):
        models.shapes(model, (least - 1, least, 3))


def test_unknown_activation_is_answered_with_those_there_are():
    model = models.create("alexnet", variant="torchvision")
    with pytest.raises(UserError, match="no activation 'norm1'; there are conv1, pool1, conv2"):
        model.apply({}, jnp.zeros((1, SIZE, SIZE, 3)), method="features", upto="norm1")


@pytest.mark.parametrize("image_size", [11, 32, 224])
def test_dense_takes_images_from_the_size_that_fc6_fits(image_size):
    dense = models.create("alexnet", width_factor=0.125, fully_convolutional=True, image_size=image_size)
    plain = models.create("alexnet", width_factor=0.125)
    shape = (image_size, image_size, 3)
    assert jax.tree.map(jnp.shape, models.shapes(dense, shape)) == jax.tree.map(jnp.shape, models.shapes(plain, shape))
    with pytest.raises(UserError, match="images of 100x300 are smaller than the 224 pixels that fc6 fits"):
        models.shapes(dense.clone(image_size=224), (100, 300, 3))
    assert feature_shapes(100, fully_convolutional=False)["pool5"] == (3, 3, 256)
