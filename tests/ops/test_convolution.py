"""The convolution is the stock one in every formulation, and the stock one alone where accelerators run it."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from dnn_research.ops import convolution
from dnn_research.ops.blocks import Blocks
from dnn_research.ops.convolution import Groups, Narrow, Plain, conv
from dnn_research.ops.depthwise import Depthwise
from dnn_research.ops.lowering import stock_operations
from dnn_research.ops.pointwise import Pointwise
from dnn_research.ops.stock import Geometry, Stock
from dnn_research.ops.winograd import Winograd
from tests.ops.reference import assert_near, normal, pulled, stock_conv

NO_PADDING = ((0, 0), (0, 0))
SAME_3 = ((1, 1), (1, 1))

# Every formulation, at shapes of the networks that get it: images [B, H, W, C], kernel [KH, KW], features, strides,
# padding, groups.
CHOSEN = [
    (Depthwise, (2, 14, 14, 8), (3, 3), 8, (1, 1), SAME_3, 8),
    (Depthwise, (2, 15, 14, 8), (3, 3), 8, (2, 2), ((0, 1), (0, 1)), 8),
    (Depthwise, (2, 128, 80, 32), (3, 3), 32, (2, 2), SAME_3, 32),
    (Groups, (2, 9, 9, 12), (5, 5), 8, (1, 1), ((2, 2), (2, 2)), 2),
    (Groups, (2, 28, 28, 96), (3, 3), 96, (1, 1), SAME_3, 2),
    (Pointwise, (2, 9, 8, 5), (1, 1), 7, (1, 1), NO_PADDING, 1),
    (Pointwise, (8, 28, 28, 16), (1, 1), 8, (2, 2), NO_PADDING, 1),
    (Winograd, (2, 56, 56, 48), (3, 3), 56, (1, 1), SAME_3, 1),
    (Winograd, (4, 30, 27, 64), (3, 3), 48, (1, 1), NO_PADDING, 1),
    (Winograd, (8, 13, 14, 96), (3, 3), 96, (1, 1), ((2, 0), (1, 2)), 1),
    (Winograd, (2, 27, 27, 32), (5, 5), 32, (1, 1), ((2, 2), (2, 2)), 1),
    (Blocks, (2, 67, 64, 3), (11, 11), 8, (4, 4), ((0, 3), (0, 3)), 1),
    (Blocks, (1, 231, 227, 3), (11, 11), 96, (4, 4), NO_PADDING, 1),
    (Narrow, (2, 9, 8, 4), (3, 3), 4, (1, 1), SAME_3, 1),
    (Narrow, (16, 8, 16, 3), (3, 3), 4, (1, 1), SAME_3, 1),
    (Narrow, (2, 5, 12, 2), (2, 11), 3, (1, 1), ((1, 0), (9, 1)), 1),
    (Plain, (2, 9, 10, 4), (3, 3), 4, (1, 1), SAME_3, 1),
    (Plain, (2, 32, 32, 3), (7, 7), 8, (2, 2), ((3, 3), (3, 3)), 1),
    (Plain, (2, 17, 16, 3), (3, 3), 12, (1, 1), SAME_3, 1),
    (Plain, (2, 17, 16, 12), (9, 9), 3, (1, 1), ((4, 4), (0, 3)), 1),
    (Plain, (3, 9, 8, 12), (2, 4), 6, (1, 1), ((1, 0), (2, 2)), 1),
    (Plain, (4, 9, 7, 48), (3, 3), 16, (2, 2), SAME_3, 1),
    (Plain, (2, 4, 4, 16), (3, 3), 16, (1, 1), SAME_3, 1),
    (Plain, (16, 8, 8, 16), (3, 3), 16, (1, 1), SAME_3, 1),
    (Plain, (1, 4, 5, 192), (3, 3), 16, (1, 1), SAME_3, 1),
    (Plain, (2, 9, 8, 192), (3, 3), 16, (2, 2), ((0, 1), (1, 2)), 1),
    (Stock, (2, 2, 2, 3), (3, 3), 4, (1, 1), NO_PADDING, 1),
    (Stock, (2, 8, 8, 3), (3, 3), 4, (1, 1), ((-1, 2), (0, -2)), 1),
]


def compare(shape, window, features, strides, padding, groups, dtype=jnp.float32, tolerance=2e-5):
    images, kernel = normal(*shape, dtype=dtype), normal(*window, shape[-1] // groups, features, dtype=dtype)
    ours, our_gradients = pulled(
        lambda x, k: conv(x, k, strides=strides, padding=padding, groups=groups), jnp.cos, images, kernel
    )
    theirs, gradients = pulled(lambda x, k: stock_conv(x, k, strides, padding, groups), jnp.cos, images, kernel)
    assert {a.dtype for a in (ours, *our_gradients)} == {jnp.dtype(dtype)}
    assert_near(ours, theirs, tolerance)
    # The outputs' gradient is the cosine of the outputs, whose own rounding it shows.
    for mine, other in zip(our_gradients, gradients, strict=True):
        assert_near(mine, other, 5 * tolerance)


@pytest.mark.parametrize(("formulation", "shape", "window", "features", "strides", "padding", "groups"), CHOSEN)
def test_each_formulation_is_the_stock_convolution(formulation, shape, window, features, strides, padding, groups):
    kernel = (*window, shape[-1] // groups, features)
    assert type(convolution.choose(shape, kernel, Geometry(strides, padding, groups))) is formulation
    compare(shape, window, features, strides, padding, groups)


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_equals_the_stock_convolution_over_shapes(data):
    draw = data.draw
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    depthwise = draw(st.booleans())
    channels = groups * draw(st.integers(1, 5))
    groups, features = (channels, channels) if depthwise else (groups, groups * draw(st.integers(1, 5)))
    window = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    padding = draw(st.tuples(*[st.tuples(st.integers(0, 4), st.integers(0, 4))] * 2))
    strides = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    sides = [draw(st.integers(max(1, side - sum(pair)), 12)) for side, pair in zip(window, padding, strict=True)]
    compare((draw(st.integers(1, 4)), *sides, channels), window, features, strides, padding, groups)


@settings(max_examples=12, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_winograd_equals_the_plain_sum_over_shapes(data):
    draw = data.draw
    taps, size = draw(st.sampled_from([(3, 4), (3, 2), (5, 2)]))
    sides = [draw(st.integers(taps, 13)) for _ in range(2)]
    padding = draw(st.tuples(*[st.tuples(*[st.integers(0, taps - 1)] * 2)] * 2))
    examples, channels, features = draw(st.tuples(*[st.integers(1, 4)] * 3))
    images, kernel = normal(examples, *sides, channels), normal(taps, taps, channels, features)
    way = Winograd(padding, size)
    theirs, (of_images, of_kernel) = pulled(lambda x, k: stock_conv(x, k, padding=padding), jnp.cos, images, kernel)
    assert_near(way.convolve(images, kernel), theirs)
    assert_near(way.images_gradient(images.shape, kernel, jnp.cos(theirs)), of_images)
    assert_near(way.kernel_gradient(images, kernel.shape, jnp.cos(theirs)), of_kernel)


@pytest.mark.parametrize("side", [7, 14, 56])
def test_winograd_rounds_a_few_times_as_much_as_the_plain_sum(side):
    images, kernel = normal(4, side, side, 64), normal(3, 3, 64, 64)
    exact = np.zeros((4, side, side, 64))
    around = np.pad(np.asarray(images, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    for i in range(3):
        for j in range(3):
            exact += around[:, i : i + side, j : j + side] @ np.asarray(kernel[i, j], np.float64)
    assert_near(stock_conv(images, kernel, padding=SAME_3), exact, 2e-6)
    for size, tolerance in ((2, 1.5e-6), (4, 6e-6)):
        assert_near(Winograd(SAME_3, size).convolve(images, kernel), exact, tolerance)


@pytest.mark.parametrize(("formulation", "shape", "window", "features", "strides", "padding", "groups"), CHOSEN[::3])
def test_half_precision(formulation, shape, window, features, strides, padding, groups):
    compare(shape, window, features, strides, padding, groups, dtype=jnp.bfloat16, tolerance=2e-2)


def test_an_empty_batch_has_gradients_of_zero():
    images, kernel = jnp.zeros((0, 8, 8, 4)), normal(3, 3, 4, 4)
    outputs, (of_images, of_kernel) = pulled(lambda x, k: conv(x, k, padding=SAME_3), jnp.cos, images, kernel)
    assert outputs.shape == (0, 8, 8, 4) and of_images.shape == images.shape
    assert not of_kernel.any()


@pytest.mark.parametrize("channels", [3, 48])
def test_works_under_scan_remat_and_vmap(channels):
    images = normal(2, 28, 28, channels)
    kernels = normal(4, 3, 3, channels, channels) / channels

    def looped(kernels, convolve):
        def body(x, kernel):
            return jnp.tanh(convolve(x, kernel)), None

        return lax.scan(jax.checkpoint(body), images, kernels)[0].sum()

    gradient = jax.grad(looped)(kernels, lambda x, k: conv(x, k, padding=SAME_3))
    expected = jax.grad(looped)(kernels, lambda x, k: stock_conv(x, k, padding=SAME_3))
    assert_near(gradient, expected, 1e-4)
    mapped = jax.vmap(lambda k: conv(images, k, padding=SAME_3))(kernels)
    assert_near(mapped[2], stock_conv(images, kernels[2], padding=SAME_3))


def lowered(function, *operands, platform):
    return jax.jit(function).trace(*operands).lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
@pytest.mark.parametrize(("formulation", "shape", "window", "features", "strides", "padding", "groups"), CHOSEN[:-2])
def test_accelerators_get_the_stock_operations(
    platform, formulation, shape, window, features, strides, padding, groups
):
    images, kernel = normal(*shape), normal(*window, shape[-1] // groups, features)

    def gradients(convolve):
        def run(images, kernel):
            outputs, pull = jax.vjp(lambda x, k: convolve(x, k), images, kernel)
            return pull(outputs)

        # Names of functions stand in the text.
        return re.sub(r"@\w+|loc\(.*?\)", "", lowered(run, images, kernel, platform=platform))

    ours = gradients(lambda x, k: conv(x, k, strides=strides, padding=padding, groups=groups))
    stock = gradients(lambda x, k: stock_conv(x, k, strides, padding, groups))
    assert ours.count("stablehlo.convolution") == stock.count("stablehlo.convolution") == 3
    for other in ("dot_general", "while", "optimization_barrier", "concatenate"):
        assert other not in ours


def test_a_context_forces_the_stock_operations():
    images, kernel = normal(2, 56, 56, 64), normal(3, 3, 64, 64)
    with stock_operations():
        text = lowered(lambda x, k: conv(x, k, padding=SAME_3), images, kernel, platform="cpu")
    assert text.count("stablehlo.convolution") == 1 and "dot_general" not in text
    text = lowered(lambda x, k: conv(x, k, padding=SAME_3), images, kernel, platform="cpu")
    assert "stablehlo.convolution" not in text and "dot_general" in text


def test_stock_gradients_on_a_cpu_are_in_the_layout_that_loops_are_fast_in():
    images, kernel = normal(2, 9, 9, 3), normal(3, 3, 3, 4)
    way = Stock(Geometry((2, 2), SAME_3))
    gradient = way.convolve(images, kernel)

    def gradients(images, kernel, gradient):
        return way.images_gradient(images.shape, kernel, gradient), way.kernel_gradient(images, kernel.shape, gradient)

    text = lowered(gradients, images, kernel, gradient, platform="cpu")
    layouts = re.findall(r"dim_numbers = (.*?)x(.*?)->(.*?), window", text)
    assert layouts == [("[b, 0, 1, f]", "[0, 1, i, o]", "[b, 0, 1, f]")] * 2
    _, expected = pulled(lambda x, k: stock_conv(x, k, (2, 2), SAME_3), lambda y: y, images, kernel)
    for ours, theirs in zip(gradients(images, kernel, gradient), expected, strict=True):
        assert_near(ours, theirs)


def test_layers_of_equal_shapes_share_what_is_traced(monkeypatch):
    traced = []

    def counting(method):
        def count(self, *arguments):
            traced.append(self)
            return method(self, *arguments)

        return count

    for name in ("convolve", "images_gradient", "kernel_gradient"):
        monkeypatch.setattr(Winograd, name, counting(getattr(Winograd, name)))
    # Shapes that no other test has: what is traced is kept as long as the process lives.
    images, kernels = normal(2, 44, 43, 49), [normal(3, 3, 49, 49, seed=seed) for seed in range(3)]

    def loss(images, kernels):
        for kernel in kernels:
            images = conv(images, kernel, padding=SAME_3)
        return images.sum()

    jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(images, kernels)
    assert len(traced) == 3 and len(set(traced)) == 1
