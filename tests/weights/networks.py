"""The networks that are compared with peers: theirs, and ours for their weights.

One table for the recordings, the tests that compare with them and the tests that ask the peers themselves. It imports
nothing of either side, so that a Python with the peers alone can read it.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Network:
    """One network.

    Attributes:
        lineage: `torchvision`, `timm` or `keras`: the library and what we call its weights.
        theirs: the network's name there.
        ours: its name here.
        fields: of ours, which the weights call for.
        recipe: the file of configs/ to import its weights with.
        options: theirs, beside random weights and logits as outputs.
        training: compared in training, with all that the network then puts out, without dropout.
    """

    lineage: str
    theirs: str
    ours: str
    fields: Mapping[str, Any]
    recipe: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    training: bool = False

    @property
    def variance(self) -> float:
        """Around which the pattern's running variances lie, see `pattern.tensor`."""
        return 4.0 if self.ours == "resnet" else 1.0


def _alexnet() -> Network:
    return Network("torchvision", "alexnet", "alexnet", {"variant": "torchvision", "stem": "imagenet"}, "alexnet")


def _vgg(lineage: str, theirs: str, variant: str, batch_norm: bool) -> Network:
    fields = {"variant": variant, "batch_norm": batch_norm, "image_size": 224}
    return Network(lineage, theirs, "vgg", fields, "vgg16")


def _googlenet(**training: Any) -> Network:
    fields = {"variant": "torchvision", "aux_heads": True}
    options = {"init_weights": False, **training}
    return Network("torchvision", "googlenet", "googlenet", fields, "googlenet", options, bool(training))


def _resnet(lineage: str, theirs: str, depth: int, stride_in: str) -> Network:
    fields = {"depth": depth, "stride_in": stride_in, "residual": True, "shortcut": "B"}
    return Network(lineage, theirs, "resnet", fields, f"resnet{depth}")


def _mobilenet(lineage: str, theirs: str, padding: str, width: float, **options: Any) -> Network:
    fields = {"lineage": padding, "activation": "relu6", "width": width}
    return Network(lineage, theirs, "mobilenet", fields, "mobilenet", options)


NETWORKS: dict[str, Network] = {
    "torchvision_alexnet": _alexnet(),
    **{
        f"torchvision_vgg{depth}{bn}": _vgg("torchvision", f"vgg{depth}{bn}", variant, bool(bn))
        for depth, variant in ((11, "A"), (13, "B"), (16, "D"), (19, "E"))
        for bn in ("", "_bn")
    },
    "torchvision_googlenet": _googlenet(),
    "torchvision_googlenet_training": _googlenet(dropout=0.0, dropout_aux=0.0),
    **{
        f"{lineage}_resnet{depth}": _resnet(lineage, f"resnet{depth}", depth, "3x3")
        for lineage in ("torchvision", "timm")
        for depth in (18, 34, 50, 101, 152)
    },
    "timm_mobilenetv1_100": _mobilenet("timm", "mobilenetv1_100", "torch", 1.0),
    **{f"keras_VGG{depth}": _vgg("keras", f"VGG{depth}", variant, False) for depth, variant in ((16, "D"), (19, "E"))},
    **{f"keras_ResNet{depth}": _resnet("keras", f"ResNet{depth}", depth, "1x1") for depth in (50, 101, 152)},
    **{
        f"keras_MobileNet_{width}": _mobilenet("keras", "MobileNet", "keras", width, alpha=width)
        for width in (0.25, 0.5, 0.75, 1.0)
    },
}

# Those whose comparison takes a few seconds.
QUICK = {
    "torchvision_googlenet",
    "torchvision_googlenet_training",
    "torchvision_resnet18",
    "torchvision_resnet50",
    "timm_mobilenetv1_100",
    "keras_ResNet50",
    "keras_MobileNet_0.25",
    "keras_MobileNet_1.0",
}
