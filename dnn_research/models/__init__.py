"""The networks, by the names that configs use."""

import dataclasses
from typing import Any

import flax.linen as nn

from dnn_research.errors import UserError, choose, construct, suggest
from dnn_research.models import stage
from dnn_research.models.alexnet import AlexNet
from dnn_research.models.googlenet import GoogLeNet
from dnn_research.models.initialization import initialize, shapes
from dnn_research.models.lenet import LeNet
from dnn_research.models.mobilenet import MobileNet
from dnn_research.models.nin import NIN
from dnn_research.models.resnet import CifarResNet, ResNet
from dnn_research.models.transform_net import SuperResolutionNet, TransformNet
from dnn_research.models.vgg import VGG

__all__ = [
    "IMAGE_NETWORKS",
    "MODELS",
    "create",
    "fully_convolutional",
    "initialize",
    "input_shape",
    "shapes",
    "stacks",
    "towers",
]

MODELS: dict[str, type[nn.Module]] = {
    "lenet": LeNet,
    "alexnet": AlexNet,
    "vgg": VGG,
    "nin": NIN,
    "googlenet": GoogLeNet,
    "resnet": ResNet,
    "resnet_cifar": CifarResNet,
    "mobilenet": MobileNet,
    "transform_net": TransformNet,
    "super_resolution_net": SuperResolutionNet,
}

# Those that give pixels; all others give logits.
IMAGE_NETWORKS = ("transform_net", "super_resolution_net")


def create(name: str, **kwargs: Any) -> nn.Module:
    """Makes a network. `kwargs` are the fields of its class; None is the same as not given.

    Raises:
        UserError: there is no such network, or it has no such field, or not with such a value.
    """
    network = choose(MODELS, name, "network")
    kwargs = {field: value for field, value in kwargs.items() if value is not None}
    known = [field.name for field in dataclasses.fields(network) if field.name not in ("parent", "name")]
    for field in kwargs:
        if field not in known:
            raise UserError(f"{name} has no field '{field}'{suggest(field, known)}; it has {', '.join(known)}")
    return construct(network, "config.model", kwargs)


def input_shape(network: nn.Module, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """(H, W, C) of what a network takes where the data set's images are `image_shape`: for super-resolution, smaller.

    Raises:
        UserError: the images do not divide by the factor.
    """
    if not isinstance(network, SuperResolutionNet):
        return image_shape
    height, width, channels = image_shape
    if height % network.factor or width % network.factor:
        raise UserError(f"images of {height}x{width} do not divide by model.factor={network.factor}")
    return height // network.factor, width // network.factor, channels


def towers(network: nn.Module, axis: str) -> tuple[nn.Module, int, dict[str, int]]:
    """How a network runs over the devices of `axis`.

    Returns:
        The network as each device runs it, how many neighbouring devices share one copy of it, and path of a parameter
        -> the axis along which they hold its parts: (network, 1, {}) for all that have no towers.
    """
    if isinstance(network, AlexNet) and network.towers > 1:
        return network.clone(tower_axis=axis), network.towers, network.tower_axes
    return network, 1, {}


def stacks(network: nn.Module) -> dict[str, tuple[str, ...]]:
    """The equal blocks that a network loops over, whose variables it takes one by one or stacked: path of the stack ->
    the names of its members.
    """
    scans = isinstance(network, (ResNet, CifarResNet)) and network.scan_blocks
    return stage.stacks(network.stages) if scans else {}


def fully_convolutional(network: nn.Module, image_size: int) -> nn.Module:
    """The same network, with the same variables, for images of `image_size` and larger: its logits are then the mean of
    the class scores over all positions.

    Fully connected layers over maps become convolutions. A network whose last layers are the mean over all positions
    and at most one linear layer is that already: the mean goes through a linear layer.

    Args:
        image_size: of the images that the network was trained on.

    Raises:
        UserError: the network takes images of one size only.
    """
    if isinstance(network, (VGG, AlexNet)):
        if network.fully_convolutional:
            return network
        return network.clone(fully_convolutional=True, image_size=image_size)
    if isinstance(network, LeNet) or (isinstance(network, (NIN, GoogLeNet)) and network.head == "fc"):
        raise UserError(
            f"{type(network).__name__} takes images of one size only: dense evaluation is for VGG, AlexNet and the "
            "networks that end in a mean over all positions"
        )
    return network
