"""What the layers of a network do: the spread of their responses, and the gradients that reach them.

He, Zhang, Ren, Sun 2015, section 4.2 ("Analysis of Layer Responses", figure 7): the standard deviations of the outputs
of the 3x3 layers, after batch normalization and before the nonlinearity and the addition; section 4.1: the gradients of
plain networks are healthy, so it is not that they vanish.
"""

import json
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dnn_research import checkpoint, parallel, train
from dnn_research.lab import identity
from dnn_research.models.layers import BatchNorm
from dnn_research.recipe import Recipe, unrolled

# Images that the layers are looked at with.
EXAMPLES = 256


def write(recipe: Recipe, workdir: Path) -> None:
    """Looks at the layers of a trained run and writes `layers.json`.

    It holds `response_std` of the trained network, and `gradient_norm_initial` and `gradient_norm_final`: name of a
    layer -> number, in the order of the layers; and `extended_error`, see `identity.error`.
    """
    setup = train.set_up(unrolled(recipe, origin="the lab"), workdir)
    with setup.dataset.train_batches(batch_size=EXAMPLES, seed=setup.seed) as batches:
        batch = next(batches)
    images = np.asarray(setup.dataset.normalize(batch["image"], batch.get("color_shift")))
    trained = checkpoint.load_variables(checkpoint.find(workdir))
    params, model_state = setup.task.init(parallel.initial_key(setup.seed))
    gradients = _gradient_norms(setup)
    (workdir / "layers.json").write_text(
        json.dumps(
            {
                "response_std": response_std(setup.task.model, trained, images),
                "gradient_norm_initial": gradients({"params": params, **model_state}, batch),
                "gradient_norm_final": gradients(trained, batch),
                "extended_error": identity.error(recipe, workdir),
            }
        )
    )


def response_std(model: nn.Module, variables: dict[str, Any], images: np.ndarray) -> dict[str, float]:
    """Layer -> standard deviation of what its batch normalization puts out, over images, pixels and channels.

    Args:
        model: a network that does not scan its blocks.
        variables: its parameters and running statistics.
        images: normalised [B, H, W, C].
    """

    def run(variables: Any, images: jax.Array) -> dict[str, jax.Array]:
        _, seen = model.apply(
            variables,
            images,
            train=False,
            capture_intermediates=lambda module, _: isinstance(module, BatchNorm),
            mutable=["intermediates"],
        )
        return {
            jax.tree_util.keystr(path[:-2], simple=True, separator="/"): jnp.std(leaf)
            for path, leaf in jax.tree_util.tree_leaves_with_path(seen["intermediates"])
        }

    found = jax.device_get(jax.jit(run)(variables, images))
    return {name: float(found[name]) for name in _ordered(found)}


def _gradient_norms(setup: train.Setup) -> Any:
    """(variables, batch) -> {convolution: norm of the gradient of its kernel}, in training mode."""
    task = setup.task

    def run(params: Any, model_state: Any, batch: Any) -> dict[str, jax.Array]:
        grads = jax.grad(lambda p: task.loss(p, model_state, batch, jax.random.key(0))[0])(params)
        return {
            jax.tree_util.keystr(path[:-1], simple=True, separator="/"): jnp.linalg.norm(leaf)
            for path, leaf in jax.tree_util.tree_leaves_with_path(grads)
            if leaf.ndim == 4
        }

    compiled = jax.jit(run)

    def norms(variables: dict[str, Any], batch: Any) -> dict[str, float]:
        positions = np.arange(EXAMPLES, dtype=np.int32)
        state = {name: tree for name, tree in variables.items() if name != "params"}
        found = jax.device_get(compiled(variables["params"], state, {**batch, "position": positions}))
        return {name: float(found[name]) for name in _ordered(found)}

    return norms


def _ordered(names: Any) -> list[str]:
    """Layers as the images pass them: the stem, then stages and their blocks by number."""

    def key(name: str) -> tuple[Any, ...]:
        parts = name.split("/")
        return (len(parts) > 1, *((part.rstrip("0123456789"), _number(part)) for part in parts))

    return sorted((name for name in names if "shortcut" not in name), key=key)


def _number(part: str) -> int:
    digits = part[len(part.rstrip("0123456789")) :]
    return int(digits) if digits else 0
