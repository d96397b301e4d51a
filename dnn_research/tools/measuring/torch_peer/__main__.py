"""The benchmark networks in PyTorch, layer by layer as ours, and the program that runs them in the peer's Python.

    PEER_PYTHON -m dnn_research.tools.measuring.torch_peer FOLDER

Written as a user of PyTorch would: torch's own layers, ReLU in place. Every submodule with parameters is named as our
layer is, so that weights convert by name (`weights.py`); what FOLDER holds and what is said over the pipes stands in
`service.py`.
"""

import importlib
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

from dnn_research.tools.measuring.torch_peer import service

# Not by an import statement: in our own Python there is no torch.
torch: Any = importlib.import_module("torch")
nn: Any = torch.nn
Module: Any = nn.Module

# Channels of a module's 1x1, 3x3 reduction, 3x3, 5x5 reduction, 5x5 and pool projection.
INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
RESNET_BLOCKS = {50: (3, 4, 6, 3), 152: (3, 8, 36, 3)}
VGG16_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
MOBILENET_PAIRS = (
    *((1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512)),
    *((1, 512),) * 5,
    *((2, 1024), (1, 1024)),
)


class Halves(Module):
    """Local response normalization that does not cross from one half of the channels to the other."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Any) -> Any:
        return torch.cat([self.norm(half) for half in x.chunk(2, 1)], 1)


class GlobalAveragePool(Module):
    """The mean over all positions."""

    def forward(self, x: Any) -> Any:
        return x.mean((2, 3))


def relu() -> Any:
    """As users of torch have it: the outputs take the place of the inputs."""
    return nn.ReLU(inplace=True)


def sequential(**layers: Any) -> Any:
    """Layers one after the other, by name."""
    return nn.Sequential(OrderedDict(layers))


def alexnet(classes: int) -> Any:
    """The paper's, in two groups; its alpha multiplies the sum of five squares, torch's their mean."""

    def norm() -> Any:
        return Halves(nn.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2.0))

    return sequential(
        pad=nn.ZeroPad2d((0, 3, 0, 3)),
        conv1=nn.Conv2d(3, 96, 11, 4),
        relu1=relu(),
        norm1=norm(),
        pool1=nn.MaxPool2d(3, 2, ceil_mode=True),
        conv2=nn.Conv2d(96, 256, 5, padding=2, groups=2),
        relu2=relu(),
        norm2=norm(),
        pool2=nn.MaxPool2d(3, 2, ceil_mode=True),
        conv3=nn.Conv2d(256, 384, 3, padding=1),
        relu3=relu(),
        conv4=nn.Conv2d(384, 384, 3, padding=1, groups=2),
        relu4=relu(),
        conv5=nn.Conv2d(384, 256, 3, padding=1, groups=2),
        relu5=relu(),
        pool5=nn.MaxPool2d(3, 2, ceil_mode=True),
        flatten=nn.Flatten(),
        **_fully_connected(256 * 6 * 6, classes),
    )


def vgg16(classes: int) -> Any:
    """Configuration D."""
    layers, inputs = {}, 3
    for block, (width, length) in enumerate(VGG16_BLOCKS, start=1):
        for number in range(1, length + 1):
            layers[f"conv{block}_{number}"] = nn.Conv2d(inputs, width, 3, padding=1)
            layers[f"relu{block}_{number}"] = relu()
            inputs = width
        layers[f"pool{block}"] = nn.MaxPool2d(2, 2)
    return sequential(**layers, flatten=nn.Flatten(), **_fully_connected(512 * 7 * 7, classes))


def _fully_connected(inputs: int, classes: int) -> dict[str, Any]:
    return {
        "fc6": nn.Linear(inputs, 4096),
        "relu6": relu(),
        "dropout6": nn.Dropout(0.5),
        "fc7": nn.Linear(4096, 4096),
        "relu7": relu(),
        "dropout7": nn.Dropout(0.5),
        "fc8": nn.Linear(4096, classes),
    }


def nin(classes: int) -> Any:
    """The ImageNet network: blocks of a convolution (width, kernel, stride, padding) and two 1x1."""
    blocks = ((96, 11, 4, 0), (256, 5, 1, 2), (384, 3, 1, 1), (1024, 3, 1, 1))
    layers, inputs = {}, 3
    for block, (width, kernel, stride, padding) in enumerate(blocks, start=1):
        if block == len(blocks):
            layers["dropout3"] = nn.Dropout(0.5)
        last = classes if block == len(blocks) else width
        layers[f"conv{block}"] = nn.Conv2d(inputs, width, kernel, stride, padding)
        layers[f"relu{block}"] = relu()
        layers[f"cccp{2 * block - 1}"] = nn.Conv2d(width, width, 1)
        layers[f"relu{block}_1"] = relu()
        layers[f"cccp{2 * block}"] = nn.Conv2d(width, last, 1)
        layers[f"relu{block}_2"] = relu()
        if block < len(blocks):
            layers[f"pool{block}"] = nn.MaxPool2d(3, 2, ceil_mode=True)
        inputs = last
    return sequential(**layers, gap=GlobalAveragePool())


def mobilenet(classes: int, *, tensorflow: bool = False) -> Any:
    """Width 1.0; `tensorflow`: with its constants, and its padding where the stride is 2, below and to the right."""
    layers: dict[str, Any] = {}
    constants = {"eps": 1e-3, "momentum": 1 - 0.9997} if tensorflow else {}

    def unit(name: str, inputs: int, features: int, kernel: int, stride: int, groups: int = 1) -> None:
        padding = kernel // 2
        if tensorflow and stride == 2:
            layers[f"{name}_pad"], padding = nn.ZeroPad2d((0, 1, 0, 1)), 0
        layers[name] = nn.Conv2d(inputs, features, kernel, stride, padding, groups=groups, bias=False)
        layers[f"{name}_bn"] = nn.BatchNorm2d(features, **constants)
        layers[f"{name}_relu"] = relu()

    unit("conv0", 3, 32, 3, 2)
    inputs = 32
    for number, (stride, features) in enumerate(MOBILENET_PAIRS, start=1):
        unit(f"dw{number}", inputs, inputs, 3, stride, groups=inputs)
        unit(f"pw{number}", inputs, features, 1, 1)
        inputs = features
    return sequential(**layers, pool=GlobalAveragePool(), fc=nn.Linear(inputs, classes))


class Bottleneck(Module):
    """1x1 (with the stride), 3x3 and 1x1 convolutions, and a projection where dimensions change."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.projects = stride != 1 or inputs != 4 * width
        if self.projects:
            self.shortcut_conv = nn.Conv2d(inputs, 4 * width, 1, stride, bias=False)
            self.shortcut_bn = nn.BatchNorm2d(4 * width)
        self.relu = relu()

    def forward(self, images: Any) -> Any:
        x = self.relu(self.bn1(self.conv1(images)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        x += self.shortcut_bn(self.shortcut_conv(images)) if self.projects else images
        return self.relu(x)


def resnet(classes: int, depth: int) -> Any:
    """Bottlenecks, option B, strides as in the paper."""
    stages, inputs = {}, 64
    for number, length in enumerate(RESNET_BLOCKS[depth], start=2):
        blocks, width = {}, 64 * 2 ** (number - 2)
        for block in range(1, length + 1):
            blocks[f"block{block}"] = Bottleneck(inputs, width, 2 if block == 1 and number > 2 else 1)
            inputs = 4 * width
        stages[f"stage{number}"] = sequential(**blocks)
    return sequential(
        conv1=nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        bn1=nn.BatchNorm2d(64),
        relu1=relu(),
        pool1=nn.MaxPool2d(3, 2, 1),
        **stages,
        pool=GlobalAveragePool(),
        fc=nn.Linear(inputs, classes),
    )


class Inception(Module):
    """The outputs of four branches, joined along the channels."""

    def __init__(self, inputs: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        one, three_reduce, three, five_reduce, five, projection = channels
        self.add_module("1x1", nn.Conv2d(inputs, one, 1))
        self.add_module("3x3_reduce", nn.Conv2d(inputs, three_reduce, 1))
        self.add_module("3x3", nn.Conv2d(three_reduce, three, 3, padding=1))
        self.add_module("5x5_reduce", nn.Conv2d(inputs, five_reduce, 1))
        self.add_module("5x5", nn.Conv2d(five_reduce, five, 5, padding=2))
        self.add_module("pool_proj", nn.Conv2d(inputs, projection, 1))
        self.pool, self.relu = nn.MaxPool2d(3, 1, 1), relu()

    def forward(self, x: Any) -> Any:
        def unit(name: str, x: Any) -> Any:
            return self.relu(getattr(self, name)(x))

        branches = [
            unit("1x1", x),
            unit("3x3", unit("3x3_reduce", x)),
            unit("5x5", unit("5x5_reduce", x)),
            unit("pool_proj", self.pool(x)),
        ]
        return torch.cat(branches, 1)


class GoogLeNet(Module):
    """In training the logits of the classifier and of both auxiliary heads, else the logits."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.relu, self.pool = relu(), nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3)
        self.norm1 = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
        self.conv2_reduce = nn.Conv2d(64, 64, 1)
        self.conv2 = nn.Conv2d(64, 192, 3, padding=1)
        self.norm2 = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
        features = 192
        for name, channels in INCEPTIONS.items():
            self.add_module(f"inception_{name}", Inception(features, channels))
            one, _, three, _, five, projection = channels
            features = one + three + five + projection
        self.aux1, self.aux2 = auxiliary_head(512, classes), auxiliary_head(528, classes)
        self.mean, self.dropout, self.fc = GlobalAveragePool(), nn.Dropout(0.4), nn.Linear(features, classes)

    def forward(self, images: Any) -> Any:
        x = self.norm1(self.pool(self.relu(self.conv1(images))))
        x = self.relu(self.conv2(self.relu(self.conv2_reduce(x))))
        x = self.pool(self.norm2(x))
        x = self.pool(self.inception_3b(self.inception_3a(x)))
        x = first = self.inception_4a(x)
        x = second = self.inception_4d(self.inception_4c(self.inception_4b(x)))
        x = self.pool(self.inception_4e(x))
        x = self.inception_5b(self.inception_5a(x))
        logits = self.fc(self.dropout(self.mean(x)))
        return (logits, self.aux1(first), self.aux2(second)) if self.training else logits


def auxiliary_head(inputs: int, classes: int) -> Any:
    """A classifier on 14x14 maps."""
    return sequential(
        pool=nn.AvgPool2d(5, 3),
        conv=nn.Conv2d(inputs, 128, 1),
        relu1=relu(),
        flatten=nn.Flatten(),
        fc=nn.Linear(128 * 4 * 4, 1024),
        relu2=relu(),
        dropout=nn.Dropout(0.7),
        classifier=nn.Linear(1024, classes),
    )


class Residual(Module):
    """A shortcut around two convolutions between mirrored borders, with instance normalization."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pad, self.relu = nn.ReflectionPad2d(1), relu()
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3) for _ in range(2))
        self.norm1, self.norm2 = (nn.InstanceNorm2d(channels, affine=True) for _ in range(2))

    def forward(self, x: Any) -> Any:
        y = self.relu(self.norm1(self.conv1(self.pad(x))))
        return x + self.norm2(self.conv2(self.pad(y)))


def transform_net(_: int) -> Any:
    """The network of pytorch/examples' fast_neural_style."""

    def block(inputs: int, outputs: int, kernel: int, stride: int = 1, **before: Any) -> Any:
        return sequential(
            **before,
            pad=nn.ReflectionPad2d(kernel // 2),
            conv=nn.Conv2d(inputs, outputs, kernel, stride),
            norm=nn.InstanceNorm2d(outputs, affine=True),
            relu=relu(),
        )

    return sequential(
        c9s1=block(3, 32, 9),
        d1=block(32, 64, 3, 2),
        d2=block(64, 128, 3, 2),
        **{f"res{number}": Residual(128) for number in range(1, 6)},
        u1=block(128, 64, 3, enlarge=nn.Upsample(scale_factor=2)),
        u2=block(64, 32, 3, enlarge=nn.Upsample(scale_factor=2)),
        pad=nn.ReflectionPad2d(4),
        out=nn.Conv2d(32, 3, 9),
    )


NETWORKS = {
    "alexnet": service.Network(alexnet, {"fc6": 256}),
    "vgg16": service.Network(vgg16, {"fc6": 512}),
    "nin": service.Network(nin),
    "googlenet": service.Network(GoogLeNet, {"aux1/fc": 128, "aux2/fc": 128}),
    "mobilenet": service.Network(mobilenet),
    "mobilenet_paper": service.Network(lambda classes: mobilenet(classes, tensorflow=True)),
    "resnet50": service.Network(lambda classes: resnet(classes, 50)),
    "resnet152": service.Network(lambda classes: resnet(classes, 152)),
    "transform_net_256": service.Network(transform_net),
    "transform_net_512": service.Network(transform_net),
}

if __name__ == "__main__":
    service.serve(NETWORKS, Path(sys.argv[1]))
