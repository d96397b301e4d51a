"""Records what torchvision, timm and Keras compute, for tests that then need none of them.

    python -m tests.weights.peers.record [NAME ...]

in an environment of its own, with torch, torchvision, timm and keras (see `versions` in recorded.json). Weights and
images are those of `tests/weights/pattern.py`. Each network gets two images; its logits go to `<name>.npy`, float32
[outputs, 2, classes], where outputs is 1 but for GoogLeNet in training mode (logits, auxiliary 1, auxiliary 2).
"""

import importlib
import json
import os
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.weights import pattern

HERE = Path(__file__).parent

os.environ.setdefault("KERAS_BACKEND", "torch")


def variance(name: str) -> float:
    """Around which the running variances of a network lie, see `pattern.tensor`."""
    return 4.0 if "resnet" in name.lower() else 1.0


def of_torch(build: Callable[[], Any], variance: float = 1.0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The state_dict of a torch network filled with the pattern, and its logits [1, 2, classes]."""
    import torch

    network = build().eval()
    filled = fill(network, variance)
    with torch.no_grad():
        logits = network(torch.from_numpy(pattern.images(2, 224).transpose(0, 3, 1, 2).copy()))
    return filled, logits.numpy()[None]


def fill(network: Any, variance: float = 1.0) -> dict[str, np.ndarray]:
    """Gives a torch network the pattern's weights."""
    import torch

    filled = {name: pattern.torch_tensor(name, tuple(t.shape), variance) for name, t in network.state_dict().items()}
    network.load_state_dict({name: torch.from_numpy(array) for name, array in filled.items()})
    return filled


def googlenet_in_training(build: Callable[[], Any]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """GoogLeNet with its auxiliary heads, which only training computes: batch statistics, no dropout."""
    import torch

    network = build().train()
    filled = fill(network)
    with torch.no_grad():
        out = network(torch.from_numpy(pattern.images(2, 224).transpose(0, 3, 1, 2).copy()))
    return filled, np.stack([out.logits.numpy(), out.aux_logits1.numpy(), out.aux_logits2.numpy()])


def of_keras(build: Callable[[], Any], variance: float = 1.0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The variables of a Keras network filled with the pattern, and its logits [1, 2, classes].

    Images go in as they are, first channel first: who feeds a BGR network flips them.
    """
    network = build()
    filled = {}
    for layer in network.layers:
        for variable in layer.weights:
            name = f"{layer.name}/{variable.name}"
            filled[name] = pattern.keras_tensor(name, tuple(variable.shape), variance)
            variable.assign(filled[name])
    return filled, np.asarray(network.predict(pattern.images(2, 224), verbose=0), np.float32)[None]


def torchvision(name: str, **kwargs: Any) -> Callable[[], Any]:
    def build() -> Any:
        return getattr(importlib.import_module("torchvision.models"), name)(weights=None, **kwargs)

    return build


def timm(name: str) -> Callable[[], Any]:
    def build() -> Any:
        return importlib.import_module("timm").create_model(name, pretrained=False)

    return build


def keras(name: str, **kwargs: Any) -> Callable[[], Any]:
    def build() -> Any:
        applications = importlib.import_module("keras.applications")
        return getattr(applications, name)(weights=None, classifier_activation=None, **kwargs)

    return build


NETWORKS: dict[str, Callable[[], tuple[dict[str, np.ndarray], np.ndarray]]] = {
    **{
        f"torchvision_{name}": (lambda name=name: of_torch(torchvision(name), variance(name)))
        for name in (
            "alexnet",
            *("vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"),
            *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
        )
    },
    "torchvision_googlenet": lambda: of_torch(torchvision("googlenet", init_weights=False)),
    "torchvision_googlenet_training": lambda: googlenet_in_training(
        torchvision("googlenet", init_weights=False, dropout=0.0, dropout_aux=0.0)
    ),
    **{
        f"timm_{name}": (lambda name=name: of_torch(timm(name), variance(name)))
        for name in ("mobilenetv1_100", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
    },
    **{
        f"keras_{name}": (lambda name=name: of_keras(keras(name), variance(name)))
        for name in ("VGG16", "VGG19", "ResNet50", "ResNet101", "ResNet152")
    },
    **{
        f"keras_MobileNet_{alpha}": (lambda alpha=alpha: of_keras(keras("MobileNet", alpha=alpha)))
        for alpha in (0.25, 0.5, 0.75, 1.0)
    },
}


def main(names: list[str]) -> None:
    index_file = HERE / "recorded.json"
    index = json.loads(index_file.read_text()) if index_file.exists() else {"networks": {}}
    index["command"] = "python -m tests.weights.peers.record"
    index["versions"] = {
        package: importlib.import_module(package).__version__
        for package in ("torch", "torchvision", "timm", "keras", "numpy")
    }
    for name in names or NETWORKS:
        weights, logits = NETWORKS[name]()
        np.save(HERE / f"{name}.npy", logits.astype(np.float32))
        index["networks"][name] = {
            "tensors": len(weights),
            "numbers": int(sum(array.size for array in weights.values())),
            "layout_crc32": zlib.crc32(repr([(n, a.shape) for n, a in weights.items()]).encode()),
            "largest_logit": float(np.abs(logits).max()),
        }
        index_file.write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")
        print(name, logits.shape, index["networks"][name], flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
