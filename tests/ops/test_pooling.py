"""Pooling is XLA's, to the bit, with its choice among equal maxima."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from dnn_research.ops.pooling import max_pool
from tests.ops.reference import normal, pulled


def stock_pool(images, window, strides, padding):
    pads = ((0, 0), *padding, (0, 0))
    return lax.reduce_window(images, -jnp.inf, lax.max, (1, *window, 1), (1, *strides, 1), pads)


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_equals_the_stock_pool_with_many_ties(data):
    draw = data.draw
    window, strides = (draw(st.tuples(*[st.integers(1, 4)] * 2)) for _ in range(2))
    padding = tuple((draw(st.integers(0, side - 1)), draw(st.integers(0, 3))) for side in window)
    sides = [draw(st.integers(side, 12)) for side in window]
    # Rounded to few values, and many of them zero as after a ReLU.
    images = jnp.maximum(jnp.round(normal(draw(st.integers(1, 3)), *sides, 3)), 0)
    ours, (gradient,) = pulled(lambda x: max_pool(x, window, strides, padding), normal_like, images)
    theirs, (expected,) = pulled(lambda x: stock_pool(x, window, strides, padding), normal_like, images)
    np.testing.assert_array_equal(ours, theirs)
    # Sums of the same few numbers in another order.
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)


def normal_like(outputs):
    return normal(*outputs.shape, seed=1)


def test_without_a_gradient_it_is_the_stock_pool():
    images = normal(2, 9, 9, 3)
    np.testing.assert_array_equal(
        max_pool(images, (3, 3), (2, 2), ((0, 1), (0, 1))), stock_pool(images, (3, 3), (2, 2), ((0, 1), (0, 1)))
    )


def test_half_precision():
    images = normal(2, 9, 9, 3, dtype=jnp.bfloat16)
    outputs, (gradient,) = pulled(lambda x: max_pool(x, (3, 3), (2, 2)), lambda y: y, images)
    assert outputs.dtype == gradient.dtype == jnp.bfloat16


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_accelerators_get_the_stock_operations(platform):
    def gradient(images):
        return jax.grad(lambda x: max_pool(x, (3, 3), (2, 2)).sum())(images)

    text = jax.jit(gradient).trace(normal(2, 9, 9, 3)).lower(lowering_platforms=(platform,)).as_text()
    assert "select_and_scatter" in text
