"""The layers do what their papers and docstrings say."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnn_research.models.layers import (
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    example_positions,
    global_average_pool,
    max_pool,
)

KEY = jax.random.key(0)


def apply(layer: nn.Module, variables: Any, *args: Any, **kwargs: Any) -> Any:
    return layer.apply(variables, *args, **kwargs)


def test_batch_norm_normalizes_and_moves_its_statistics():
    x = 3 + 2 * jax.random.normal(KEY, (8, 4, 4, 5))
    layer = BatchNorm(decay=0.75)
    variables = layer.init(KEY, x, train=False)
    y, updated = apply(layer, variables, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(y.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(y.var((0, 1, 2)), 1, rtol=1e-4)
    np.testing.assert_allclose(updated["batch_stats"]["mean"], 0.25 * x.mean((0, 1, 2)), rtol=1e-5)
    # The biased variance, not torch's.
    np.testing.assert_allclose(updated["batch_stats"]["var"], 0.75 + 0.25 * x.var((0, 1, 2)), rtol=1e-4)


def test_batch_norm_evaluates_with_running_statistics():
    x = jax.random.normal(KEY, (2, 3, 3, 2))
    statistics = {"mean": jnp.array([1.0, 2.0]), "var": jnp.array([4.0, 9.0])}
    params = {"scale": jnp.array([2.0, 3.0]), "bias": jnp.array([0.5, -0.5])}
    y = apply(BatchNorm(), {"params": params, "batch_stats": statistics}, x, train=False)
    np.testing.assert_allclose(y[..., 1], (x[..., 1] - 2) / np.sqrt(9 + 1e-5) * 3 - 0.5, rtol=1e-5, atol=1e-6)


def test_batch_norm_over_an_axis_sees_the_whole_batch():
    # Devices whose means differ: what a mean of local variances would leave out.
    x = jax.random.normal(KEY, (4, 2, 3, 3, 5)) + jnp.arange(4.0).reshape(4, 1, 1, 1, 1)
    whole = BatchNorm()
    variables = whole.init(KEY, x[0], train=False)

    def run(layer, x):
        return apply(layer, variables, x, train=True, mutable=["batch_stats"])

    expected, expected_update = run(whole, x.reshape(8, 3, 3, 5))
    y, update = jax.pmap(lambda x: run(BatchNorm(axis_name="batch"), x), axis_name="batch")(x)
    np.testing.assert_allclose(y.reshape(8, 3, 3, 5), expected, rtol=1e-4, atol=1e-4)
    for device in range(4):
        for name in ("mean", "var"):
            ours, theirs = update["batch_stats"][name][device], expected_update["batch_stats"][name]
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    _, local = jax.pmap(lambda x: run(whole, x))(x)
    assert (local["batch_stats"]["var"].mean(0) < expected_update["batch_stats"]["var"]).all()


def test_batch_norm_initializes_outside_the_parallel_step():
    variables = BatchNorm(axis_name="batch").init(KEY, jnp.ones((2, 3)), train=True)
    np.testing.assert_array_equal(variables["batch_stats"]["mean"], 0)


def test_layers_compute_in_their_dtype_and_keep_float32_variables():
    x = jnp.ones((2, 4, 4, 3))
    layers: list[tuple[nn.Module, Any, dict[str, Any]]] = [
        (Conv(4, (3, 3), dtype=jnp.bfloat16), x, {}),
        (Dense(4, dtype=jnp.bfloat16), x[:, 0, 0], {}),
        (BatchNorm(dtype=jnp.bfloat16), x, {"train": False}),
    ]
    for layer, inputs, kwargs in layers:
        y, variables = layer.init_with_output(KEY, inputs, **kwargs)
        assert y.dtype == jnp.bfloat16
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}


def test_conv_and_dense_add_their_bias():
    x = jnp.ones((1, 2, 2, 3))
    params = {"kernel": jnp.ones((2, 2, 3, 2)), "bias": jnp.array([1.0, -1.0])}
    np.testing.assert_allclose(apply(Conv(2, (2, 2)), {"params": params}, x).ravel(), [13, 11])
    params = {"kernel": jnp.ones((3, 2)), "bias": jnp.array([1.0, -1.0])}
    np.testing.assert_allclose(apply(Dense(2), {"params": params}, x[:, 0, 0]).ravel(), [4, 2])
    assert "bias" not in Conv(2, (2, 2), use_bias=False).init(KEY, x)["params"]


class TwoDropouts(nn.Module):
    rate: float = 0.25

    @nn.compact
    def __call__(self, x, *, train):
        return Dropout(self.rate)(x, train=train), Dropout(self.rate)(x, train=train)


def test_dropout_keeps_the_mean_and_differs_by_example_and_layer():
    x = jnp.ones((16, 1000))
    first, second = apply(TwoDropouts(), {}, x, train=True, rngs={"dropout": KEY})
    assert set(np.unique(first)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs(float((first == 0).mean()) - 0.25) < 0.01
    masks = np.asarray(jnp.concatenate([first, second]) == 0)
    assert len({mask.tobytes() for mask in masks}) == 32


def test_dropout_masks_follow_the_examples_positions():
    x = jnp.ones((8, 50))

    def run(x, positions):
        with example_positions(positions):
            return apply(TwoDropouts(), {}, x, train=True, rngs={"dropout": KEY})[0]

    whole = apply(TwoDropouts(), {}, x, train=True, rngs={"dropout": KEY})[0]
    shares = jax.pmap(run)(x.reshape(4, 2, 50), jnp.arange(8).reshape(4, 2))
    np.testing.assert_array_equal(shares.reshape(8, 50), whole)
    shuffled = jnp.array([3, 1, 4, 0])
    np.testing.assert_array_equal(run(x[:4], shuffled), whole[shuffled])


def test_dropout_does_nothing_in_evaluation_or_at_rate_zero():
    x = jnp.ones((2, 5))
    np.testing.assert_array_equal(apply(TwoDropouts(), {}, x, train=False)[0], x)
    np.testing.assert_array_equal(apply(TwoDropouts(0.0), {}, x, train=True)[0], x)


def test_max_pool_pads_with_minus_infinity():
    x = -jnp.ones((1, 4, 4, 1))
    y = max_pool(x, window_shape=(3, 3), strides=(2, 2), padding=((1, 1), (1, 1)), name="pool")
    np.testing.assert_array_equal(y, -jnp.ones((1, 2, 2, 1)))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_global_average_pool(dtype):
    x = jnp.ones((2, 32, 32, 3), dtype)
    y = global_average_pool(x, name="pool")
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, np.ones((2, 3)))
