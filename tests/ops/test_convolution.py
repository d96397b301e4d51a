"""The convolution equals the stock one, gradients included, and its CPU gradients are in the fast layout."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from dnn_research.ops.convolution import conv

NO_PADDING = ((0, 0), (0, 0))
SAME_3 = ((1, 1), (1, 1))

# images [H, W, C], kernel [KH, KW], features, strides, padding, groups
CASES = [
    ((8, 8, 3), (3, 3), 4, (1, 1), SAME_3, 1),
    ((9, 7, 3), (3, 3), 4, (1, 1), NO_PADDING, 1),
    ((8, 8, 3), (3, 3), 4, (2, 2), SAME_3, 1),
    ((9, 7, 3), (3, 3), 4, (2, 2), SAME_3, 1),
    ((14, 15, 3), (7, 7), 4, (2, 2), ((3, 3), (3, 3)), 1),
    ((8, 8, 4), (1, 1), 6, (1, 1), NO_PADDING, 1),
    ((8, 8, 4), (1, 1), 6, (2, 2), NO_PADDING, 1),
    ((7, 9, 4), (1, 1), 6, (2, 2), NO_PADDING, 1),
    ((1, 1, 4), (3, 3), 2, (2, 2), SAME_3, 1),
    ((2, 3, 4), (3, 3), 2, (2, 2), SAME_3, 1),
    ((8, 8, 2), (2, 4), 3, (1, 1), NO_PADDING, 1),
    ((10, 8, 2), (5, 2), 3, (3, 2), ((2, 1), (0, 3)), 1),
    ((8, 8, 3), (3, 3), 4, (2, 2), ((0, 1), (0, 1)), 1),
    ((20, 20, 3), (11, 11), 4, (4, 4), ((0, 3), (0, 3)), 1),
    ((6, 6, 3), (3, 3), 4, (1, 1), ((4, 3), (3, 5)), 1),
    ((8, 8, 3), (5, 5), 4, (4, 1), ((0, 0), (2, 2)), 1),
    ((8, 7, 4), (3, 3), 6, (1, 1), SAME_3, 2),
    ((9, 8, 6), (5, 3), 9, (2, 3), ((2, 0), (1, 1)), 3),
    ((8, 8, 4), (3, 3), 4, (2, 2), SAME_3, 4),
    ((2, 2, 3), (3, 3), 4, (1, 1), NO_PADDING, 1),
]


def stock(images, kernel, strides, padding, groups):
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        images, kernel, strides, padding, dimension_numbers=layout, feature_group_count=groups
    )


@pytest.mark.parametrize(("image_shape", "window", "features", "strides", "padding", "groups"), CASES)
def test_equals_stock_convolution(image_shape, window, features, strides, padding, groups):
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(2, *image_shape)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(*window, image_shape[-1] // groups, features)), jnp.float32)
    expected, expected_pull = jax.vjp(lambda x, k: stock(x, k, strides, padding, groups), images, kernel)
    outputs, pull = jax.vjp(lambda x, k: conv(x, k, strides=strides, padding=padding, groups=groups), images, kernel)
    np.testing.assert_array_equal(outputs, expected)
    gradient = jnp.asarray(rng.normal(size=expected.shape), jnp.float32)
    for ours, theirs in zip(pull(gradient), expected_pull(gradient), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_keeps_bfloat16():
    images, kernel = jnp.ones((1, 4, 4, 2), jnp.bfloat16), jnp.ones((3, 3, 2, 2), jnp.bfloat16)
    outputs, pull = jax.vjp(lambda x, k: conv(x, k, padding=SAME_3), images, kernel)
    assert [a.dtype for a in (outputs, *pull(outputs))] == [jnp.bfloat16] * 3


def test_works_under_scan_remat_and_vmap():
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(2, 5, 5, 3)), jnp.float32)
    kernels = jnp.asarray(rng.normal(size=(4, 3, 3, 3, 3)), jnp.float32)

    def looped(kernels, convolve):
        def body(x, kernel):
            return jnp.tanh(convolve(x, kernel)), None

        return lax.scan(jax.checkpoint(body), images, kernels)[0].sum()

    gradient = jax.grad(looped)(kernels, lambda x, k: conv(x, k, padding=SAME_3))
    expected = jax.grad(looped)(kernels, lambda x, k: stock(x, k, (1, 1), SAME_3, 1))
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-4)
    mapped = jax.vmap(lambda k: conv(images, k, padding=SAME_3))(kernels)
    np.testing.assert_allclose(mapped[2], stock(images, kernels[2], (1, 1), SAME_3, 1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("platform", "canonical"), [("cpu", True), ("tpu", False), ("cuda", False)])
def test_layout_of_gradients_on_each_platform(platform, canonical):
    def gradients(images, kernel):
        return jax.grad(lambda x, k: conv(x, k, strides=(2, 2), padding=SAME_3).sum(), argnums=(0, 1))(images, kernel)

    images, kernel = jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 4))
    text = jax.jit(gradients).trace(images, kernel).lower(lowering_platforms=(platform,)).as_text()
    layouts = re.findall(r"dim_numbers = (.*?)x(.*?)->(.*?), window", text)
    assert len(layouts) >= 2
    assert all(layout == ("[b, 0, 1, f]", "[0, 1, i, o]", "[b, 0, 1, f]") for layout in layouts) == canonical
