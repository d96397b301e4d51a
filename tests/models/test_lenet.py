"""LeNet-5 has the paper's sizes, connections and counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnn_research import models
from dnn_research.errors import UserError
from dnn_research.models.lenet import C3_INPUTS, squash

KEY = jax.random.key(0)
IMAGES = jax.random.normal(KEY, (2, 32, 32, 1))

# Trainable parameters as the paper gives them layer by layer; fc is ours.
PARAMS = {"c1": 156, "s2": 12, "c3": 1516, "s4": 32, "c5": 48_120, "f6": 10_164, "fc": 850}
SHAPES = {"c1": (28, 28, 6), "s2": (14, 14, 6), "c3": (10, 10, 16), "s4": (5, 5, 16), "c5": (1, 1, 120)}


@pytest.fixture(scope="module")
def lenet():
    model = models.create("lenet")
    return model, models.initialize(model, KEY, (32, 32, 1))


def test_parameters_of_each_layer(lenet):
    counts = {name: sum(leaf.size for leaf in layer.values()) for name, layer in lenet[1]["params"].items()}
    assert counts == PARAMS


def test_output_sizes(lenet):
    model, variables = lenet
    activations = model.apply(variables, IMAGES, method="features")
    assert list(activations) == list(PARAMS)
    for name, shape in SHAPES.items():
        assert activations[name].shape == (2, *shape)
    assert activations["f6"].shape == (2, 84)
    np.testing.assert_array_equal(activations["fc"], model.apply(variables, IMAGES))


def test_c3_sees_the_maps_of_table_one():
    # The table's column sums: how many maps of C3 each map of S2 reaches.
    assert [sum(source in inputs for inputs in C3_INPUTS) for source in range(6)] == [10] * 6
    assert [len(inputs) for inputs in C3_INPUTS] == [3] * 6 + [4] * 9 + [6]


def test_c3_is_connected_by_table_one(lenet):
    model, variables = lenet
    kernel = variables["params"]["c3"]["kernel"]

    @jax.jit
    def c3(variables):
        return model.apply(variables, IMAGES, method="features", upto="c3")["c3"].sum((0, 1, 2))

    params = variables["params"]
    jacobian = jax.jacobian(lambda s: c3({"params": {**params, "s2": {**params["s2"], "bias": s}}}))(
        params["s2"]["bias"]
    )
    reached = [tuple(int(s) for s in np.flatnonzero(jacobian[target])) for target in range(16)]
    assert reached == list(C3_INPUTS)
    # The filters stand in the table's order: the last six are the last map's.
    moved = c3({"params": {**params, "c3": {**params["c3"], "kernel": kernel.at[:, :, -6:].add(1.0)}}})
    np.testing.assert_array_equal(np.flatnonzero(moved != c3(variables)), [15])


def test_subsampling_is_the_sum_times_a_coefficient_plus_a_bias(lenet):
    model, variables = lenet
    out = model.apply(variables, IMAGES, method="features", upto="s2")
    s2 = variables["params"]["s2"]
    sums = out["c1"].reshape(2, 14, 2, 14, 2, 6).sum((2, 4))
    expected = squash(sums * s2["scale"].reshape(1, 1, 1, 6) + s2["bias"].reshape(1, 1, 1, 6))
    np.testing.assert_allclose(out["s2"], expected, rtol=1e-4, atol=1e-5)


def test_squash_takes_one_to_one():
    np.testing.assert_allclose(squash(jnp.array([-1.0, 0.0, 1.0])), [-1, 0, 1], atol=1e-4)


def test_initial_weights_stay_in_the_papers_range(lenet):
    params = lenet[1]["params"]
    fan_in = {"c1": 25, "s2": 4, "s4": 4, "c5": 400, "f6": 120, "fc": 84}
    for name, fan in fan_in.items():
        largest = max(float(jnp.abs(leaf).max()) for leaf in params[name].values())
        assert 0.3 * 2.4 / fan < largest <= 2.4 / fan
    of_last_map = jnp.abs(params["c3"]["kernel"][:, :, -6:]).max()
    assert 0.9 * 2.4 / 150 < of_last_map <= 2.4 / 150 < jnp.abs(params["c3"]["kernel"][:, :, :18]).max() <= 2.4 / 75


def test_several_channels_deepen_c1_alone():
    shapes = models.shapes(models.create("lenet", num_classes=5), (32, 32, 3))["params"]
    assert shapes["c1"]["kernel"].shape == (5, 5, 3, 6)
    assert shapes["fc"]["kernel"].shape == (84, 5)


def test_gradients_reach_every_leaf(lenet):
    model, variables = lenet
    loss = jax.jit(jax.grad(lambda p: jnp.square(model.apply({"params": p}, IMAGES)).sum()))
    gradients = loss(variables["params"])
    for leaf in jax.tree.leaves(gradients):
        assert jnp.isfinite(leaf).all()
        assert (leaf != 0).any()


def test_computes_in_bfloat16():
    model = models.create("lenet", dtype=jnp.bfloat16)
    variables = models.shapes(model, (32, 32, 1))
    out = jax.eval_shape(lambda v: model.apply(v, IMAGES, method="features"), variables)
    assert {name: a.dtype for name, a in out.items() if a.dtype != jnp.bfloat16} == {"fc": jnp.float32}


@pytest.mark.parametrize("size", [28, 33])
def test_refuses_other_sizes(size):
    with pytest.raises(UserError, match=rf"32x32 images, not {size}x{size}.*image_size=32"):
        models.shapes(models.create("lenet"), (size, size, 1))


def test_refuses_unknown_activation(lenet):
    with pytest.raises(UserError, match=r"no activation 's3'.*c1, s2"):
        lenet[0].apply(lenet[1], IMAGES, method="features", upto="s3")
