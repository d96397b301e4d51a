"""Records what torchvision, timm and Keras compute, for tests that then need none of them.

    python -m tests.weights.peers.record [NAME ...]

in an environment of its own, with torch, torchvision, timm and keras (see `versions` in recorded.json). Weights and
images are those of `tests/weights/pattern.py`. Each network of `tests/weights/networks.py` gets two images; its logits
go to `<name>.npy`, float32 [outputs, 2, classes], where outputs is 1 but for GoogLeNet in training mode (logits,
auxiliary 1, auxiliary 2). Single layers are recorded by `tests/weights/peers/layers.py`.
"""

import importlib
import json
import os
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from tests.weights import pattern
from tests.weights.networks import NETWORKS, Network

HERE = Path(__file__).parent

os.environ.setdefault("KERAS_BACKEND", "torch")


def build(network: Network) -> tuple[Any, dict[str, np.ndarray]]:
    """The peer's network with the pattern's weights, and these by its names."""
    if network.lineage == "keras":
        applications = importlib.import_module("keras.applications")
        built = getattr(applications, network.theirs)(weights=None, classifier_activation=None, **network.options)
        return built, _fill_keras(built, network.variance)
    if network.lineage == "timm":
        built = importlib.import_module("timm").create_model(network.theirs, pretrained=False, **network.options)
    else:
        models = importlib.import_module("torchvision.models")
        built = models.get_model(network.theirs, weights=None, **network.options)
    return built, _fill_torch(built, network.variance)


def _fill_torch(built: Any, variance: float) -> dict[str, np.ndarray]:
    import torch

    filled = {name: pattern.torch_tensor(name, tuple(t.shape), variance) for name, t in built.state_dict().items()}
    built.load_state_dict({name: torch.from_numpy(array) for name, array in filled.items()})
    return filled


def _fill_keras(built: Any, variance: float) -> dict[str, np.ndarray]:
    filled = {}
    for layer in built.layers:
        for variable in layer.weights:
            name = f"{layer.name}/{variable.name}"
            filled[name] = pattern.keras_tensor(name, tuple(variable.shape), variance)
            variable.assign(filled[name])
    return filled


def logits(network: Network, built: Any) -> np.ndarray:
    """What a built network puts out for the pattern's images, float32 [outputs, 2, classes].

    Images go in as they are, first channel first: who feeds a BGR network flips them. Training has batch statistics.
    """
    images = pattern.images(2, 224)
    if network.lineage == "keras":
        return np.asarray(built.predict(images, verbose=0), np.float32)[None]
    import torch

    built.train(network.training)
    with torch.no_grad():
        out = built(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    heads = (out.logits, out.aux_logits1, out.aux_logits2) if network.training else (out,)
    return np.stack([head.numpy() for head in heads]).astype(np.float32)


def main(names: list[str]) -> None:
    index_file = HERE / "recorded.json"
    index = json.loads(index_file.read_text()) if index_file.exists() else {"networks": {}}
    index["command"] = "python -m tests.weights.peers.record"
    index["versions"] = {
        package: importlib.import_module(package).__version__
        for package in ("torch", "torchvision", "timm", "keras", "numpy")
    }
    for name in names or NETWORKS:
        built, weights = build(NETWORKS[name])
        out = logits(NETWORKS[name], built)
        np.save(HERE / f"{name}.npy", out)
        index["networks"][name] = {
            "tensors": len(weights),
            "numbers": int(sum(array.size for array in weights.values())),
            "layout_crc32": zlib.crc32(repr([(n, a.shape) for n, a in weights.items()]).encode()),
            "largest_logit": float(np.abs(out).max()),
        }
        index_file.write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")
        print(name, out.shape, index["networks"][name], flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
