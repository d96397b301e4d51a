"""Initial values come from names and distributions alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnn_research import models
from dnn_research.models.initialization import Constant, HeNormal, Normal, Uniform, trace

KEY = jax.random.key(3)
CIFAR = (32, 32, 3)


def leaves(tree):
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def shapes(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


@pytest.mark.parametrize(
    ("name", "kwargs", "image_shape"),
    [
        ("lenet", {}, (32, 32, 1)),
        ("resnet_cifar", {"depth": 20}, CIFAR),
        ("resnet", {"depth": 50, "zero_init_last": True}, (64, 64, 3)),
    ],
)
def test_the_tree_is_that_of_init(name, kwargs, image_shape):
    model = models.create(name, **kwargs)
    theirs = jax.eval_shape(model.init, KEY, jnp.zeros((1, *image_shape)))
    assert shapes(models.shapes(model, image_shape)) == shapes(theirs)


def test_initialize_draws_what_plain_init_draws():
    model = models.create("resnet_cifar", depth=8, width_factor=0.5, zero_init_last=True)
    ours = models.initialize(model, KEY, CIFAR)
    quickly = {"xla_backend_optimization_level": 0}
    theirs = jax.jit(model.init, compiler_options=quickly)(KEY, jnp.zeros((1, *CIFAR)))
    assert shapes(ours) == shapes(theirs)
    for (path, leaf), other in zip(leaves(ours).items(), leaves(theirs).values(), strict=True):
        if "kernel" in path:
            assert not np.array_equal(leaf, other)
            if leaf.size > 1000:
                np.testing.assert_allclose(leaf.std(), other.std(), rtol=0.15)
        else:
            np.testing.assert_array_equal(leaf, other)


def test_values_depend_on_key_and_name_alone():
    small = leaves(models.initialize(models.create("resnet_cifar", depth=20), KEY, CIFAR))
    deep = leaves(models.initialize(models.create("resnet_cifar", depth=32, shortcut="B"), KEY, CIFAR))
    for path in small:
        np.testing.assert_array_equal(small[path], deep[path])
    other = leaves(models.initialize(models.create("resnet_cifar", depth=20), jax.random.key(4), CIFAR))
    kernels = [path for path in small if "kernel" in path]
    assert not any(np.array_equal(small[path], other[path]) for path in kernels)
    # Leaves of equal shape share a compiled function but not their values.
    assert len({np.asarray(small[path]).tobytes() for path in kernels}) == len(kernels)


def test_resnet_kernels_are_he_normal():
    for leaf in trace(models.create("resnet", depth=50), (64, 64, 3)).leaves:
        expected = {"kernel": HeNormal(), "scale": Constant(1.0), "bias": Constant(0.0)}
        expected |= {"mean": Constant(0.0), "var": Constant(1.0)}
        assert leaf.initializer == expected[leaf.path[-1]]


def test_initializers():
    shape = (3, 3, 50, 4)
    drawn = HeNormal()(KEY, shape, jnp.float32)
    np.testing.assert_allclose(drawn.std(), np.sqrt(2 / 450), rtol=0.05)
    # Not truncated at two standard deviations.
    assert np.abs(drawn).max() > 3 * np.sqrt(2 / 450)
    assert HeNormal() == HeNormal()
    assert hash(Uniform(0.5)) == hash(Uniform(0.5))
    assert Normal(0.1) != Normal(0.2)
    np.testing.assert_array_equal(Constant(2.0)(KEY, (3,), jnp.float32), [2, 2, 2])
    np.testing.assert_allclose(Normal(0.1)(KEY, shape, jnp.float32).std(), 0.1, rtol=0.05)
    uniform = Uniform((0.5, 1.0, 2.0, 4.0))(KEY, shape, jnp.float32)
    np.testing.assert_allclose(jnp.abs(uniform).max((0, 1, 2)), [0.5, 1, 2, 4], rtol=0.02)
    np.testing.assert_allclose(uniform.mean((0, 1, 2)), 0, atol=0.3)
