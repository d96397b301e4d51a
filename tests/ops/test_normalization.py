"""Normalizations against their definitions, differentiated by JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnn_research import parallel
from dnn_research.ops.normalization import batch_norm, local_response_norm
from tests.ops.reference import assert_near, normal, pulled

EPSILON = 1e-3


def plain_batch_norm(images, scale, bias):
    axes = tuple(range(images.ndim - 1))
    mean, var = images.mean(axes, keepdims=True), images.var(axes, keepdims=True)
    shape = (1,) * (images.ndim - 1) + scale.shape
    return (images - mean) / jnp.sqrt(var + EPSILON) * scale.reshape(shape) + bias.reshape(shape)


@pytest.mark.parametrize("shape", [(4, 5, 6, 3), (16, 7), (1, 1, 2, 4)])
def test_batch_norm_and_its_gradients(shape):
    operands = 3 * normal(*shape) + 2, normal(shape[-1], seed=1), normal(shape[-1], seed=2)
    ours, gradients = pulled(lambda *o: batch_norm(*o, epsilon=EPSILON)[0], jnp.cos, *operands)
    theirs, expected = pulled(plain_batch_norm, jnp.cos, *operands)
    assert_near(ours, theirs)
    for mine, other in zip(gradients, expected, strict=True):
        assert_near(mine, other, 1e-4)
    _, mean, var = batch_norm(*operands, epsilon=EPSILON)
    axes = tuple(range(len(shape) - 1))
    assert_near(mean, operands[0].mean(axes))
    assert_near(var, operands[0].var(axes), 1e-4)


def test_batch_norm_over_devices_is_that_of_all_their_examples():
    images, scale, bias = 3 * normal(16, 5, 5, 3) + 2, normal(3, seed=1), normal(3, seed=2)
    devices = jax.local_device_count()

    def gradients(images, scale, bias, axis_name=None):
        outputs, pull = jax.vjp(lambda *o: batch_norm(*o, epsilon=EPSILON, axis_name=axis_name)[0], images, scale, bias)
        return outputs, *pull(jnp.cos(outputs))

    apart = images.reshape(devices, -1, *images.shape[1:])
    run = jax.pmap(lambda x, s, b: gradients(x, s, b, parallel.AXIS), axis_name=parallel.AXIS, in_axes=(0, None, None))
    ours = run(apart, scale, bias)
    theirs = gradients(images, scale, bias)
    for mine, other in zip(ours[:2], theirs[:2], strict=True):
        assert_near(mine.reshape(other.shape), other, 1e-4)
    # Each device has its own examples' share in the gradients of what all of them hold.
    for mine, other in zip(ours[2:], theirs[2:], strict=True):
        assert_near(mine.sum(0), other, 1e-4)


def plain_lrn(images, *, size, k, alpha, beta, groups):
    before = (size - 1) // 2
    width = images.shape[-1] // groups
    sums = []
    for i in range(images.shape[-1]):
        group = i // width * width
        first, last = max(group, i - before), min(group + width, i - before + size)
        sums.append(jnp.square(images[..., first:last]).sum(-1))
    return images / (k + alpha * jnp.stack(sums, -1)) ** beta


@pytest.mark.parametrize(
    "options",
    [
        dict(size=5, k=2.0, alpha=0.1, beta=0.75, groups=1),
        dict(size=5, k=2.0, alpha=0.1, beta=0.75, groups=2),
        dict(size=4, k=1.0, alpha=0.3, beta=0.5, groups=1),
        dict(size=9, k=1.0, alpha=0.3, beta=0.75, groups=3),
    ],
)
def test_local_response_norm_and_its_gradient(options):
    images = normal(2, 3, 4, 12)
    ours, (gradient,) = pulled(lambda x: local_response_norm(x, **options), jnp.cos, images)
    theirs, (expected,) = pulled(lambda x: plain_lrn(x, **options), jnp.cos, images)
    assert_near(ours, theirs)
    assert_near(gradient, expected)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_accelerators_sum_over_windows(platform):
    def gradient(images):
        return jax.grad(lambda x: local_response_norm(x, size=5, k=2, alpha=1, beta=0.75).sum())(images)

    text = jax.jit(gradient).trace(normal(2, 3, 3, 8)).lower(lowering_platforms=(platform,)).as_text()
    assert "reduce_window" in text and "dot_general" not in text


def test_rounding_of_the_variance_is_never_negative():
    images = jnp.full((2, 3, 3, 1), 1e4, jnp.float32)
    outputs, _, var = batch_norm(images, jnp.ones(1), jnp.zeros(1), epsilon=EPSILON)
    assert float(var[0]) >= 0 and np.isfinite(outputs).all()
