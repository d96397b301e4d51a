"""The transform and super-resolution networks: sizes, borders, styles, normalization by given statistics.

Counts layer by layer are in test_paper_tables.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnn_research import models
from dnn_research.errors import UserError
from dnn_research.models import transform_net
from dnn_research.ops import transposed
from dnn_research.ops.lowering import stock_operations


def make(name="transform_net", size=16, **fields):
    network = models.create(name, width_factor=0.125, **fields)
    return network, models.initialize(network, jax.random.key(0), (size, size, 3))


def images(count=2, height=16, width=24):
    return 50 * jax.random.normal(jax.random.key(1), (count, height, width, 3))


def sizes(network, variables, images):
    found = {}

    def run(variables):
        found.update({n: x.shape[1:3] for n, x in network.apply(variables, images, method="features").items()})

    jax.eval_shape(run, variables)
    return found


def test_sizes_are_those_of_the_papers_table():
    network, variables = make()
    assert list(sizes(network, variables, jnp.zeros((1, 256, 256, 3))).values()) == [
        (n, n) for n in (336, 168, 84, 80, 76, 72, 68, 64, 128, 256, 256)
    ]
    network, variables = make("super_resolution_net", factor=8)
    assert list(sizes(network, variables, jnp.zeros((1, 36, 36, 3))).values()) == [
        (n, n) for n in (36, 36, 36, 36, 36, 72, 144, 288, 288)
    ]


@pytest.mark.parametrize("variant", transform_net.VARIANTS)
def test_a_picture_keeps_its_size_and_has_gradients_everywhere(variant):
    network, variables = make(variant=variant)
    params, state = variables["params"], {n: tree for n, tree in variables.items() if n != "params"}

    def loss(params):
        made, _ = network.apply({"params": params, **state}, images(), train=True, mutable=list(state))
        return (made**2 * jax.random.normal(jax.random.key(2), made.shape)).mean()

    assert network.apply(variables, images()).shape == (2, 16, 24, 3)
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(params)):
        assert jnp.isfinite(leaf).all(), jax.tree_util.keystr(path)
        # A bias before a normalization moves nothing.
        if path[-1].key != "bias" or "norm" in path[-2].key or path[-2].key == "out":
            assert jnp.abs(leaf).max() > 0, jax.tree_util.keystr(path)


@pytest.mark.parametrize(("variant", "low", "high"), [("paper", 0, 255), ("released", -46.1, 273.7)])
def test_pixels_are_a_scaled_tanh(variant, low, high):
    network, variables = make(variant=variant)
    variables["params"]["out"]["kernel"] *= 1e6
    made = network.apply(variables, images(), train=True, mutable=["batch_stats"])[0]
    assert float(made.min()) == pytest.approx(low, abs=0.1)
    assert float(made.max()) == pytest.approx(high, abs=0.1)


def test_the_border_is_a_reflection_that_the_blocks_take_away():
    network, variables = make(variant="released")
    bordered = jnp.pad(images(), ((0, 0), (40, 40), (40, 40), (0, 0)), mode="reflect")
    own, given = network.apply(variables, images()), network.clone(border=0).apply(variables, bordered)
    np.testing.assert_allclose(own, given, atol=1e-3)


def test_styles_are_rows_of_scales_and_offsets():
    network, variables = make(variant="released", styles=3)
    norm = variables["params"]["res1"]["norm1"]
    assert norm["scale"].shape == norm["bias"].shape == (3, 16)
    leaves = jax.tree_util.tree_map_with_path(
        lambda path, x: x + jax.random.normal(jax.random.key(3), x.shape) if x.ndim == 2 else x, variables
    )
    each = [network.apply(leaves, images(1), mixture=jnp.eye(3)[n : n + 1]) for n in range(3)]
    assert min(float(jnp.abs(each[a] - each[b]).max()) for a, b in ((0, 1), (0, 2), (1, 2))) > 1
    np.testing.assert_array_equal(each[0], network.apply(leaves, images(1)))
    np.testing.assert_allclose(
        network.apply(leaves, images(1).repeat(3, 0), mixture=jnp.eye(3)), jnp.concatenate(each), atol=1e-2
    )
    # One style of several computes what a network of one style does.
    single = jax.tree.map(lambda x: x[1] if x.ndim == 2 else x, leaves)
    np.testing.assert_allclose(network.clone(styles=1).apply(single, images(1)), each[1], atol=1e-2)


@pytest.mark.parametrize(
    ("name", "norm", "same"),
    [
        ("transform_net", "instance", True),
        ("transform_net", "batch", False),
        ("super_resolution_net", "instance", True),
        ("super_resolution_net", "batch", False),
        ("super_resolution_net", "none", True),
    ],
)
def test_only_batch_normalization_sees_more_than_one_image(name, norm, same):
    network, variables = make(name, norm=norm)
    assert ("batch_stats" in variables) is not same
    run = lambda x: network.apply(variables, x, train=True, mutable=["batch_stats"])[0]  # noqa: E731
    alone, together = run(images()[:1]), run(images())[:1]
    assert bool(jnp.allclose(alone, together, atol=1e-2)) is same


def test_transposed_convolution_is_the_stock_one_with_its_gradients():
    x, kernel = (jax.random.normal(jax.random.key(n), s) for n, s in ((0, (2, 5, 7, 3)), (1, (3, 3, 3, 4))))

    def value(x, kernel):
        return (transposed.double(x, kernel) ** 3).sum()

    fast = jax.jit(jax.value_and_grad(value, (0, 1)))(x, kernel)
    with stock_operations():
        stock = jax.value_and_grad(value, (0, 1))(x, kernel)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3), fast, stock)
    # By hand: each pixel spreads the kernel, turned around, over its neighbourhood.
    one = jnp.zeros((1, 3, 3, 1)).at[0, 1, 1, 0].set(1.0)
    taps = jnp.arange(1.0, 10).reshape(3, 3, 1, 1)
    spread = jnp.zeros((6, 6)).at[1:4, 1:4].set(taps[::-1, ::-1, 0, 0])
    np.testing.assert_array_equal(transposed.double(one, taps)[0, :, :, 0], spread)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"variant": "johnson"}, "variant is 'johnson'"),
        ({"norm": "layer"}, "norm is 'layer'"),
        ({"norm": "none"}, "norm is 'none'"),
        ({"styles": 2}, "needs instance normalization"),
        ({"styles": 0}, "1 or more"),
        ({"border": 1}, "border is '1'; it can be None, 0, 40"),
    ],
)
def test_wrong_fields_are_one_line(fields, complaint):
    with pytest.raises(UserError, match=complaint):
        models.create("transform_net", **fields)


def test_sizes_that_do_not_divide_are_refused():
    with pytest.raises(UserError, match="18x16 do not divide by 4"):
        models.shapes(models.create("transform_net"), (18, 16, 3))
    with pytest.raises(UserError, match=r"do not divide by model\.factor=8"):
        models.input_shape(models.create("super_resolution_net", factor=8), (100, 96, 3))
