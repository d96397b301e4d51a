"""A deeper network that is as good as a shallower one by construction.

He, Zhang, Ren, Sun 2015, section 1: add layers that are identities to a trained network; so a deeper plain network
with the shallower one's error exists, and a higher training error of a trained one is the fault of its training. A
plain block is an identity with kernels that pass each channel on (ReLU keeps what a block puts out, which is not
negative), a residual one when its last scale is zero. Normalization by running statistics is meant, as in evaluation.
"""

from typing import Any

import numpy as np

from dnn_research import checkpoint, parallel, train
from dnn_research.errors import UserError
from dnn_research.recipe import Recipe, changed

# The depth that trained networks are extended to.
DEPTH = 110
EPSILON = 1e-5


def extended(variables: dict[str, Any], length: int, *, residual: bool) -> dict[str, Any]:
    """The variables of a CIFAR network whose stages are `length` blocks long, the added ones identities.

    Args:
        variables: of a shallower network, trained.
        length: blocks of each stage, at least as many as there are.
        residual: whether the network has shortcuts.
    """
    params, statistics = ({**variables[name]} for name in ("params", "batch_stats"))
    for stage in (name for name in variables["params"] if name.startswith("stage")):
        there = len(params[stage])
        width = params[stage]["block1"]["conv2"]["kernel"].shape[-1]
        added = [f"block{number}" for number in range(there + 1, length + 1)]
        params[stage] = {**params[stage], **{name: _block(width, residual=residual) for name in added}}
        statistics[stage] = {**statistics[stage], **{name: _statistics(width) for name in added}}
    return {**variables, "params": params, "batch_stats": statistics}


def error(recipe: Recipe, workdir: Any) -> float:
    """The test error [%] of a run's trained network, extended to `DEPTH` layers.

    Raises:
        UserError: the network is deeper, or not a CIFAR network.
    """
    model = recipe.config.model
    if model.name != "resnet_cifar" or model.depth > DEPTH:
        raise UserError(f"only a CIFAR network of up to {DEPTH} layers can be extended to that, not {model.name}")
    setup = train.set_up(changed(recipe, {"model.depth": DEPTH}, origin="the lab"), workdir)
    trained = checkpoint.load_variables(checkpoint.find(workdir))
    deeper = extended(trained, (DEPTH - 2) // 6, residual=model.residual)
    params = deeper.pop("params")
    network = parallel.replicate((params, deeper), setup.layout)
    return 100 * (1 - train.evaluate(setup, network).values["top1_accuracy"])


def _block(width: int, *, residual: bool) -> dict[str, Any]:
    passing = np.zeros((3, 3, width, width), np.float32)
    passing[1, 1] = np.eye(width, dtype=np.float32)
    # What undoes the division by the root of variance and epsilon.
    kept, nothing = np.full(width, np.sqrt(1 + EPSILON), np.float32), np.zeros(width, np.float32)
    return {
        "conv1": {"kernel": passing},
        "bn1": {"scale": kept, "bias": nothing},
        "conv2": {"kernel": passing.copy()},
        "bn2": {"scale": nothing if residual else kept.copy(), "bias": nothing.copy()},
    }


def _statistics(width: int) -> dict[str, Any]:
    def fresh() -> dict[str, np.ndarray]:
        return {"mean": np.zeros(width, np.float32), "var": np.ones(width, np.float32)}

    return {"bn1": fresh(), "bn2": fresh()}
