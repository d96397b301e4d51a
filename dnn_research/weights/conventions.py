"""How torchvision, timm, Keras and the Caffe lineage name, lay out and feed the weights of these networks.

A convention is a list of entries: their name, ours, and how the array changes between them. Every parameter of either
side stands in exactly one entry, so nothing can be forgotten or left over unseen.

Layouts: torch and Caffe keep convolutions as [out, in / groups, kh, kw] and fully connected kernels as [out, in]; after
a flattened map their inputs are in the order channel, row, column. Keras has ours.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from dnn_research.errors import UserError, choose
from dnn_research.models.googlenet import MODULES
from dnn_research.models.googlenet import VARIANTS as GOOGLENET_VARIANTS
from dnn_research.models.nin import VARIANTS as NIN_VARIANTS
from dnn_research.models.resnet import BASIC, DEPTHS
from dnn_research.models.vgg import VARIANTS as VGG_VARIANTS

Shape = tuple[int, ...]
Fields = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Layout:
    """How an array changes between them and us.

    Attributes:
        ours: their array -> ours.
        theirs: our array -> theirs, the inverse.
    """

    ours: Callable[[np.ndarray], np.ndarray]
    theirs: Callable[[np.ndarray], np.ndarray]


def flattened(channels: int, size: int) -> Layout:
    """A fully connected kernel over `size` x `size` maps of so many channels: theirs [out, C * H * W]."""

    def theirs(kernel: np.ndarray) -> np.ndarray:
        # A narrower network's kernel may have a shape that fits, with its numbers in another order.
        if len(kernel) != size * size * channels:
            raise UserError(
                f"their first fully connected layer is over {channels} maps of {size}x{size}, this network's has "
                f"{len(kernel):,} inputs instead of {size * size * channels:,}"
            )
        return kernel.reshape(size, size, channels, -1).transpose(3, 2, 0, 1).reshape(kernel.shape[1], -1)

    return Layout(lambda a: a.reshape(len(a), channels, size, size).transpose(2, 3, 1, 0).reshape(-1, len(a)), theirs)


SAME = Layout(lambda a: a, lambda a: a)
CONV = Layout(lambda a: a.transpose(2, 3, 1, 0), lambda a: a.transpose(3, 2, 0, 1))
DENSE = Layout(lambda a: a.T, lambda a: a.T)
# Old Caffe files keep four axes for every blob.
CAFFE_DENSE = Layout(lambda a: a.reshape(a.shape[-2:]).T, lambda a: a.T)
CAFFE_VECTOR = Layout(lambda a: a.reshape(-1), lambda a: a)
KERAS_DEPTHWISE = Layout(lambda a: a.transpose(0, 1, 3, 2), lambda a: a.transpose(0, 1, 3, 2))
KERAS_CONV_AS_DENSE = Layout(lambda a: a.reshape(a.shape[-2:]), lambda a: a[None, None])


@dataclasses.dataclass(frozen=True)
class Entry:
    """One array: their name, our path ('params/conv1/kernel') and the layout.

    With `fold`, it is a bias that we do not have: it is subtracted from the running mean at our path, which comes to
    the same.
    """

    theirs: str
    ours: str
    layout: Layout = SAME
    fold: bool = False


@dataclasses.dataclass(frozen=True)
class Convention:
    """What a lineage's weights for one of our networks mean.

    Attributes:
        entries: fields of our network -> its entries.
        fields: arrays of a file -> the fields of our network that they call for.
        mean, std: in 0..255, of what the weights were trained on.
        channels: `rgb` or `bgr`; the first kernel of a BGR network is turned around, so that ours takes RGB.
        first: our path of that kernel.
        epsilon_shift: their batch normalization's epsilon less ours; it goes into the running variance.
        ignored: a pattern of names that carry no weights.
        variants: the forms of our network that the arrays can be for, where they do not tell which.
    """

    entries: Callable[[Fields], list[Entry]]
    fields: Callable[[Mapping[str, np.ndarray]], dict[str, Any]]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: str = "rgb"
    first: str = "params/conv1/kernel"
    epsilon_shift: float = 0.0
    ignored: str = r"$^"
    variants: tuple[str, ...] = ()


def convention(lineage: str, network: str) -> Convention:
    """The convention of a lineage for one of our networks.

    Raises:
        UserError: there is no such lineage, or it has no such network.
    """
    networks = choose(CONVENTIONS, lineage, "lineage")
    if network not in networks:
        raise UserError(f"{lineage} has no weights for the network '{network}'; it has: {', '.join(networks)}")
    return networks[network]


# ------------------------------------------------------------------------------------------------------- torch's names


def _torch_layer(theirs: str, ours: str, layout: Layout, *, bias: bool = True) -> Iterator[Entry]:
    yield Entry(f"{theirs}.weight", f"params/{ours}/kernel", layout)
    if bias:
        yield Entry(f"{theirs}.bias", f"params/{ours}/bias")


def _torch_norm(theirs: str, ours: str) -> Iterator[Entry]:
    yield Entry(f"{theirs}.weight", f"params/{ours}/scale")
    yield Entry(f"{theirs}.bias", f"params/{ours}/bias")
    yield Entry(f"{theirs}.running_mean", f"batch_stats/{ours}/mean")
    yield Entry(f"{theirs}.running_var", f"batch_stats/{ours}/var")


def _torch_alexnet(fields: Fields) -> list[Entry]:
    del fields
    convolutions = zip((0, 3, 6, 8, 10), range(1, 6), strict=True)
    return [
        *(entry for i, n in convolutions for entry in _torch_layer(f"features.{i}", f"conv{n}", CONV)),
        *_torch_layer("classifier.1", "fc6", flattened(256, 6)),
        *_torch_layer("classifier.4", "fc7", DENSE),
        *_torch_layer("classifier.6", "fc8", DENSE),
    ]


def _torch_vgg(fields: Fields) -> list[Entry]:
    entries: list[Entry] = []
    index = 0  # counts convolutions, normalizations, ReLUs and pools
    for block, kernels in enumerate(VGG_VARIANTS[fields["variant"]], start=1):
        for number in range(1, len(kernels) + 1):
            entries += _torch_layer(f"features.{index}", f"conv{block}_{number}", CONV)
            if fields["batch_norm"]:
                index += 1
                entries += _torch_norm(f"features.{index}", f"bn{block}_{number}")
            index += 2
        index += 1
    entries += _torch_layer("classifier.0", "fc6", flattened(512, 7))
    entries += _torch_layer("classifier.3", "fc7", DENSE)
    entries += _torch_layer("classifier.6", "fc8", DENSE)
    return entries


def _torch_googlenet(fields: Fields) -> list[Entry]:
    def unit(theirs: str, ours: str) -> Iterator[Entry]:
        yield from _torch_layer(f"{theirs}.conv", ours, CONV, bias=False)
        yield from _torch_norm(f"{theirs}.bn", f"{ours}_bn")

    branches = {
        "branch1": "1x1",
        "branch2.0": "3x3_reduce",
        "branch2.1": "3x3",
        "branch3.0": "5x5_reduce",
        "branch3.1": "5x5",
        "branch4.1": "pool_proj",
    }
    entries = [*unit("conv1", "conv1"), *unit("conv2", "conv2_reduce"), *unit("conv3", "conv2")]
    for module in MODULES:
        for theirs, ours in branches.items():
            entries += unit(f"inception{module}.{theirs}", f"inception_{module}/{ours}")
    for head in ("aux1", "aux2") if fields["aux_heads"] else ():
        entries += unit(f"{head}.conv", f"{head}/conv")
        entries += _torch_layer(f"{head}.fc1", f"{head}/fc", flattened(128, 4))
        entries += _torch_layer(f"{head}.fc2", f"{head}/classifier", DENSE)
    return [*entries, *_torch_layer("fc", "fc", DENSE)]


def _blocks(fields: Fields) -> Iterator[tuple[int, int, int, bool]]:
    """Stage (from 2), block (from 1), convolutions in it, and whether its shortcut has one, of a ResNet."""
    depth = fields["depth"]
    for stage, length in enumerate(DEPTHS[depth], start=2):
        for block in range(1, length + 1):
            convolutions = 2 if depth in BASIC else 3
            yield stage, block, convolutions, block == 1 and (stage > 2 or convolutions == 3)


def _torch_resnet(fields: Fields) -> list[Entry]:
    entries = [*_torch_layer("conv1", "conv1", CONV, bias=False), *_torch_norm("bn1", "bn1")]
    for stage, block, convolutions, projection in _blocks(fields):
        theirs, ours = f"layer{stage - 1}.{block - 1}", f"stage{stage}/block{block}"
        for n in range(1, convolutions + 1):
            entries += _torch_layer(f"{theirs}.conv{n}", f"{ours}/conv{n}", CONV, bias=False)
            entries += _torch_norm(f"{theirs}.bn{n}", f"{ours}/bn{n}")
        if projection:
            entries += _torch_layer(f"{theirs}.downsample.0", f"{ours}/shortcut_conv", CONV, bias=False)
            entries += _torch_norm(f"{theirs}.downsample.1", f"{ours}/shortcut_bn")
    return [*entries, *_torch_layer("fc", "fc", DENSE)]


def _timm_mobilenet(fields: Fields) -> list[Entry]:
    del fields
    entries = [*_torch_layer("conv_stem", "conv0", CONV, bias=False), *_torch_norm("bn1", "conv0_bn")]
    places = [(stage, block) for stage, length in enumerate((1, 2, 2, 6, 2)) for block in range(length)]
    for number, (stage, block) in enumerate(places, start=1):
        theirs = f"blocks.{stage}.{block}"
        entries += _torch_layer(f"{theirs}.conv_dw", f"dw{number}", CONV, bias=False)
        entries += _torch_norm(f"{theirs}.bn1", f"dw{number}_bn")
        entries += _torch_layer(f"{theirs}.conv_pw", f"pw{number}", CONV, bias=False)
        entries += _torch_norm(f"{theirs}.bn2", f"pw{number}_bn")
    return [*entries, *_torch_layer("classifier", "fc", DENSE)]


# -------------------------------------------------------------------------------------------------------- Keras' names


def _keras_layer(theirs: str, ours: str, layout: Layout = SAME, *, bias: bool = True) -> Iterator[Entry]:
    yield Entry(f"{theirs}/kernel", f"params/{ours}/kernel", layout)
    if bias:
        yield Entry(f"{theirs}/bias", f"params/{ours}/bias")


def _keras_norm(theirs: str, ours: str) -> Iterator[Entry]:
    yield Entry(f"{theirs}/gamma", f"params/{ours}/scale")
    yield Entry(f"{theirs}/beta", f"params/{ours}/bias")
    yield Entry(f"{theirs}/moving_mean", f"batch_stats/{ours}/mean")
    yield Entry(f"{theirs}/moving_variance", f"batch_stats/{ours}/var")


def _keras_vgg(fields: Fields) -> list[Entry]:
    entries: list[Entry] = []
    for block, kernels in enumerate(VGG_VARIANTS[fields["variant"]], start=1):
        for number in range(1, len(kernels) + 1):
            entries += _keras_layer(f"block{block}_conv{number}", f"conv{block}_{number}")
    for theirs, ours in (("fc1", "fc6"), ("fc2", "fc7"), ("predictions", "fc8")):
        entries += _keras_layer(theirs, ours)
    return entries


def _keras_resnet(fields: Fields) -> list[Entry]:
    def unit(theirs: str, conv: str, norm: str) -> Iterator[Entry]:
        yield from _keras_layer(f"{theirs}_conv", conv, bias=False)
        yield Entry(f"{theirs}_conv/bias", f"batch_stats/{norm}/mean", fold=True)
        yield from _keras_norm(f"{theirs}_bn", norm)

    entries = [*unit("conv1", "conv1", "bn1")]
    for stage, block, convolutions, projection in _blocks(fields):
        theirs, ours = f"conv{stage}_block{block}", f"stage{stage}/block{block}"
        for n in range(1, convolutions + 1):
            entries += unit(f"{theirs}_{n}", f"{ours}/conv{n}", f"{ours}/bn{n}")
        if projection:
            entries += unit(f"{theirs}_0", f"{ours}/shortcut_conv", f"{ours}/shortcut_bn")
    return [*entries, *_keras_layer("predictions", "fc")]


def _keras_mobilenet(fields: Fields) -> list[Entry]:
    del fields
    entries = [*_keras_layer("conv1", "conv0", bias=False), *_keras_norm("conv1_bn", "conv0_bn")]
    for number in range(1, 14):
        entries += _keras_layer(f"conv_dw_{number}", f"dw{number}", KERAS_DEPTHWISE, bias=False)
        entries += _keras_norm(f"conv_dw_{number}_bn", f"dw{number}_bn")
        entries += _keras_layer(f"conv_pw_{number}", f"pw{number}", bias=False)
        entries += _keras_norm(f"conv_pw_{number}_bn", f"pw{number}_bn")
    return [*entries, *_keras_layer("conv_preds", "fc", KERAS_CONV_AS_DENSE)]


# -------------------------------------------------------------------------------------------------------- Caffe's names


def _caffe_layer(theirs: str, ours: str, layout: Layout) -> Iterator[Entry]:
    yield Entry(f"{theirs}/0", f"params/{ours}/kernel", layout)
    yield Entry(f"{theirs}/1", f"params/{ours}/bias", CAFFE_VECTOR)


def _caffe_flattened(channels: int, size: int) -> Layout:
    plain = flattened(channels, size)
    return Layout(lambda a: plain.ours(a.reshape(a.shape[-2:])), plain.theirs)


def _caffe_alexnet(fields: Fields) -> list[Entry]:
    del fields
    return [
        *(entry for n in range(1, 6) for entry in _caffe_layer(f"conv{n}", f"conv{n}", CONV)),
        *_caffe_layer("fc6", "fc6", _caffe_flattened(256, 6)),
        *_caffe_layer("fc7", "fc7", CAFFE_DENSE),
        *_caffe_layer("fc8", "fc8", CAFFE_DENSE),
    ]


def _caffe_vgg(fields: Fields) -> list[Entry]:
    kernels = enumerate(VGG_VARIANTS[fields["variant"]], start=1)
    names = [f"conv{block}_{n}" for block, sizes in kernels for n in range(1, len(sizes) + 1)]
    return [
        *(entry for name in names for entry in _caffe_layer(name, name, CONV)),
        *_caffe_layer("fc6", "fc6", _caffe_flattened(512, 7)),
        *_caffe_layer("fc7", "fc7", CAFFE_DENSE),
        *_caffe_layer("fc8", "fc8", CAFFE_DENSE),
    ]


def _caffe_nin(fields: Fields) -> list[Entry]:
    entries: list[Entry] = []
    blocks = len(NIN_VARIANTS[fields["variant"]].blocks)
    for number in range(1, blocks + 1):
        # The zoo's definition marks the layers of the last block by their width.
        mark = "-1024" if number == blocks and fields["variant"] == "imagenet" else ""
        for name in (f"conv{number}", f"cccp{2 * number - 1}", f"cccp{2 * number}"):
            entries += _caffe_layer(name + mark, name, CONV)
    return entries


def _caffe_googlenet(fields: Fields) -> list[Entry]:
    names = {"conv1/7x7_s2": "conv1", "conv2/3x3_reduce": "conv2_reduce", "conv2/3x3": "conv2"}
    for module in MODULES:
        for branch in ("1x1", "3x3_reduce", "3x3", "5x5_reduce", "5x5", "pool_proj"):
            names[f"inception_{module}/{branch}"] = f"inception_{module}/{branch}"
    entries = [entry for theirs, ours in names.items() for entry in _caffe_layer(theirs, ours, CONV)]
    for number in (1, 2) if fields["aux_heads"] else ():
        entries += _caffe_layer(f"loss{number}/conv", f"aux{number}/conv", CONV)
        entries += _caffe_layer(f"loss{number}/fc", f"aux{number}/fc", _caffe_flattened(128, 4))
        entries += _caffe_layer(f"loss{number}/classifier", f"aux{number}/classifier", CAFFE_DENSE)
    return [*entries, *_caffe_layer("loss3/classifier", "fc", CAFFE_DENSE)]


# ------------------------------------------------------------------------------------------ what a file calls for


def _vgg_fields(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    count = sum(array.ndim == 4 and min(array.shape[:2]) >= 3 for array in arrays.values())
    of_count = {8: "A", 10: "B", 13: "D", 16: "E"}
    return {
        # With another count the recipe's variant stays, and what is missing from it is named.
        **({"variant": of_count[count]} if count in of_count else {}),
        "batch_norm": any(name.endswith("running_mean") for name in arrays),
        "image_size": 224,
        "pooling": "max",
    }


def _resnet_fields(stride_in: str) -> Callable[[Mapping[str, np.ndarray]], dict[str, Any]]:
    def fields(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        kernels = sum(array.ndim == 4 for array in arrays.values())
        of_count = {20: 18, 36: 34, 53: 50, 104: 101, 155: 152}
        # With another count the recipe's depth stays, and what is missing from it is named.
        depth = {"depth": of_count[kernels]} if kernels in of_count else {}
        return {**depth, "residual": True, "shortcut": "B", "stride_in": stride_in}

    return fields


def _googlenet_fields(variant: str, heads: str) -> Callable[[Mapping[str, np.ndarray]], dict[str, Any]]:
    return lambda arrays: {
        "variant": variant,
        "aux_heads": any(name.startswith(heads) for name in arrays),
        "lrn": GOOGLENET_VARIANTS[variant].lrn,
    }


def _mobilenet_fields(lineage: str, first: str) -> Callable[[Mapping[str, np.ndarray]], dict[str, Any]]:
    def fields(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        if first not in arrays:
            raise UserError(f"the file has no '{first}'")
        channels = max(arrays[first].shape[0] if lineage == "torch" else arrays[first].shape[-1], 1)
        return {
            "lineage": lineage,
            "activation": "relu6",
            "width": channels / 32,
            "separable": True,
            "shallow": False,
            "stem": "imagenet",
        }

    return fields


def _constant(**fields: Any) -> Callable[[Mapping[str, np.ndarray]], dict[str, Any]]:
    return lambda arrays: dict(fields)


IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
CAFFE_MEAN, ONES = (123.68, 116.779, 103.939), (1.0, 1.0, 1.0)
HALF = (127.5, 127.5, 127.5)
TRACKED = r".*\.num_batches_tracked$"
_TORCH_RESNET = Convention(_torch_resnet, _resnet_fields("3x3"), IMAGENET_MEAN, IMAGENET_STD, ignored=TRACKED)
_BGR = {"mean": CAFFE_MEAN, "std": ONES, "channels": "bgr"}
# Fields that are None in ours are as the variant has them, which is as theirs is.
_CAFFE_LRN = {
    "lrn": True,
    "lrn_size": 5,
    "lrn_k": 1.0,
    "lrn_alpha": 1e-4,
    "lrn_beta": 0.75,
    "lrn_scaling": "mean",
    "lrn_across_towers": True,
}
_ALEXNET = {"stem": "imagenet", "activation": "relu", "overlapping_pooling": True}

CONVENTIONS: dict[str, dict[str, Convention]] = {
    "torchvision": {
        "alexnet": Convention(
            _torch_alexnet, _constant(variant="torchvision", **_ALEXNET, lrn=False), IMAGENET_MEAN, IMAGENET_STD
        ),
        "vgg": Convention(
            _torch_vgg, _vgg_fields, IMAGENET_MEAN, IMAGENET_STD, first="params/conv1_1/kernel", ignored=TRACKED
        ),
        # The published weights were converted from TensorFlow's: `transform_input` brings images to [-1, 1].
        "googlenet": Convention(_torch_googlenet, _googlenet_fields("torchvision", "aux"), HALF, HALF, ignored=TRACKED),
        "resnet": _TORCH_RESNET,
    },
    "timm": {
        "resnet": _TORCH_RESNET,
        "mobilenet": Convention(
            _timm_mobilenet,
            _mobilenet_fields("torch", "conv_stem.weight"),
            HALF,
            HALF,
            first="params/conv0/kernel",
            ignored=TRACKED,
        ),
    },
    "keras": {
        "vgg": Convention(_keras_vgg, _vgg_fields, **_BGR, first="params/conv1_1/kernel"),
        "resnet": Convention(_keras_resnet, _resnet_fields("1x1"), **_BGR, epsilon_shift=1.001e-5 - 1e-5),
        "mobilenet": Convention(
            _keras_mobilenet, _mobilenet_fields("keras", "conv1/kernel"), HALF, HALF, first="params/conv0/kernel"
        ),
    },
    # The means of VGG's authors, which the zoo's networks without a mean image take too.
    "caffe": {
        "alexnet": Convention(
            _caffe_alexnet, _constant(**_ALEXNET, **_CAFFE_LRN), **_BGR, variants=("caffe", "caffenet")
        ),
        "vgg": Convention(_caffe_vgg, _vgg_fields, **_BGR, first="params/conv1_1/kernel"),
        "nin": Convention(_caffe_nin, _constant(variant="imagenet", mlpconv=True, head="gap"), **_BGR),
        "googlenet": Convention(
            _caffe_googlenet,
            _googlenet_fields("paper", "loss1"),
            mean=(123.0, 117.0, 104.0),
            std=ONES,
            channels="bgr",
        ),
    },
}


# --------------------------------------------------------------------------------------------- arrays in and out


def to_ours(
    held: Convention, fields: Fields, arrays: Mapping[str, np.ndarray], shapes: Mapping[str, Shape]
) -> dict[str, np.ndarray]:
    """Our arrays (path -> float32) from theirs, every array of both sides accounted for.

    Args:
        held: the convention.
        fields: of our network.
        arrays: theirs.
        shapes: path -> shape of every variable of our network.

    Raises:
        UserError: the network has no such form, or an array is missing, left over or of another shape, or not finite;
            the message names them.
    """
    entries = checked_entries(held, fields, shapes)
    missing = [entry.theirs for entry in entries if entry.theirs not in arrays]
    known = {entry.theirs for entry in entries}
    extra = [name for name in arrays if name not in known and not re.match(held.ignored, name)]
    problems = [*(f"'{name}' is missing" for name in missing), *(f"'{name}' is not known" for name in extra)]
    ours: dict[str, np.ndarray] = {}
    for entry in entries:
        if entry.theirs in arrays:
            problem = _check(entry, arrays[entry.theirs], shapes[entry.ours])
            if problem:
                problems.append(problem)
            elif not entry.fold:
                ours[entry.ours] = np.ascontiguousarray(entry.layout.ours(arrays[entry.theirs]), np.float32)
    if problems:
        shown = "; ".join(problems[:6]) + (f"; and {len(problems) - 6} more" if len(problems) > 6 else "")
        raise UserError(f"the file does not fit the network: {shown}")
    for entry in entries:
        if entry.fold:
            ours[entry.ours] = ours[entry.ours] - arrays[entry.theirs].astype(np.float32)
    if held.epsilon_shift:
        for path in ours:
            if path.endswith("/var"):
                ours[path] = ours[path] + np.float32(held.epsilon_shift)
    if held.channels == "bgr":
        ours[held.first] = np.ascontiguousarray(ours[held.first][:, :, ::-1])
    return ours


def checked_entries(held: Convention, fields: Fields, paths: Iterable[str]) -> list[Entry]:
    """The entries of a network with these variables.

    Raises:
        UserError: the lineage has no such network; the message names some variables that only one of them has.
    """
    entries = held.entries(fields)
    different = sorted({entry.ours for entry in entries} ^ set(paths))
    if different:
        shown = ", ".join([*different[:4], *(["..."] if len(different) > 4 else [])])
        raise UserError(f"the lineage has no form of this network: they differ in {shown}")
    return entries


def check_form(held: Convention, fields: Fields, theirs: Mapping[str, np.ndarray], hint: str = "") -> None:
    """That another implementation, given these arrays, computes what our network does.

    Args:
        held: the convention.
        fields: of our network; None is what the variant has.
        theirs: the arrays.
        hint: what to do where it is another variant.

    Raises:
        UserError: it would compute something else; the message says in which field.
    """
    if held.variants and fields["variant"] not in held.variants:
        wanted = " or ".join(held.variants)
        raise UserError(f"the lineage's network is model.variant={wanted}, not {fields['variant']}{hint}")
    for field, value in held.fields(theirs).items():
        same = fields[field] is None or fields[field] == value
        # A basic block has one place for its stride.
        if not same and not (field == "stride_in" and fields["depth"] in BASIC):
            raise UserError(f"the lineage's network has model.{field}={value}, this one {fields[field]}")


def to_theirs(held: Convention, fields: Fields, ours: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Their arrays from ours, in their order: the inverse of `to_ours` where nothing is folded."""
    entries = held.entries(fields)
    if any(entry.fold for entry in entries) or held.epsilon_shift:
        raise UserError("this convention folds biases into the statistics and cannot be written")
    first = {held.first: np.ascontiguousarray(ours[held.first][:, :, ::-1])} if held.channels == "bgr" else {}
    return {entry.theirs: np.ascontiguousarray(entry.layout.theirs({**ours, **first}[entry.ours])) for entry in entries}


def layout(held: Convention, fields: Fields, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Their names and shapes, without the arrays that carry no weights."""
    # The shapes of views of one number take no memory.
    views = {path: np.broadcast_to(np.float32(0), shape) for path, shape in shapes.items()}
    return {entry.theirs: entry.layout.theirs(views[entry.ours]).shape for entry in held.entries(fields)}


def _check(entry: Entry, array: np.ndarray, shape: Shape) -> str | None:
    if not np.issubdtype(array.dtype, np.floating):
        return f"'{entry.theirs}' is of type {array.dtype}"
    if array.size != math.prod(shape):
        return f"'{entry.theirs}' is {array.shape}, which does not fit {entry.ours} {shape}"
    try:
        found = entry.layout.ours(array).shape
    except ValueError:
        found = None
    if found != shape:
        return f"'{entry.theirs}' is {array.shape}, which does not fit {entry.ours} {shape}"
    return None if np.isfinite(array).all() else f"'{entry.theirs}' has values that are not finite"
