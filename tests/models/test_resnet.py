"""The residual networks have the structure that the paper claims, however they run."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnn_research import models
from dnn_research.errors import UserError
from dnn_research.models import stage as execution
from dnn_research.models.initialization import Constant, trace
from dnn_research.models.layers import BatchNorm, Conv
from dnn_research.models.resnet import BASIC, BOTTLENECK, Bottleneck
from dnn_research.models.stage import Stage
from dnn_research.ops.lowering import stock_operations

KEY = jax.random.key(0)

# Compiling is all that takes time here.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture
def scan_short_stages(monkeypatch):
    """Lets networks scan that compile fast enough for a test."""
    monkeypatch.setattr(execution, "FEWEST_TO_SCAN", 2)


def shapes(name, image_shape=(64, 64, 3), **kwargs):
    return models.shapes(models.create(name, **kwargs), image_shape)


def small(**kwargs):
    """A CIFAR network of three blocks a stage that compiles fast, its variables and images."""
    model = models.create("resnet_cifar", **{"depth": 20, "width_factor": 0.25, **kwargs})
    return model, models.initialize(model, KEY, (8, 8, 3)), jax.random.normal(KEY, (4, 8, 8, 3))


def feature_shapes(model, image_shape, **kwargs):
    names = []

    def features(variables, images):
        out = model.apply(variables, images, method="features", **kwargs)
        names.extend(out)  # tracing returns dicts sorted by key
        return list(out.values())

    out = jax.eval_shape(features, models.shapes(model, image_shape), jnp.zeros((2, *image_shape)))
    return {name: activation.shape[1:] for name, activation in zip(names, out, strict=True)}


@pytest.mark.parametrize("depth", [*BASIC, *BOTTLENECK])
def test_output_sizes_of_table_one(depth):
    model = models.create("resnet", depth=depth)
    out = feature_shapes(model, (224, 224, 3))
    factor = 1 if depth in BASIC else 4
    assert list(out)[:2] == ["conv1", "pool1"]
    assert out["conv1"] == (112, 112, 64)
    assert out["pool1"] == (56, 56, 64)
    sizes = {"stage2": (56, 64), "stage3": (28, 128), "stage4": (14, 256), "stage5": (7, 512)}
    for (stage, length), (size, width) in zip(model.stages.items(), sizes.values(), strict=True):
        for block in range(1, length + 1):
            assert out[f"{stage}/block{block}"] == (size, size, factor * width)
        assert f"{stage}/block{length + 1}" not in out
    assert list(out)[-2:] == ["pool", "fc"]
    assert out["fc"] == (1000,)
    convolutions = sum(model.stages.values()) * (2 if depth in BASIC else 3)
    assert convolutions + 2 == depth


@pytest.mark.parametrize(("size", "sizes"), [(32, (32, 16, 8)), (28, (28, 14, 7)), (8, (8, 4, 2)), (9, (9, 5, 3))])
def test_output_sizes_of_cifar(size, sizes):
    out = feature_shapes(models.create("resnet_cifar", depth=32), (size, size, 1))
    for stage, stage_size, width in zip((1, 2, 3), sizes, (16, 32, 64), strict=True):
        assert out[f"stage{stage}/block5"] == (stage_size, stage_size, width)
    assert out["fc"] == (10,)


def test_width_factor_and_classes():
    out = feature_shapes(models.create("resnet", depth=50, width_factor=0.25, num_classes=7), (64, 64, 3))
    assert (out["conv1"][-1], out["stage5/block3"][-1], out["fc"]) == (16, 512, (7,))


def projections(params):
    return [
        f"{stage}/{block}"
        for stage, blocks in params.items()
        if stage.startswith("stage")
        for block, layers in blocks.items()
        if "shortcut_conv" in layers
    ]


def test_shortcut_options():
    count = {option: projections(shapes("resnet", depth=34, shortcut=option)["params"]) for option in "ABC"}
    assert count["A"] == []
    assert count["B"] == ["stage3/block1", "stage4/block1", "stage5/block1"]
    assert len(count["C"]) == 16
    bottleneck = projections(shapes("resnet", depth=50)["params"])
    assert bottleneck == [f"stage{stage}/block1" for stage in (2, 3, 4, 5)]


def test_names():
    variables = shapes("resnet", depth=50)
    for collection, leaf in (("params", "scale"), ("batch_stats", "var")):
        tree = variables[collection]
        expected = {"conv1", "bn1", "stage2", "stage3", "stage4", "stage5", "fc"}
        assert set(tree) == (expected if collection == "params" else expected - {"conv1", "fc"})
        assert set(tree["stage3"]) == {"block1", "block2", "block3", "block4"}
        for norm in ("bn1", "bn2", "bn3", "shortcut_bn"):
            assert leaf in tree["stage3"]["block1"][norm]
    block = variables["params"]["stage3"]["block2"]
    assert set(block) == {"conv1", "bn1", "conv2", "bn2", "conv3", "bn3"}
    assert set(block["conv1"]) == {"kernel"}
    assert set(variables["params"]["fc"]) == {"kernel", "bias"}


def test_option_a_subsamples_and_appends_zeros():
    model, variables, images = small(shortcut="A", zero_init_last=True)
    out = jit(lambda v, x: model.apply(v, x, method="features"))(variables, images)
    # With a zero last scale a block is relu(shortcut), and its input is not negative.
    before, after = out["stage1/block3"], out["stage2/block1"]
    np.testing.assert_allclose(after[..., :4], before[:, ::2, ::2], rtol=1e-6)
    np.testing.assert_array_equal(after[..., 4:], 0)


def test_plain_network_has_no_shortcut():
    model, variables, images = small(residual=False)
    params = variables["params"]
    silent = {**params["stage2"]["block2"], "bn2": jax.tree.map(jnp.zeros_like, params["stage2"]["block2"]["bn2"])}
    muted = {**variables, "params": {**params, "stage2": {**params["stage2"], "block2": silent}}}
    features = jit(lambda v: model.apply(v, images, method="features", upto="stage2/block2"))
    assert (features(variables)["stage2/block2"] != 0).any()
    np.testing.assert_array_equal(features(muted)["stage2/block2"], 0)


def test_zero_init_last_zeroes_the_last_scale_alone():
    traced = trace(models.create("resnet", depth=50, zero_init_last=True), (64, 64, 3))
    scales = [leaf for leaf in traced.leaves if leaf.path[-1] == "scale"]
    zeroed = {leaf.path[-2] for leaf in scales if leaf.initializer == Constant(0.0)}
    ones = {leaf.path[-2] for leaf in scales if leaf.initializer == Constant(1.0)}
    assert zeroed == {"bn3"}
    assert ones == {"bn1", "bn2", "shortcut_bn"}


@pytest.mark.parametrize(("stride_in", "size"), [("1x1", 4), ("3x3", 8)])
def test_stride_in_bottlenecks(stride_in, size):
    traced = trace(models.create("resnet", depth=50, stride_in=stride_in), (32, 32, 3))
    by_name = {operation.name: operation for operation in traced.operations}
    assert by_name["stage3/block1/conv1"].out_shape[:2] == (size, size)
    assert by_name["stage3/block1/conv2"].out_shape[:2] == (4, 4)
    assert by_name["stage3/block2/conv1"].strides == (1, 1)


def train_step(model, variables, images):
    def loss(params):
        logits, updated = model.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
        return jnp.square(logits - 1).mean(), (logits, updated["batch_stats"])

    gradients, (logits, statistics) = jit(jax.grad(loss, has_aux=True))(variables["params"])
    return {"gradients": gradients, "logits": logits, "statistics": statistics}


class BottleneckStage(nn.Module):
    scan_blocks: bool = False
    remat_blocks: bool = False

    @nn.compact
    def __call__(self, images, *, train=False):
        conv = functools.partial(Conv, use_bias=False)
        make_block = functools.partial(Bottleneck, 4, conv=conv, norm=BatchNorm, shortcut="B")
        blocks = Stage(make_block, 4, (2, 2), self.scan_blocks, self.remat_blocks, name="stage")
        return blocks(images, train=train)[0].mean((1, 2))


@pytest.mark.parametrize(
    ("unrolled", "size", "runs"),
    [
        (models.create("resnet_cifar", depth=20, width_factor=0.25), 8, [(True, False), (False, True), (True, True)]),
        (BottleneckStage(), 8, [(True, False)]),
    ],
)
def test_how_it_runs_changes_nothing(unrolled, size, runs, scan_short_stages):
    unrolled = unrolled.clone(scan_blocks=False, remat_blocks=False)
    variables = models.initialize(unrolled, KEY, (size, size, 3))
    images = jax.random.normal(KEY, (4, size, size, 3))
    expected = train_step(unrolled, variables, images)
    for scan_blocks, remat_blocks in runs:
        other = unrolled.clone(scan_blocks=scan_blocks, remat_blocks=remat_blocks)
        jax.tree.map(np.testing.assert_array_equal, variables, models.initialize(other, KEY, (size, size, 3)))
        ours = train_step(other, variables, images)
        assert jax.tree.structure(expected) == jax.tree.structure(ours)
        for (path, theirs), leaf in zip(
            jax.tree_util.tree_leaves_with_path(expected), jax.tree.leaves(ours), strict=True
        ):
            scale = float(jnp.abs(theirs).max()) + 1e-6
            np.testing.assert_allclose(leaf, theirs, atol=1e-4 * scale, err_msg=jax.tree_util.keystr(path))
    for gradient in jax.tree.leaves(expected["gradients"]):
        assert jnp.isfinite(gradient).all()
        assert (gradient != 0).any()
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), variables["batch_stats"], expected["statistics"])
    assert all(jax.tree.leaves(moved))


@pytest.mark.parametrize(("depth", "scan_blocks", "scans"), [(44, True, 3), (44, False, 0), (38, True, 0)])
def test_scans_one_body_a_stage_of_many_blocks(depth, scan_blocks, scans):
    model = models.create("resnet_cifar", depth=depth, scan_blocks=scan_blocks)
    variables = models.shapes(model, (32, 32, 3))
    with stock_operations():
        text = str(jax.make_jaxpr(model.apply)(variables, jnp.zeros((1, 32, 32, 3))))
    assert text.count(" scan[") == scans


@pytest.mark.parametrize("scan_blocks", [False, True])
def test_features_are_the_same_and_stop_at_upto(scan_blocks, scan_short_stages):
    model, variables, images = small(scan_blocks=scan_blocks)
    full = jit(lambda v: model.apply(v, images, method="features"))(variables)
    np.testing.assert_allclose(full["fc"], jit(model.apply)(variables, images), rtol=1e-5, atol=1e-5)
    unrolled = model.clone(scan_blocks=False)
    for upto in ("conv1", "stage2/block1", "stage2/block3", "pool"):
        part = jit(lambda v, upto=upto: model.apply(v, images, method="features", upto=upto))(variables)
        names = [f"stage{stage}/block{block}" for stage in (1, 2, 3) for block in (1, 2, 3)]
        names = ["conv1", *names, "pool", "fc"]
        if not scan_blocks:
            closed = jax.make_jaxpr(lambda v, upto=upto: unrolled.apply(v, images, method="features", upto=upto))
            convolutions = 1 + 2 * sum(name.startswith("stage") for name in names[: names.index(upto) + 1])
            with stock_operations():
                program = str(closed(variables))
            assert program.count("conv_general_dilated[") == convolutions
        assert set(part) == set(names[: names.index(upto) + 1])
        for name, activation in part.items():
            np.testing.assert_allclose(activation, full[name], rtol=1e-4, atol=1e-5)


def test_training_and_evaluation_differ():
    model, variables, images = small()
    evaluated = jit(model.apply)(variables, images)
    trained, _ = jit(lambda v: model.apply(v, images, train=True, mutable=["batch_stats"]))(variables)
    assert not np.allclose(evaluated, trained)


@pytest.mark.parametrize("scan_blocks", [False, True])
def test_shares_statistics_over_devices(scan_blocks, scan_short_stages):
    model, variables, _ = small(scan_blocks=scan_blocks, depth=20)
    images = jax.random.normal(KEY, (2, 2, 8, 8, 3)) * jnp.array([1.0, 3.0]).reshape(2, 1, 1, 1, 1)
    expected, expected_update = jit(lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"]))(
        variables, images.reshape(4, 8, 8, 3)
    )
    shared = model.clone(batch_norm_axis="batch")
    step = jax.pmap(
        lambda v, x: shared.apply(v, x, train=True, mutable=["batch_stats"]), axis_name="batch", in_axes=(None, 0)
    )
    logits, update = step(variables, images)
    np.testing.assert_allclose(logits.reshape(4, 10), expected, rtol=1e-3, atol=1e-3)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b, rtol=1e-3, atol=1e-4), update, expected_update)


@pytest.mark.parametrize("name", ["resnet", "resnet_cifar"])
def test_computes_in_bfloat16_and_puts_out_float32(name):
    model = models.create(name, dtype=jnp.bfloat16)
    variables = models.shapes(model, (32, 32, 3))
    out = jax.eval_shape(lambda v: model.apply(v, jnp.zeros((1, 32, 32, 3)), method="features"), variables)
    assert {activation: a.dtype for activation, a in out.items() if a.dtype != jnp.bfloat16} == {"fc": jnp.float32}
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("resnet", {"depth": 51}, "resnet has no depth 51; it has 18, 34, 50, 101, 152"),
        ("resnet", {"depth": 50, "residual": False}, "plain networks have basic blocks: depth 18, 34, not 50"),
        ("resnet", {"shortcut": "D"}, "shortcut is 'D'; it can be A, B, C"),
        ("resnet", {"stride_in": "5x5"}, "stride_in is '5x5'; it can be 1x1, 3x3"),
        ("resnet", {"width_factor": 0.0}, "width_factor must be positive, not 0.0"),
        ("resnet", {"depth": 18, "residual": False, "zero_init_last": True}, "zero_init_last=True"),
        ("resnet_cifar", {"depth": 2}, "no depth 2; it has 6n"),
        ("resnet_cifar", {"depth": 21}, "no depth 21; it has 6n \\+ 2: 20, 32"),
        ("resnet_cifar", {"shortcut": "D"}, "shortcut is 'D'; it can be A, B, C"),
    ],
)
def test_refuses_what_the_paper_does_not_have(name, kwargs, message):
    with pytest.raises(UserError, match=message):
        models.create(name, **kwargs)


@pytest.mark.parametrize(("name", "size", "least"), [("resnet", 31, 32), ("resnet_cifar", 7, 8)])
def test_refuses_small_images(name, size, least):
    with pytest.raises(UserError, match=f"{size}x{size} are too small.*at least {least}x{least}"):
        shapes(name, (size, size, 3))
    shapes(name, (least, least, 1))


def test_refuses_unknown_activation():
    model = models.create("resnet", depth=18)
    with pytest.raises(UserError, match="no activation 'stage2/block3'; there are conv1, pool1, stage2/block1"):
        feature_shapes(model, (64, 64, 3), upto="stage2/block3")
