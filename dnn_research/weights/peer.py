"""What a peer's own network computes, layer by layer, from a file of weights: a script for the peer's Python.

    PEER_PYTHON peer.py FOLDER

It needs NumPy and the peer (torch and torchvision, timm, or Keras 3 with one of its back ends), nothing of this
package: what it says is independent of how we read the file. FOLDER holds

    images.npy     float32 [B, H, W, C], as the network takes them
    request.json   lineage: torchvision, timm or keras
                   network: the name of the network there; options: its keyword arguments
                   file: of weights, which the peer reads itself
                   wrappers: keys under which a file of torch may hold the weights
                   layers: names of the layers whose outputs are wanted
                   heads: whether auxiliary heads are to run

and gets `layers.npz`, name -> float32 [B, H, W, C] or [B, C], and `versions.json`. Outputs are those of evaluation,
before the layer's activation function. A name that the network does not have, or that does not run, is left out.
"""

import importlib
import importlib.util
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np

BACKENDS = ("torch", "tensorflow", "jax")


def main(folder: Path) -> None:
    """Answers the request in `folder`."""
    # Python puts the script's own directory first, where other modules could be taken for the peer's.
    here = str(Path(__file__).resolve().parent)
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry or ".") != here]
    request = json.loads((folder / "request.json").read_text())
    images = np.load(folder / "images.npy")
    outputs: dict[str, Any] = (_keras_outputs if request["lineage"] == "keras" else _torch_outputs)(request, images)
    np.savez(folder / "layers.npz", **outputs)
    (folder / "versions.json").write_text(json.dumps(_versions()))


def _versions() -> dict[str, str]:
    """Of Python and of those libraries that have been imported."""
    names = [name for name in ("numpy", "torchvision", "timm", "keras", *BACKENDS) if name in sys.modules]
    return {"python": platform.python_version(), **{name: sys.modules[name].__version__ for name in names}}


def _torch_outputs(request: dict[str, Any], images: np.ndarray) -> dict[str, np.ndarray]:
    torch = importlib.import_module("torch")
    if request["lineage"] == "timm":
        create = importlib.import_module("timm").create_model
        network = create(request["network"], pretrained=False, **request["options"])
    else:
        create = importlib.import_module("torchvision.models").get_model
        network = create(request["network"], weights=None, **request["options"])
    network.load_state_dict(_state_dict(Path(request["file"]), request["wrappers"]))
    network.eval()
    # GoogLeNet asks this of itself, and then runs its heads; its layers stay in evaluation.
    network.training = request["heads"]

    outputs: dict[str, np.ndarray] = {}
    modules = dict(network.named_modules())
    for name in request["layers"]:
        if name in modules:
            _watch(modules[name], name, outputs)
    with torch.no_grad():
        network(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    return outputs


def _state_dict(path: Path, wrappers: list[str]) -> dict[str, Any]:
    """The tensors of a file of torch or of safetensors, by name."""
    with path.open("rb") as file:
        head = file.read(9)
    if head[8:] == b"{":
        return importlib.import_module("safetensors.torch").load_file(path)
    found = importlib.import_module("torch").load(path, map_location="cpu", weights_only=True)
    wrapped = [found[key] for key in wrappers if isinstance(found.get(key), dict)]
    return wrapped[0] if wrapped else found


def _watch(module: Any, name: str, outputs: dict[str, np.ndarray]) -> None:
    """Keeps what a module puts out. What follows may work in place, so it is copied at once."""

    def keep(tensor: Any) -> None:
        array = tensor.numpy()
        outputs[name] = np.array(array.transpose(0, 2, 3, 1) if array.ndim == 4 else array, np.float32, order="C")

    # timm's normalization applies the activation function too: what goes into that is meant.
    activation = getattr(module, "act", None)
    if activation is None:
        module.register_forward_hook(lambda module, inputs, output: keep(output))
    else:
        activation.register_forward_pre_hook(lambda module, inputs: keep(inputs[0]))


def _keras_outputs(request: dict[str, Any], images: np.ndarray) -> dict[str, np.ndarray]:
    if "KERAS_BACKEND" not in os.environ:
        os.environ["KERAS_BACKEND"] = next((name for name in BACKENDS if importlib.util.find_spec(name)), BACKENDS[0])
    keras = importlib.import_module("keras")
    network = getattr(keras.applications, request["network"])(weights=None, **request["options"])
    network.load_weights(request["file"])
    layers = [layer for layer in network.layers if layer.name in request["layers"]]
    inputs = keras.Model(network.inputs, {layer.name: layer.input for layer in layers}).predict(images, verbose=0)
    outputs = {}
    for layer in layers:
        # Keras' convolutions apply the activation function too: the layer is run on its input once more, without.
        if hasattr(layer, "activation"):
            layer.activation = keras.activations.linear
        outputs[layer.name] = np.asarray(keras.ops.convert_to_numpy(layer(inputs[layer.name])), np.float32)
    return outputs


if __name__ == "__main__":
    main(Path(sys.argv[1]))
