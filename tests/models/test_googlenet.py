"""GoogLeNet has Table 1's layers under its names, its modules and its auxiliary classifiers; its variants have theirs.

The counts of test_paper_tables.py are here compared name by name and in order; learning is in test_families.py, the
auxiliary classifiers' part in the loss in tests/test_classification.py.
"""

import functools
import math
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

from dnn_research import models
from dnn_research.errors import UserError
from dnn_research.models.googlenet import MODULES, adaptive_average_pool
from dnn_research.models.initialization import CaffeXavier, Constant, HeNormal, Normal, trace
from dnn_research.models.layers import LocalResponseNorm
from dnn_research.ops.lowering import stock_operations
from dnn_research.tools import summary
from tests.models import paper_tables

KEY = jax.random.key(0)
MODULE_NAMES = [f"inception_{module}" for module in MODULES]
STEM = ["conv1", "pool1", "norm1", "conv2_reduce", "conv2", "norm2", "pool2"]
NAMES = [*STEM, *MODULE_NAMES[:2], "pool3", *MODULE_NAMES[2:7], "pool4", *MODULE_NAMES[7:], "pool", "fc"]
NO_NORM = [name for name in NAMES if not name.startswith("norm")]
CLASSES = 5

# Compiling is all that takes time here.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def small(size=20, **fields):
    """A narrow network for small images (4a: 5x5 of 20x20), its variables and images."""
    fields = {"width_factor": 0.125, "stem": "cifar", "weight_init": "modern", "num_classes": CLASSES, **fields}
    model = models.create("googlenet", **fields)
    shape = (size, size, 3)
    return model, models.initialize(model, KEY, shape), jax.random.normal(KEY, (2, *shape))


def features(model, variables, images, **more):
    """Activations by name, in the network's order (JAX sorts the keys of what it returns)."""
    names = []

    def run(variables, images):
        out = model.apply(variables, images, method="features", **more)
        names.extend(out)
        return list(out.values())

    return dict(zip(names, jit(run)(variables, images), strict=True))


def feature_shapes(size, **fields):
    model = models.create("googlenet", **fields)
    found = {}

    def run(variables, images):
        for name, activation in model.apply(variables, images, method="features").items():
            found[name] = activation.shape[1:]

    jax.eval_shape(run, models.shapes(model, (size, size, 3)), jnp.zeros((1, size, size, 3)))
    return found


def rows(size=224, **fields):
    return {row.layer: row for row in summary.count(models.create("googlenet", **fields), (size, size, 3))}


def moved_statistics(variables):
    """Running statistics far from zeros and ones, and variances so small that epsilon counts."""

    def move(path, leaf):
        u = jax.random.uniform(jax.random.fold_in(KEY, zlib.crc32(jax.tree_util.keystr(path).encode())), leaf.shape)
        return 0.2 * u if path[-1].key == "mean" else 1e-3 + 1e-2 * u

    return {**variables, "batch_stats": jax.tree_util.tree_map_with_path(move, variables["batch_stats"])}


# ---------------------------------------------------------------------------------------------- names, order and sizes


def paper_name(layer):
    """The checkpoint's name of a table's layer: 'conv2 3x3_reduce' is conv2_reduce, '3a 1x1' inception_3a/1x1."""
    known = {"conv1 7x7/2": "conv1", "conv2 3x3_reduce": "conv2_reduce", "conv2 3x3": "conv2", "classifier": "fc"}
    if layer in known:
        return known[layer]
    place, name = layer.replace("conv 1x1", "conv").replace("3x3 (tv bug)", "5x5").split()
    return f"{place}/{name}" if place.startswith("aux") else f"inception_{place}/{name}"


@pytest.mark.parametrize(
    ("table", "fields"),
    [
        ("googlenet", {"aux_heads": False}),
        ("googlenet_aux", {}),
        ("googlenet_tv", {"variant": "torchvision", "aux_heads": False}),
        ("googlenet_tv_aux", {"variant": "torchvision"}),
    ],
)
def test_layers_have_the_tables_names_order_and_counts(table, fields):
    counted = rows(**fields)
    normalized = {name for name in counted if name.endswith("_bn")}
    ours = []
    for name, row in counted.items():
        if row.macs:
            params = row.params + (counted[f"{name}_bn"].params if f"{name}_bn" in normalized else 0)
            padding = row.padding[0][0] if row.padding else None
            ours.append((name, row.kernel[:1], padding, row.out_shape[-1], params, row.macs))
    expected = [
        (
            paper_name(row.layer),
            () if row.kernel is None else (row.kernel,),
            row.padding,
            row.out_channels,
            row.params,
            row.macs,
        )
        for row in paper_tables.rows(table)
        if row.macs
    ]
    assert ours == expected
    convolutions = {f"{name}_bn" for name, kernel, *_ in ours if kernel}
    assert normalized == (convolutions if fields.get("variant") == "torchvision" else set())


@pytest.mark.parametrize(("variant", "names"), [("paper", NAMES), ("torchvision", NO_NORM)])
def test_output_sizes(variant, names):
    out = feature_shapes(224, variant=variant)
    assert list(out) == names
    outputs = (256, 480, 512, 512, 512, 528, 832, 832, 1024)
    for (module, widths), channels in zip(MODULES.items(), outputs, strict=True):
        assert out[f"inception_{module}"] == ({"3": 28, "4": 14, "5": 7}[module[0]],) * 2 + (channels,)
        assert channels == widths[0] + widths[2] + widths[4] + widths[5]
    assert [out[name][0] for name in ("conv1", "pool1", "conv2", "pool2", "pool3", "pool4")] == [112, 56, 56, 28, 14, 7]
    assert (out["pool"], out["fc"]) == ((1024,), (1000,))


def test_stride_2_pools_round_up_and_torchvisions_pool4_has_2x2_windows():
    for variant, pool4 in {"paper": (3, 3), "torchvision": (2, 2)}.items():
        found = rows(variant=variant)
        for name in ("pool1", "pool2", "pool3"):
            assert (found[name].kernel, found[name].strides, found[name].padding) == ((3, 3), (2, 2), ((0, 1), (0, 1)))
        assert (found["pool4"].kernel, found["pool4"].strides) == (pool4, (2, 2))
        # 15x15 before pool4: both have eight windows, the last one of torchvision's hangs over.
        odd = rows(240, variant=variant, aux_heads=False)["pool4"]
        assert odd.in_shape[:2] == (15, 15)
        assert odd.out_shape[:2] == ((7, 7) if variant == "paper" else (8, 8))
        for module in MODULE_NAMES:
            pool = found[f"{module}/pool"]
            assert (pool.kernel, pool.strides, pool.padding) == ((3, 3), (1, 1), ((1, 1), (1, 1)))
            assert pool.out_shape == pool.in_shape


def test_cifar_stem_keeps_conv1s_size_and_leaves_pool1_out():
    out = feature_shapes(32, stem="cifar")
    assert list(out) == [name for name in NAMES if name != "pool1"]
    assert [out[name][0] for name in ("conv1", "conv2", "pool2", "pool3", "pool4", "inception_5b")] == [
        *(32, 32, 16, 8, 4, 4)
    ]
    conv1 = rows(32, stem="cifar")["conv1"]
    assert (conv1.kernel, conv1.strides, conv1.padding) == ((3, 3), (1, 1), ((1, 1), (1, 1)))


def test_width_factor_narrows_every_layer_but_the_logits():
    wide, narrow = rows(), rows(width_factor=0.125)
    for name, row in wide.items():
        width = row.out_shape[-1]
        assert narrow[name].out_shape[-1] == (width if name.split("/")[-1] in ("classifier", "fc") else width / 8) or (
            name.endswith("/fc") and narrow[name].out_shape == (128,)
        ), name


def test_upto_computes_no_more_convolutions_than_it_needs():
    model, variables, images = small()
    # 4b stands behind the first auxiliary head, which has one convolution and runs in training alone.
    counts = {("conv1", True): 1, ("inception_4a", True): 21, ("inception_4b", True): 28, ("inception_4b", False): 27}
    for (upto, train), convolutions in counts.items():
        run = functools.partial(model.apply, method="features", upto=upto, train=train, rngs={"dropout": KEY})
        with stock_operations():
            program = str(jax.make_jaxpr(run)(variables, images))
        assert program.count("conv_general_dilated[") == convolutions, (upto, train)


# ------------------------------------------------------------------------------------------------------------- modules


def convolved(x, layers, name, *, batch_stats=None):
    """ReLU of a convolution that keeps the size, with its bias or its normalization, from the parameters alone."""
    y = lax.conv_general_dilated(
        x, layers[name]["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest"
    )

    def channels(vector):
        return vector.reshape(1, 1, 1, -1)

    if batch_stats is None:
        return jax.nn.relu(y + channels(layers[name]["bias"]))
    norm, seen = layers[f"{name}_bn"], batch_stats[f"{name}_bn"]
    y = (y - channels(seen["mean"])) / jnp.sqrt(channels(seen["var"]) + 1e-3)
    return jax.nn.relu(y * channels(norm["scale"]) + channels(norm["bias"]))


def pooled(x):
    """The maximum over 3x3 pixels, as many as there were."""
    padded = np.pad(np.asarray(x), ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    height, width = x.shape[1:3]
    windows = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return jnp.asarray(np.max(windows, axis=0))


@pytest.mark.parametrize(
    ("fields", "large_kernel"),
    [({}, 5), ({"batch_norm": True}, 5), ({"variant": "torchvision"}, 3), ({"reductions": False}, 5)],
)
def test_a_module_joins_its_branches_in_figure_2s_order(fields, large_kernel):
    model, variables, images = small(aux_heads=False, **fields)
    normalized = "batch_stats" in variables
    assert normalized == (fields.get("batch_norm", False) or fields.get("variant") == "torchvision")
    if normalized:
        variables = moved_statistics(variables)
    out = features(model, variables, images, upto="inception_4a")
    before = {"inception_3a": "pool2", "inception_3b": "inception_3a", "inception_4a": "pool3"}
    for name in before:
        layers = variables["params"][name]
        assert layers["5x5"]["kernel"].shape[:2] == (large_kernel, large_kernel)
        stats = variables["batch_stats"][name] if normalized else None
        unit = functools.partial(convolved, layers=layers, batch_stats=stats)
        x = out[before[name]]
        if model.reductions:
            branches = [
                unit(x, name="1x1"),
                unit(unit(x, name="3x3_reduce"), name="3x3"),
                unit(unit(x, name="5x5_reduce"), name="5x5"),
                unit(pooled(x), name="pool_proj"),
            ]
        else:
            branches = [unit(x, name="1x1"), unit(x, name="3x3"), unit(x, name="5x5"), pooled(x)]
        scale = float(jnp.abs(out[name]).max())
        assert scale > 0
        np.testing.assert_allclose(out[name], jnp.concatenate(branches, -1), rtol=1e-3, atol=1e-4 * scale)


def test_naive_modules_grow_by_the_channels_that_the_pool_passes_on():
    params = models.shapes(models.create("googlenet", reductions=False), (224, 224, 3))["params"]
    out = feature_shapes(224, reductions=False)
    channels = 192
    for module, (one, _, three, _, five, _) in MODULES.items():
        layers = params[f"inception_{module}"]
        kernels = {name: layer["kernel"].shape for name, layer in layers.items()}
        assert kernels == {
            "1x1": (1, 1, channels, one), "3x3": (3, 3, channels, three), "5x5": (5, 5, channels, five)
        }  # fmt: skip
        channels += one + three + five
        assert out[f"inception_{module}"][-1] == channels
        if module in ("4a", "4d"):
            head = params["aux1" if module == "4a" else "aux2"]
            assert head["conv"]["kernel"].shape == (1, 1, channels, 128)
            assert head["fc"]["kernel"].shape == (4 * 4 * 128, 1024)
    assert params["fc"]["kernel"].shape == (channels, 1000) == (4944, 1000)


# ------------------------------------------------------------------------------------------------------- normalization


def test_local_response_normalization_stands_after_pool1_and_conv2_with_caffes_constants():
    model, variables, images = small(80, stem="imagenet")
    out = features(model, variables, 100 * images, upto="norm2")
    norm = LocalResponseNorm(5, 1.0, 1e-4, 0.75, mean=True)
    for before, name in (("pool1", "norm1"), ("conv2", "norm2")):
        np.testing.assert_allclose(out[name], norm.apply({}, out[before]), rtol=1e-5, atol=1e-5)
        # The activations are large enough for the neighbours to count.
        assert not np.allclose(out[name], norm.clone(mean=False).apply({}, out[before]), rtol=0.01)


@pytest.mark.parametrize(
    ("fields", "batch_norm", "lrn"),
    [
        ({}, False, True),
        ({"lrn": False}, False, False),
        ({"batch_norm": True}, True, False),
        ({"batch_norm": True, "lrn": True}, True, True),
        ({"variant": "torchvision"}, True, False),
        ({"variant": "torchvision", "lrn": True}, True, True),
        ({"variant": "torchvision", "batch_norm": False}, False, False),
    ],
)
def test_normalization_is_the_variants_unless_told(fields, batch_norm, lrn):
    model = models.create("googlenet", **fields)
    assert model.names == (NAMES if lrn else NO_NORM)
    found = models.shapes(model, (224, 224, 3))
    assert ("batch_stats" in found) is batch_norm
    params = found["params"]
    for holder, name in (
        (params, "conv1"),
        (params, "conv2_reduce"),
        (params["inception_5b"], "pool_proj"),
        (params["aux1"], "conv"),
    ):
        assert ("bias" in holder[name]) is not batch_norm
        assert (f"{name}_bn" in holder) is batch_norm
    for layer in (params["fc"], params["aux1"]["fc"], params["aux2"]["classifier"]):
        assert "bias" in layer


# ---------------------------------------------------------------------------------------------- auxiliary classifiers


@pytest.mark.parametrize(("variant", "size"), [("paper", 32), ("torchvision", 32)])
def test_training_gives_the_logits_of_three_classifiers(variant, size):
    rates = {"dropout_rate": 0.0, "aux_dropout_rate": 0.0}
    model, variables, images = small(size, variant=variant, batch_norm=False, **rates)
    out = features(model, variables, images)
    trained = jit(lambda v: model.apply(v, images, train=True))(variables)
    assert [(head.shape, head.dtype) for head in trained] == [((2, CLASSES), jnp.float32)] * 3
    np.testing.assert_allclose(trained[0], out["fc"], rtol=1e-3, atol=1e-5)
    for head, name, place in zip(trained[1:], ("aux1", "aux2"), ("inception_4a", "inception_4d"), strict=True):
        layers, x = variables["params"][name], np.asarray(out[place])
        assert x.shape[1:3] == (8, 8)
        # Of 8x8, torch's four windows are 2 pixels wide, the paper's two 5 wide.
        starts, width = ((0, 2, 4, 6), 2) if variant == "torchvision" else ((0, 3), 5)
        means = [[x[:, i : i + width, j : j + width].mean((1, 2)) for j in starts] for i in starts]
        x = convolved(jnp.asarray(means).transpose(2, 0, 1, 3), layers, "conv").reshape(2, -1)
        x = jax.nn.relu(x @ layers["fc"]["kernel"] + layers["fc"]["bias"].reshape(1, -1))
        x = x @ layers["classifier"]["kernel"] + layers["classifier"]["bias"].reshape(1, -1)
        np.testing.assert_allclose(head, x, rtol=1e-3, atol=1e-4 * float(jnp.abs(x).max()))


def test_evaluation_does_not_see_the_auxiliary_heads():
    model, variables, images = small()
    without, trunk, _ = small(aux_heads=False)
    assert set(variables["params"]) - set(trunk["params"]) == {"aux1", "aux2"}
    run = jit(lambda v: model.apply(v, images))
    # Leaves are drawn by their names: what both networks have is equal, and evaluation needs no more.
    np.testing.assert_array_equal(run(variables), run(trunk))
    assert not isinstance(run(variables), tuple)
    np.testing.assert_array_equal(jit(lambda v: without.apply(v, images))(trunk), run(trunk))
    logits = jit(lambda v: without.apply(v, images, train=True, rngs={"dropout": KEY}))(trunk)
    assert logits.shape == (2, CLASSES)


@pytest.fixture(scope="module")
def trained():
    """Running statistics before and after a step, and loss by loss the largest gradient of each leaf."""
    model, variables, _ = small(16, variant="torchvision", dropout_rate=0.0, aux_dropout_rate=0.0)
    images, labels = jax.random.normal(KEY, (8, 16, 16, 3)), jnp.arange(8) % CLASSES
    stats = variables["batch_stats"]

    @jit
    def run(params, weights):
        def loss(params):
            heads, new = model.apply(
                {"params": params, "batch_stats": stats}, images, train=True, mutable=["batch_stats"]
            )
            losses = [optax.softmax_cross_entropy_with_integer_labels(head, labels).mean() for head in heads]
            return jnp.stack(losses) @ weights, new["batch_stats"]

        gradients, after = jax.grad(loss, has_aux=True)(params)
        return jax.tree.map(lambda g: jnp.abs(g).max(), gradients), after

    results = [jax.device_get(run(variables["params"], weights)) for weights in jnp.eye(3)]
    return jax.device_get(stats), results[0][1], [sizes for sizes, _ in results]


def test_training_moves_every_running_statistic(trained):
    before, after, _ = trained
    assert "conv_bn" in after["aux1"]
    for (path, old), new in zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True):
        assert (old != new).any(), jax.tree_util.keystr(path)


def test_each_loss_reaches_every_leaf_before_it_and_none_behind(trained):
    stem, threes = {"conv1", "conv2_reduce", "conv2"}, {"inception_3a", "inception_3b"}
    reached = [
        {*stem, *MODULE_NAMES, "fc"},
        {*stem, *threes, "inception_4a", "aux1"},
        {*stem, *threes, "inception_4a", "inception_4b", "inception_4c", "inception_4d", "aux2"},
    ]
    for of_loss, names in zip(trained[2], reached, strict=True):
        for path, size in jax.tree_util.tree_leaves_with_path(of_loss):
            assert math.isfinite(size), jax.tree_util.keystr(path)
            assert (size > 0) == (path[0].key.removesuffix("_bn") in names), jax.tree_util.keystr(path)


@pytest.mark.parametrize("size", [(14, 14), (15, 15), (8, 8), (7, 5), (4, 4), (3, 6), (1, 2)])
def test_adaptive_pool_has_torchs_windows(size):
    height, width = size
    x = np.random.default_rng(0).normal(size=(2, height, width, 3)).astype(np.float32)
    expected = np.zeros((2, 4, 4, 3), np.float32)
    for i in range(4):
        for j in range(4):
            rows = slice(math.floor(i * height / 4), math.ceil((i + 1) * height / 4))
            columns = slice(math.floor(j * width / 4), math.ceil((j + 1) * width / 4))
            expected[:, i, j] = x[:, rows, columns].mean((1, 2))
    np.testing.assert_allclose(adaptive_average_pool(jnp.asarray(x), 4, name="pool"), expected, rtol=1e-5, atol=1e-6)


def test_adaptive_windows_of_14_overlap():
    ramp = jnp.arange(14.0).reshape(1, 14, 1, 1) * jnp.ones((1, 1, 14, 1))
    # Pixels 0-3, 3-6, 7-10 and 10-13.
    assert list(adaptive_average_pool(ramp, 4, name="pool")[0, :, 0, 0]) == [1.5, 4.5, 8.5, 11.5]


def test_auxiliary_pools_of_224_pixels_are_4x4():
    for variant, kind in {"paper": "average pool", "torchvision": "adaptive average pool"}.items():
        found = rows(variant=variant)
        for name, channels in {"aux1": 512, "aux2": 528}.items():
            pool = found[f"{name}/pool"]
            assert (pool.operation, pool.in_shape, pool.out_shape) == (kind, (14, 14, channels), (4, 4, channels))
            if variant == "paper":
                assert (pool.kernel, pool.strides, pool.padding) == ((5, 5), (3, 3), ((0, 0), (0, 0)))


# ------------------------------------------------------------------------------------------------------------- dropout


@pytest.mark.parametrize(
    ("fields", "rate", "aux_rate"),
    [
        ({}, 0.4, 0.7),
        ({"batch_norm": True}, 0.4, 0.7),
        ({"variant": "torchvision"}, 0.2, 0.7),
        ({"dropout_rate": 0.0, "aux_dropout_rate": 0.5}, 0, 0.5),
        ({"variant": "torchvision", "dropout_rate": 0.4}, 0.4, 0.7),
    ],
)
def test_dropout_stands_before_the_last_layer_of_each_classifier(fields, rate, aux_rate):
    found = rows(**fields)
    layers = list(found)
    assert layers[-3:] == ["pool", "dropout", "fc"]
    assert found["dropout"].operation == f"dropout {rate:g}"
    for head in ("aux1", "aux2"):
        own = [name for name in layers if name.startswith(head) and not name.endswith("_bn")]
        assert own == [f"{head}/{layer}" for layer in ("pool", "conv", "fc", "dropout", "classifier")]
        assert found[f"{head}/dropout"].operation == f"dropout {aux_rate:g}"
    assert sum("dropout" in row.operation for row in found.values()) == 3


def test_dropout_changes_training_with_its_key_alone():
    model, variables, images = small()
    run = jit(lambda v, key: model.apply(v, images, train=True, rngs={"dropout": key}))
    one, again, other = run(variables, KEY), run(variables, KEY), run(variables, jax.random.key(1))
    for first, second, third in zip(one, again, other, strict=True):
        np.testing.assert_array_equal(first, second)
        assert not np.allclose(first, third)
    assert not np.allclose(one[0], jit(lambda v: model.apply(v, images))(variables))


# ------------------------------------------------------------------------------------------------------ initial values


def leaves(**fields):
    traced = trace(models.create("googlenet", **fields), (224, 224, 3))
    return {leaf.path[1:]: leaf for leaf in traced.leaves if leaf.path[0] == "params"}


@pytest.mark.parametrize(
    ("fields", "kernel", "bias"),
    [
        ({}, CaffeXavier(), 0.2),
        ({"batch_norm": True}, CaffeXavier(), 0.2),
        # torch's trunc_normal_ cuts at the values -2 and 2, two hundred standard deviations away.
        ({"variant": "torchvision"}, Normal(0.01), 0.0),
        ({"weight_init": "modern"}, HeNormal(), 0.0),
        ({"variant": "torchvision", "weight_init": "modern"}, HeNormal(), 0.0),
    ],
)
def test_initial_values(fields, kernel, bias):
    classifiers = [("fc",), ("aux1", "classifier"), ("aux2", "classifier")]
    for (*layer, leaf), found in leaves(**fields).items():
        if leaf == "kernel":
            assert found.initializer == kernel, layer
        elif not layer[-1].endswith("_bn"):
            assert found.initializer == Constant(0.0 if tuple(layer) in classifiers else bias), layer


@pytest.mark.parametrize(
    ("fields", "spread"),
    [({}, math.sqrt(1 / 864)), ({"weight_init": "modern"}, math.sqrt(2 / 864)), ({"variant": "torchvision"}, 0.01)],
)
def test_a_drawn_kernel_has_its_spread(fields, spread):
    kernel = leaves(**fields)["inception_3a", "3x3", "kernel"]
    assert math.prod(kernel.shape[:-1]) == 864
    drawn = kernel.initializer(KEY, kernel.shape, jnp.float32)
    assert float(drawn.std()) == pytest.approx(spread, rel=0.02)


# -------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"variant": "v2"}, "variant is 'v2'; it can be paper, torchvision"),
        ({"stem": "mnist"}, "stem is 'mnist'; it can be imagenet, cifar"),
        ({"weight_init": "he"}, "weight_init is 'he'; it can be paper, modern"),
        ({"width_factor": 0.0}, "width_factor must be positive, not 0.0"),
    ],
)
def test_refuses_what_there_is_not(fields, message):
    with pytest.raises(UserError, match=message):
        models.create("googlenet", **fields)


@pytest.mark.parametrize(
    ("fields", "least", "message"),
    [
        ({}, 79, "aux1 pools 5x5 windows of maps that are 4x5: take larger images, or set model.aux_heads=False"),
        ({"stem": "cifar"}, 20, "aux1 pools 5x5 windows of maps that are 4x5"),
        ({"aux_heads": False}, 8, "images of 7x8 are too small for this network; take at least 8x8"),
        ({"variant": "torchvision"}, 8, "images of 7x8 are too small"),
        ({"variant": "torchvision", "stem": "cifar"}, 8, "images of 7x8 are too small"),
    ],
)
def test_takes_images_down_to_its_smallest(fields, least, message):
    model = models.create("googlenet", width_factor=0.125, **fields)
    assert models.shapes(model, (least, least, 3))["params"]["fc"]["kernel"].shape == (128, 1000)
    with pytest.raises(UserError, match=message):
        models.shapes(model, (least - 1, least, 3))


def test_unknown_activation_is_answered_with_those_there_are():
    model = models.create("googlenet", batch_norm=True)
    with pytest.raises(UserError, match="no activation 'norm1'; there are conv1, pool1, conv2_reduce"):
        model.apply({}, jnp.zeros((1, 224, 224, 3)), method="features", upto="norm1")
