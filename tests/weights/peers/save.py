"""Saves a peer's network in the peer's own file formats, with its logits.

    python -m tests.weights.peers.save NAME FOLDER ENDING ...

in an environment as `record.py` needs it. NAME is of `tests/weights/networks.py`; weights and images are the pattern's.
Into FOLDER go one file of weights per ENDING (a key of `WRITERS`), named `weights<ENDING>`, and logits.npy.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.weights.networks import NETWORKS
from tests.weights.peers.record import build, logits


def _torch(built: Any, path: Path, **form: Any) -> None:
    import torch

    torch.save(built.state_dict(), path, **form)


def _safetensors(built: Any, path: Path) -> None:
    from safetensors.torch import save_file

    save_file(built.state_dict(), path)


def _keras(built: Any, path: Path) -> None:
    built.save(path)


def _keras_weights(built: Any, path: Path) -> None:
    built.save_weights(path)


def _keras_weights_legacy(built: Any, path: Path) -> None:
    """As Keras 2 wrote weights alone, and as the published files are; Keras 3 reads them and has no command for it."""
    import h5py
    from keras.src.legacy.saving import legacy_h5_format

    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, built)


WRITERS: dict[str, Callable[[Any, Path], None]] = {
    ".pth": _torch,
    ".legacy.pth": lambda built, path: _torch(built, path, _use_new_zipfile_serialization=False),
    ".safetensors": _safetensors,
    ".keras": _keras,
    ".h5": _keras,
    ".weights.h5": _keras_weights,
    ".weights_alone.h5": _keras_weights_legacy,
}


def main(name: str, folder: str, endings: list[str]) -> None:
    built, _ = build(NETWORKS[name])
    # Before the logits: a network in training moves its statistics.
    for ending in endings:
        WRITERS[ending](built, Path(folder) / f"weights{ending}")
    np.save(Path(folder) / "logits.npy", logits(NETWORKS[name], built))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
