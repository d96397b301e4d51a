"""Our variables as torch's: the same names, other axes."""

from collections.abc import Mapping

import numpy as np

# Our leaf -> torch's.
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def converted(variables: Mapping[str, np.ndarray], flattened: Mapping[str, int]) -> dict[str, np.ndarray]:
    """A state_dict, without torch's counters of batches.

    Args:
        variables: `params/stage2/block1/conv1/kernel` -> array, and the same for `batch_stats`.
        flattened: our fully connected layers that see flattened maps -> the channels of those maps.
    """
    state = {}
    for path, array in variables.items():
        _, *layer, leaf = path.split("/")
        if leaf == "kernel":
            array = _kernel(array, flattened.get("/".join(layer)))
        state[".".join([*layer, LEAVES[leaf]])] = np.ascontiguousarray(array)
    return state


def _kernel(kernel: np.ndarray, channels: int | None) -> np.ndarray:
    """[KH, KW, C, N] -> [N, C, KH, KW]; [C, N] -> [N, C], rows in the order H, W, C -> columns in the order C, H, W."""
    if kernel.ndim == 4:
        return kernel.transpose(3, 2, 0, 1)
    if channels is None:
        return kernel.T
    rows, features = kernel.shape
    return kernel.reshape(rows // channels, channels, features).transpose(2, 1, 0).reshape(features, rows)
