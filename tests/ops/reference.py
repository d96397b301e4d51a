"""What every formulation is held to: JAX's own operation and its derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# By what is computed in: what `assert_near` lets pass.
TOLERANCES = {jnp.float32: 2e-5, jnp.bfloat16: 2e-2}


def stock_conv(images, kernel, strides=(1, 1), padding=((0, 0), (0, 0)), groups=1):
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        images, kernel, strides, padding, dimension_numbers=layout, feature_group_count=groups
    )


def normal(*shape, seed=0, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng([seed, *shape]).normal(size=shape), dtype)


def assert_near(ours, theirs, tolerance=TOLERANCES[jnp.float32]):
    """The largest difference against the largest number."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max(initial=0) <= tolerance * max(np.abs(theirs).max(initial=0), 1e-3)


def pulled(function, gradient_of, *operands):
    """The outputs of `function`, and the gradients of its operands for the outputs' gradient `gradient_of(outputs)`."""

    @jax.jit
    def run(*operands):
        outputs, pull = jax.vjp(function, *operands)
        return outputs, pull(gradient_of(outputs))

    return run(*operands)
