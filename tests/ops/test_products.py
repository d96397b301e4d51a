"""Products with a transposed matrix are what they say, and XLA leaves them as they were arranged."""

import functools
import re

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnn_research.ops import products
from dnn_research.ops.pointwise import Pointwise
from dnn_research.ops.winograd import Winograd
from tests.ops.reference import TOLERANCES, assert_near, normal

FEW, MANY = 3, 50


@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(
    rows=st.integers(1, 60),
    channels=st.integers(1, 20),
    features=st.integers(1, 20),
    dtype=st.sampled_from([jnp.float32, jnp.bfloat16]),
)
def test_the_product_with_the_transpose(rows, channels, features, dtype):
    left, matrix = normal(rows, features, dtype=dtype), normal(channels, features, dtype=dtype)
    found = jax.jit(products.by_transposed)(left, matrix)
    assert (found.shape, found.dtype) == ((rows, channels), jnp.dtype(dtype))
    assert_near(found, left @ matrix.T, TOLERANCES[dtype])


def compiled_products(function, *arguments):
    """(shape, contracted axis of the left side, of the right side) of each product in the compiled program."""
    text = jax.jit(function).lower(*arguments).compile().as_text()
    found = r"= f32\[([\d,]+)\]\S* dot\(.*lhs_contracting_dims={(\d)}, rhs_contracting_dims={(\d)}"
    products = re.findall(found, text)
    assert len(products) == text.count(" dot(")
    return products


@pytest.mark.parametrize(("rows", "product"), [(FEW, "16,3"), (MANY, "50,16")])
def test_no_compiled_product_has_a_transposed_right_side(rows, product):
    left, matrix = normal(rows, 12), normal(16, 12)
    assert compiled_products(products.by_transposed, left, matrix) == [(product, "1", "0")]
    # What it is there to avoid.
    assert compiled_products(lambda a, b: a @ b.T, left, matrix) == [(f"{rows},16", "1", "1")]


def test_no_gradient_of_images_is_a_product_with_a_transposed_right_side():
    gradient = normal(2, 8, 8, 12)
    winograd = Winograd(((1, 1), (1, 1)), 2)
    for fast, kernel in ((Pointwise((1, 1)), normal(1, 1, 16, 12)), (winograd, normal(3, 3, 16, 12))):
        shape = (2, 8, 8, 16)
        found = compiled_products(lambda k, g, f=fast, s=shape: f.images_gradient(s, k, g), kernel, gradient)
        assert {(left, right) for _, left, right in found} == {("1", "0")}


def test_a_kernel_gradient_of_more_channels_than_features_has_the_features_on_the_left():
    """Of one example, too, where XLA would exchange the sides."""
    images, gradient = normal(1, 8, 8, 16), normal(1, 8, 8, 4)
    of_kernel = functools.partial(Pointwise((1, 1)).kernel_gradient, shape=(1, 1, 16, 4))
    found = compiled_products(lambda x, g: of_kernel(x, gradient=g), images, gradient)
    assert [shape for shape, *_ in found] == ["4,16"]
