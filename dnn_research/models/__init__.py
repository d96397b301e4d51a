"""The networks, by the names that configs use."""

import dataclasses
from typing import Any

import flax.linen as nn

from dnn_research.errors import UserError, choose, suggest
from dnn_research.models.initialization import initialize, shapes
from dnn_research.models.lenet import LeNet
from dnn_research.models.resnet import CifarResNet, ResNet

__all__ = ["MODELS", "create", "initialize", "shapes"]

MODELS: dict[str, type[nn.Module]] = {
    "lenet": LeNet,
    "resnet": ResNet,
    "resnet_cifar": CifarResNet,
}


def create(name: str, **kwargs: Any) -> nn.Module:
    """Makes a network. `kwargs` are the fields of its class.

    Raises:
        UserError: there is no such network, or it has no such field, or not with such a value.
    """
    network = choose(MODELS, name, "network")
    known = [field.name for field in dataclasses.fields(network) if field.name not in ("parent", "name")]
    for field in kwargs:
        if field not in known:
            raise UserError(f"{name} has no field '{field}'{suggest(field, known)}; it has {', '.join(known)}")
    return network(**kwargs)
