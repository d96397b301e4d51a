"""What layers do, and the deeper network that is as good by construction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnn_research import models, recipe
from dnn_research.lab import identity, layers, measures
from dnn_research.lab.measures import MEASURES
from dnn_research.lab.sweep import Sweep
from dnn_research.models.resnet import CifarResNet


def trained(model: CifarResNet) -> dict:
    """Values as training leaves them: none is 0 or 1."""
    variables = models.initialize(model, jax.random.key(1), (16, 16, 3))
    rng = np.random.default_rng(0)

    def moved(leaf: jax.Array) -> jax.Array:
        shifted = leaf + 0.1 * rng.standard_normal(leaf.shape).astype(np.float32)
        return jnp.abs(shifted) if leaf.ndim == 1 else leaf

    return jax.tree.map(moved, variables)


@pytest.mark.parametrize("residual", [True, False])
def test_a_network_extended_by_identities_computes_the_same(residual):
    shallow, deep = (CifarResNet(depth=d, residual=residual, width_factor=0.25) for d in (8, 26))
    variables = trained(shallow)
    extended = jax.tree.map(jnp.asarray, identity.extended(variables, 4, residual=residual))
    wanted = models.shapes(deep, (16, 16, 3))
    assert jax.tree.map(lambda x: x.shape, extended) == jax.tree.map(lambda x: x.shape, wanted)
    images = jax.random.normal(jax.random.key(0), (4, 16, 16, 3))
    expected, found = shallow.apply(variables, images), deep.apply(extended, images)
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_responses_are_those_after_normalization():
    model = CifarResNet(depth=8, width_factor=0.25, scan_blocks=False)
    variables = trained(model)
    images = np.asarray(jax.random.normal(jax.random.key(0), (4, 16, 16, 3)))
    found = layers.response_std(model, variables, images)
    assert list(found) == ["bn1", *(f"stage{s}/block1/bn{n}" for s in (1, 2, 3) for n in (1, 2))]
    twice = jax.tree.map(np.copy, variables)
    twice["params"]["stage3"]["block1"]["bn2"] = {
        name: 2 * leaf for name, leaf in variables["params"]["stage3"]["block1"]["bn2"].items()
    }
    again = layers.response_std(model, twice, images)
    assert again["stage3/block1/bn2"] == pytest.approx(2 * found["stage3/block1/bn2"], rel=1e-5)
    assert again["stage3/block1/bn1"] == found["stage3/block1/bn1"]


def test_blocks_are_looked_into_however_they_run():
    held = recipe.load("configs/resnet110_cifar10.py:smoke", ["model.scan_blocks=True", "model.remat_blocks=True"])
    seen = recipe.unrolled(held, origin="test").config.model
    assert (seen.scan_blocks, seen.remat_blocks) == (False, False)


@pytest.mark.slow
def test_a_run_is_looked_at_layer_by_layer(tiny_experiment, tmp_path):
    more = (
        'MEASURES = ("response_std", "gradient_ratio_initial", "gradient_ratio_final", "extended_error", "test_error")'
    )
    sweep = Sweep(tiny_experiment(more=more), tmp_path)
    run = sweep.run("plain", 0)
    assert len(list(sweep.execute([run]))) == 1
    values = {name: sweep.value(run, name) for name in sweep.experiment.measures}
    assert values["extended_error"] == pytest.approx(values["test_error"], abs=100 / 48 + 1e-6)
    records = measures.read(run.workdir, 8)
    initial, final = (records.layers[f"gradient_norm_{when}"] for when in ("initial", "final"))
    assert list(initial) == ["conv1", *(f"stage{s}/block1/conv{n}" for s in (1, 2, 3) for n in (1, 2))]
    assert initial != final and all(value > 0 for value in [*initial.values(), *final.values()])
    assert values["gradient_ratio_initial"] == pytest.approx(initial["conv1"] / initial["stage3/block1/conv2"])
    assert np.isnan(measures.value(MEASURES["extended_error"], records, diverged=True))
