"""The losses are those of the papers and of the authors' code as torch computes them from their formulas."""

import json
import os
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnn_research import models
from dnn_research.tasks import loss_network, perceptual
from tests.tasks.peers import perceptual as peer

ROOT = Path(__file__).resolve().parents[2]
RECORDED = json.loads((Path(peer.__file__).parent / "perceptual.json").read_text())
OURS = {
    name: f"conv{block}_{n}"
    for (block, n), name in zip(
        [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3), (4, 1), (4, 2), (4, 3)],
        [f"features.{i}" for i in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21)],
        strict=True,
    )
}


@pytest.fixture(scope="module")
def network():
    """The peer's VGG as a loss network of ours."""
    params = {
        ours: {
            "kernel": peer.kernels()[f"{theirs}.weight"].transpose(2, 3, 1, 0),
            "bias": peer.kernels()[f"{theirs}.bias"],
        }
        for theirs, ours in OURS.items()
    }
    constants = {"variables": {"params": params}, "scales": {name: np.ones((), np.float32) for name in peer.STYLE}}
    constants = jax.tree.map(jnp.asarray, constants)
    model = models.create("vgg", width_factor=0.25)
    return loss_network.LossNetwork(model, constants, peer.STYLE, peer.MEAN, peer.STD, {})


def losses(network, made, photo, style, kind):
    """(content, style, total variation) of each picture."""
    found, wanted, goal = (network.features(network.constants, p) for p in (made, photo, style))
    content = perceptual.content_loss(found[peer.CONTENT], wanted[peer.CONTENT], kind)
    styles = sum(
        perceptual.style_loss(
            perceptual.gram(found[name], kind), jnp.repeat(perceptual.gram(goal[name], kind), len(made), 0), kind
        )
        for name in peer.STYLE
    )
    return content, styles, perceptual.total_variation(made, kind)


def compare(network, recorded, kind):
    shown = {name: jnp.asarray(p) for name, p in peer.pictures().items()}
    by = peer.WEIGHTS[kind]

    def total(made):
        content, style, tv = losses(network, made, shown["photo"], shown["style"], kind)
        return (by["content"] * content + by["style"] * style + by["tv"] * tv).sum(), (content, style, tv)

    (_, ours), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(shown["made"])
    for values, name in zip(ours, ("content", "style", "tv"), strict=True):
        np.testing.assert_allclose(values, recorded[kind][name], rtol=1e-4, err_msg=name)
    flat = np.asarray(gradient).reshape(-1)
    assert np.linalg.norm(flat) == pytest.approx(recorded[kind]["gradient_norm"], rel=1e-4)
    difference = np.linalg.norm(flat[:: peer.STEP] - recorded[kind]["gradient"])
    assert difference < 1e-4 * np.linalg.norm(recorded[kind]["gradient"])


@pytest.mark.parametrize("kind", perceptual.NORMALIZATIONS)
def test_losses_and_gradients_are_torchs(network, kind):
    compare(network, RECORDED, kind)


@pytest.mark.peer
def test_the_recording_is_what_torch_computes():
    if "DNN_PEER_PYTHON" not in os.environ:
        pytest.skip("DNN_PEER_PYTHON names no Python with torch")
    command = [os.environ["DNN_PEER_PYTHON"], "-m", "tests.tasks.peers.perceptual", "--print"]
    found = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)
    for kind in perceptual.NORMALIZATIONS:
        for name, values in RECORDED[kind].items():
            np.testing.assert_allclose(found[kind][name], values, rtol=1e-6, err_msg=f"{kind} {name}")


def test_a_picture_of_the_styles_size_has_no_style_loss_to_itself():
    maps = jax.random.normal(jax.random.key(0), (1, 6, 7, 5))
    for kind in perceptual.NORMALIZATIONS:
        matrix = perceptual.gram(maps, kind)
        assert float(perceptual.style_loss(matrix, matrix, kind)[0]) == 0
        # A style of twice the size that repeats itself is the same style.
        twice = perceptual.gram(jnp.concatenate([maps, maps], 1), kind)
        assert float(perceptual.style_loss(matrix, twice, kind)[0]) < 1e-10
