"""Local response normalization is the paper's formula, channel by channel, and so is its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnn_research.models.layers import LocalResponseNorm

# Large enough that neighbours count: with the paper's 1e-4 and small activations a wrong window would pass.
ALPHA = 0.3


def images(channels, seed=0):
    return np.random.default_rng(seed).normal(size=(2, 3, 2, channels))


def window(channel, size, channels, groups):
    """The channels around one, of an odd number: as far to either side as there are in its own group."""
    width = channels // groups
    first = channel // width * width
    return [j for j in range(channel - size // 2, channel + size // 2 + 1) if first <= j < first + width]


def scales(x, size, k, alpha, mean, groups):
    """k + alpha sum_j x_j^2 in float64, by a loop."""
    channels = x.shape[-1]
    out = np.empty_like(x)
    for channel in range(channels):
        squares = sum(x[..., j] ** 2 for j in window(channel, size, channels, groups))
        out[..., channel] = k + (alpha / size if mean else alpha) * squares
    return out


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize(
    ("size", "channels", "groups"), [(5, 8, 1), (5, 8, 2), (3, 12, 3), (1, 4, 1), (9, 4, 1), (5, 2, 2)]
)
def test_is_the_formula(size, channels, groups, mean):
    x = images(channels)
    layer = LocalResponseNorm(size, 2.0, ALPHA, 0.75, mean=mean, groups=groups)
    expected = x / scales(x, size, 2.0, ALPHA, mean, groups) ** 0.75
    np.testing.assert_allclose(layer.apply({}, jnp.asarray(x, jnp.float32)), expected, rtol=1e-5)


def test_the_papers_constants_are_the_defaults():
    x = 100 * images(7)
    expected = x / scales(x, 5, 2.0, 1e-4, False, 1) ** 0.75
    np.testing.assert_allclose(LocalResponseNorm().apply({}, jnp.asarray(x, jnp.float32)), expected, rtol=1e-5)


@pytest.mark.parametrize("size", [2, 4])
def test_an_even_size_has_so_many_neighbours_and_itself_among_them(size):
    def normalized(x):
        return LocalResponseNorm(size, 1.0, ALPHA).apply({}, x.reshape(1, 1, 1, 9)).ravel()

    reach = np.asarray(jax.jacobian(normalized)(jnp.ones(9)) != 0)
    for channel in range(size, 9 - size):
        seen = np.flatnonzero(reach[channel])
        assert list(seen) == list(range(seen[0], seen[0] + size))
        assert seen[0] <= channel <= seen[-1]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("mean", [False, True])
def test_its_gradient_is_the_formulas(mean, groups):
    size, k, beta, channels = 5, 1.0, 0.75, 12
    x, outer = images(channels), images(channels, seed=1)
    layer = LocalResponseNorm(size, k, ALPHA, beta, mean=mean, groups=groups)
    _, pull_back = jax.vjp(lambda x: layer.apply({}, x), jnp.asarray(x, jnp.float32))
    (ours,) = pull_back(jnp.asarray(outer, jnp.float32))
    # db_i / da_j = s_i^-beta [i = j] - 2 alpha beta a_i a_j s_i^(-beta - 1) where j is in i's window.
    scale = scales(x, size, k, ALPHA, mean, groups)
    expected = outer * scale**-beta
    for channel in range(channels):
        shared = outer[..., channel] * x[..., channel] * scale[..., channel] ** (-beta - 1)
        for j in window(channel, size, channels, groups):
            expected[..., j] -= 2 * (ALPHA / size if mean else ALPHA) * beta * shared * x[..., j]
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


def test_groups_do_not_see_each_other():
    x = images(8)
    louder = x.copy()
    louder[..., :4] *= 10

    def normalized(x, groups):
        return LocalResponseNorm(5, 2.0, ALPHA, groups=groups).apply({}, jnp.asarray(x, jnp.float32))[..., 4:]

    np.testing.assert_array_equal(normalized(x, 2), normalized(louder, 2))
    changed = np.asarray(normalized(x, 1) != normalized(louder, 1)).any((0, 1, 2))
    np.testing.assert_array_equal(changed, [True, True, False, False])


def test_computes_in_float32_and_rounds_once():
    x = jnp.asarray(images(64), jnp.bfloat16)
    y = LocalResponseNorm(63, 1.0, ALPHA).apply({}, x)
    assert y.dtype == jnp.bfloat16
    exact = np.asarray(x, np.float64)
    expected = exact / scales(exact, 63, 1.0, ALPHA, False, 1) ** 0.75
    np.testing.assert_allclose(y.astype(jnp.float32), expected, rtol=2**-8)
