"""The fully connected product and its gradients are the stock ones, arranged otherwise on a CPU."""

import re

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnn_research.ops.dense import dense
from tests.ops.reference import TOLERANCES, assert_near, normal, pulled


@settings(max_examples=20, deadline=None)
@given(
    examples=st.integers(1, 9),
    channels=st.integers(1, 40),
    features=st.integers(1, 40),
    dtype=st.sampled_from([jnp.float32, jnp.bfloat16]),
)
def test_values_and_gradients_are_those_of_a_matrix_product(examples, channels, features, dtype):
    inputs, kernel = normal(examples, channels, dtype=dtype), normal(channels, features, dtype=dtype)
    ours, our_gradients = pulled(dense, jnp.cos, inputs, kernel)
    theirs, gradients = pulled(jnp.matmul, jnp.cos, inputs, kernel)
    assert {a.dtype for a in (ours, *our_gradients)} == {jnp.dtype(dtype)}
    for mine, other in zip((ours, *our_gradients), (theirs, *gradients), strict=True):
        assert_near(mine, other, TOLERANCES[dtype])


@pytest.mark.parametrize(("platform", "transposed"), [("cpu", False), ("tpu", True), ("cuda", True)])
def test_the_kernel_gradient_is_transposed_only_where_the_stock_operation_is(platform, transposed):
    gradient = jax.jit(jax.grad(lambda kernel, inputs: jnp.sum(jnp.sin(dense(inputs, kernel)))))
    lowered = gradient.trace(normal(7, 5), normal(3, 7)).lower(lowering_platforms=(platform,)).as_text()
    assert bool(re.search(r"dot_general.*-> tensor<5x7xf32>", lowered)) is transposed
    assert bool(re.search(r"dot_general.*-> tensor<7x5xf32>", lowered)) is not transposed


@pytest.mark.parametrize(("platform", "transposed"), [("cpu", False), ("tpu", True), ("cuda", True)])
def test_the_inputs_gradient_reads_the_kernel_across_only_where_the_stock_operation_does(platform, transposed):
    gradient = jax.jit(jax.grad(lambda inputs, kernel: jnp.sum(jnp.sin(dense(inputs, kernel)))))
    lowered = gradient.trace(normal(3, 7), normal(7, 5)).lower(lowering_platforms=(platform,)).as_text()
    assert ("contracting_dims = [1] x [1]" in lowered) is transposed
