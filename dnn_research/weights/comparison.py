"""Our layers against a peer's, with weights that each side read from the same file for itself.

The peer's Python runs `peer.py`. Outputs of convolutions, batch normalizations and fully connected layers are compared,
each before its activation function and in evaluation, auxiliary heads included. A convolution whose bias our convention
folds into the running mean of the normalization after it (Keras' ResNets) puts out something else there: it is compared
at that normalization's output.
"""

import dataclasses
import json
import re
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from dnn_research.errors import UserError, choose
from dnn_research.models.layers import frozen_layers
from dnn_research.weights import conventions, files, torch_file

SCRIPT = Path(__file__).with_name("peer.py")

Fields = Mapping[str, Any]

VGG_DEPTHS = {"A": 11, "B": 13, "D": 16, "E": 19}


@dataclasses.dataclass(frozen=True)
class Peer:
    """Whom to ask.

    Attributes:
        python: the program that has the lineage's library.
        file: the weights as they were before we imported them.
    """

    python: str
    file: Path


@dataclasses.dataclass(frozen=True)
class Network:
    """A network as its library makes it.

    Attributes:
        name: of the constructor.
        options: its keyword arguments beside the number of classes.
    """

    name: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def _torchvision_vgg(fields: Fields) -> Network:
    depth = choose(VGG_DEPTHS, fields["variant"], "variant of torchvision's VGG")
    return Network(f"vgg{depth}{'_bn' if fields['batch_norm'] else ''}", {"init_weights": False})


def _torchvision_googlenet(fields: Fields) -> Network:
    heads = bool(fields["aux_heads"])
    return Network("googlenet", {"aux_logits": heads, "transform_input": False, "init_weights": False})


def _torch_resnet(fields: Fields) -> Network:
    return Network(f"resnet{fields['depth']}")


# Lineage -> network here -> fields of ours -> theirs.
NETWORKS: dict[str, dict[str, Callable[[Fields], Network]]] = {
    "torchvision": {
        "alexnet": lambda fields: Network("alexnet"),
        "vgg": _torchvision_vgg,
        "googlenet": _torchvision_googlenet,
        "resnet": _torch_resnet,
    },
    "timm": {
        "resnet": _torch_resnet,
        "mobilenet": lambda fields: Network(f"mobilenetv1_{round(100 * fields['width']):03d}"),
    },
    "keras": {
        "vgg": lambda fields: Network(f"VGG{choose(VGG_DEPTHS, fields['variant'], 'variant of VGG')}"),
        "resnet": lambda fields: Network(f"ResNet{fields['depth']}"),
        "mobilenet": lambda fields: Network("MobileNet", {"alpha": fields["width"]}),
    },
}


def compare(
    peer: Peer,
    imported: Mapping[str, Any] | None,
    model: nn.Module,
    fields: Fields,
    variables: Mapping[str, Any],
    images: np.ndarray,
) -> dict[str, Any]:
    """How far our layers' outputs are from the peer's.

    Args:
        peer: whom to ask.
        imported: what the run says of the file that it was imported from.
        model, fields: our network and what it was made of.
        variables: our network's.
        images: float32 [B, H, W, C], RGB after normalization.

    Returns:
        What the certificate says of the peer: its network and versions, `layers` (our name -> `theirs`,
        `max_abs_difference` and `max_relative_difference`, see `differences`) and `folded`, our convolutions that are
        compared at the normalization after them.

    Raises:
        UserError: the file is not the one that was imported, there is no peer for its lineage, the peer does not run,
            or a layer has no counterpart.
    """
    if imported is None:
        raise UserError("the run was not imported from a file that a peer could read; leave out --peer_python")
    lineage = imported["lineage"]
    theirs = peer_network(lineage, fields, images.shape[1:])
    if not peer.file.is_file():
        raise UserError(f"there is no file {peer.file}")
    digest = files.sha256(peer.file)
    if digest != imported["sha256"]:
        raise UserError(
            f"{peer.file} is not the file that was imported, {imported['file']}: its sha256 is {digest}, "
            f"not {imported['sha256']}"
        )
    pairs, folded = counterparts(conventions.convention(lineage, fields["name"]).entries(fields))
    request = {
        "lineage": lineage,
        "network": theirs.name,
        "options": dict(theirs.options),
        "file": str(peer.file.absolute()),  # and not where a link leads: Keras goes by the name's ending
        "wrappers": list(torch_file.WRAPPERS),
        "layers": list(pairs.values()),
        "heads": _has_heads(fields),
    }
    # A network that was trained on BGR takes blue first; ours was turned around.
    outputs, versions = ask(peer.python, request, images[..., ::-1] if imported["channels"] == "bgr" else images)
    layers = differences(pairs, layer_outputs(model, variables, images, set(pairs)), outputs)
    return {"lineage": lineage, "network": theirs.name, "versions": versions, "layers": layers, "folded": folded}


def peer_network(lineage: str, fields: Fields, image_shape: Sequence[int]) -> Network:
    """The peer's network for one of ours, with all its keyword arguments.

    Raises:
        UserError: there is no peer for the lineage, or it has no such network.
    """
    if lineage not in NETWORKS:
        raise UserError(
            f"there is no peer for the lineage {lineage}, but for {', '.join(NETWORKS)}; leave out --peer_python"
        )
    network = choose(NETWORKS[lineage], fields["name"], f"network of {lineage}")(fields)
    more: dict[str, Any] = {"num_classes": fields["num_classes"]}
    if lineage == "keras":
        more = {"classes": fields["num_classes"], "classifier_activation": None, "input_shape": list(image_shape)}
    return dataclasses.replace(network, options={**network.options, **more})


def counterparts(entries: Sequence[conventions.Entry]) -> tuple[dict[str, str], list[str]]:
    """Our layer -> theirs, of those whose outputs can be compared, and our layers whose bias was folded away."""
    folded = {_layer(entry.theirs) for entry in entries if entry.fold}
    pairs = {_layer(entry.ours.partition("/")[2]): _layer(entry.theirs) for entry in entries if not entry.fold}
    return (
        {ours: theirs for ours, theirs in pairs.items() if theirs not in folded},
        [ours for ours, theirs in pairs.items() if theirs in folded],
    )


def _layer(name: str) -> str:
    """A parameter's name without its last part: 'layer1.0.conv1' of 'layer1.0.conv1.weight'."""
    return re.sub(r"[./][^./]+$", "", name)


def layer_outputs(
    model: nn.Module, variables: Mapping[str, Any], images: np.ndarray, layers: set[str]
) -> dict[str, np.ndarray]:
    """What layers of our network put out in evaluation, auxiliary heads included: name -> [B, H, W, C] or [B, C].

    Args:
        layers: names such as 'stage2/block1/conv1'; one that the network does not have or run is left out.
    """
    fields = {field: getattr(model, field) for field in model.__dataclass_fields__}
    heads = _has_heads(fields)
    # Heads run in training alone, which has dropout.
    no_dropout: dict[str, Any] = {field: 0.0 for field in fields if field.endswith("dropout_rate")}
    network = model.clone(**no_dropout)

    def run(variables: Mapping[str, Any], images: jax.Array) -> Any:
        # Frozen, normalization uses its running statistics in training too, and blocks run one by one instead of in a
        # loop, where their layers could not be seen.
        with frozen_layers(lambda path: True):
            _, state = network.apply(
                variables,
                images,
                train=heads,
                mutable=["intermediates"],
                capture_intermediates=lambda module, _: "/".join(module.path) in layers,
            )
        return state["intermediates"]

    kept: dict[str, Any] = traverse_util.flatten_dict(jax.jit(run)(variables, jnp.asarray(images)), sep="/")
    return {path.removesuffix("/__call__"): np.asarray(calls[0]) for path, calls in kept.items()}


def _has_heads(fields: Fields) -> bool:
    return bool(fields.get("aux_heads", False))


def ask(python: str, request: Mapping[str, Any], images: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The outputs of the peer's layers, by its names, and its versions; see `peer.py`.

    Raises:
        UserError: the peer cannot be run or fails; its last line is quoted.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "images.npy", images)
        (folder / "request.json").write_text(json.dumps(request))
        try:
            done = subprocess.run(
                [python, str(SCRIPT), name],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
        except OSError as error:
            raise UserError(f"cannot run the peer {python}: {error.strerror}") from error
        answers = [folder / "layers.npz", folder / "versions.json"]
        if done.returncode != 0 or not all(answer.exists() for answer in answers):
            said = done.stderr.strip().splitlines() or [f"it ended with status {done.returncode} and no word"]
            raise UserError(f"the peer {python} failed: {said[-1]}")
        with np.load(answers[0]) as outputs:
            return dict(outputs), json.loads(answers[1].read_text())


def differences(
    pairs: Mapping[str, str], ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]
) -> dict[str, dict[str, Any]]:
    """Our layer -> `theirs` (its name there), `max_abs_difference`, and that relative to their largest absolute value.

    Args:
        pairs: our layer -> theirs.
        ours, theirs: outputs by layer; axes of length 1 count for nothing.

    Raises:
        UserError: a layer has no counterpart, of the same shape, or its outputs are not finite.
    """
    found = {}
    for name, other in pairs.items():
        if name not in ours or other not in theirs:
            raise UserError(f"the layer '{name}' has no counterpart: '{other}' of the peer put nothing out")
        mine, its = ours[name].squeeze(), theirs[other].squeeze()
        if mine.shape != its.shape:
            raise UserError(
                f"the layer '{name}' has no counterpart: it puts out {ours[name].shape}, '{other}' of the peer "
                f"{theirs[other].shape}"
            )
        if not (np.isfinite(mine).all() and np.isfinite(its).all()):
            raise UserError(f"the layer '{name}' or '{other}' of the peer puts out values that are not finite")
        absolute, largest = float(np.abs(mine - its).max()), float(np.abs(its).max())
        found[name] = {
            "theirs": other,
            "max_abs_difference": absolute,
            "max_relative_difference": absolute / max(largest, float(np.finfo(np.float32).tiny)),
        }
    return found


def worst(layers: Mapping[str, Mapping[str, Any]]) -> str:
    """Our name of the layer with the largest relative difference."""
    return max(layers, key=lambda name: layers[name]["max_relative_difference"])
