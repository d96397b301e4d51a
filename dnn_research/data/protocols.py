"""How an image is cropped for evaluation. An accuracy means nothing without its protocol, so each one names itself."""

import ast
import dataclasses
import hashlib
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dnn_research.data import images
from dnn_research.data.multi_view import (
    Dense,
    DenseAndCrops,
    GoogLeNetCrops,
    MultiView,
    Pass,
    TenCrop,
    VGGCrops,
    centre,
    rescale,
)
from dnn_research.errors import UserError, choose, construct, suggest


@typing.runtime_checkable
class Protocol(typing.Protocol):
    """An evaluation protocol of one view: from a decoded image to what the network sees."""

    @property
    def description(self) -> str:
        """What is done, in a few words: it stands beside every reported accuracy."""
        ...

    def __call__(self, image: np.ndarray, *, fill: np.ndarray) -> np.ndarray:
        """Crops uint8 [h, w, C] to [image_size, image_size, C]; `fill` uint8 [C] is the colour for padding."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class SingleCrop:
    """The shorter side rescaled to `resize` pixels, then the central square of `image_size` pixels.

    The longer side is rounded to whole pixels; where the margins differ by one, the smaller one is above or left. With
    `flip` the mirrored crop too.
    """

    resize: int | None = None
    image_size: int
    flip: bool = False

    def __post_init__(self):
        if self.resize is None:
            raise UserError("eval.protocol 'single_crop' needs eval.resize, the length of the shorter side in pixels")
        if self.resize < self.image_size:
            raise UserError(
                f"eval.resize is {self.resize}, less than the image size {self.image_size}: "
                "the central crop must fit into the rescaled image"
            )

    @property
    def description(self) -> str:
        return f"single_crop(shorter side {self.resize}, centre {self.image_size}{MIRRORED[self.flip]})"

    @property
    def passes(self) -> tuple[Pass, ...]:
        return (Pass(dense=False, mirrored=self.flip, share=1.0),)

    def views(self, image: np.ndarray, *, fill: np.ndarray) -> tuple[np.ndarray, ...]:
        return (self(image, fill=fill)[None],)

    def __call__(self, image: np.ndarray, *, fill: np.ndarray) -> np.ndarray:
        del fill  # the rescaled image is never smaller than the crop
        assert self.resize is not None
        return np.ascontiguousarray(centre(rescale(image, self.resize), self.image_size, self.image_size))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Original:
    """The image as it is, with `flip` also mirrored; centred on the mean colour when smaller than `image_size`."""

    image_size: int
    flip: bool = False

    @property
    def description(self) -> str:
        return f"original({self.image_size}{MIRRORED[self.flip]})"

    @property
    def passes(self) -> tuple[Pass, ...]:
        return (Pass(dense=False, mirrored=self.flip, share=1.0),)

    def views(self, image: np.ndarray, *, fill: np.ndarray) -> tuple[np.ndarray, ...]:
        return (self(image, fill=fill)[None],)

    def __call__(self, image: np.ndarray, *, fill: np.ndarray) -> np.ndarray:
        if max(image.shape[:2]) > self.image_size:
            raise UserError(
                f"the image has {image.shape[0]} x {image.shape[1]} pixels, the network takes {self.image_size}: "
                "set data.image_size, or eval.protocol to 'single_crop'"
            )
        return images.pad_to(image, self.image_size, self.image_size, fill)


MIRRORED = {False: "", True: ", also mirrored; mean of softmax"}

PROTOCOLS: dict[str, type] = {
    "single_crop": SingleCrop,
    "original": Original,
    "ten_crop": TenCrop,
    "googlenet_crops": GoogLeNetCrops,
    "vgg_crops": VGGCrops,
    "dense": Dense,
    "dense_and_crops": DenseAndCrops,
}


def create(
    *,
    name: str,
    image_size: int,
    resize: int | None = None,
    scales: Sequence[int] | None = None,
    flip: bool | None = None,
    multiple: int | None = None,
) -> MultiView:
    """The evaluation protocol of that name. A parameter that is None is as the protocol has it by itself.

    Args:
        name: a key of PROTOCOLS; a parameter that it has no use for is left alone.
        image_size: height and width in pixels of what the network sees.
        resize: length of the shorter side in pixels, for 'single_crop' and 'ten_crop'.
        scales: several such lengths, for the protocols of several scales and for 'dense'.
        flip: mirrored images too, for 'single_crop', 'original' and 'dense'; the others have them in any case.
        multiple: for 'dense': see `Dense`.

    Raises:
        UserError: there is no such protocol, or its sizes do not fit.
    """
    protocol = choose(PROTOCOLS, name, "eval.protocol")
    scales = None if scales is None else tuple(scales)
    given = {"image_size": image_size, "resize": resize, "scales": scales, "flip": flip, "multiple": multiple}
    fields = [field.name for field in dataclasses.fields(protocol)]
    return protocol(**{key: value for key, value in given.items() if key in fields and value is not None})


def parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a run's section `eval` holds for `create`; a run of an earlier version lacks some."""
    return {key: config["eval"].get(key) for key in ("resize", "scales", "flip", "multiple")}


def of_run(config: Mapping[str, Any]) -> MultiView:
    """The protocol that a run with this config was evaluated by in training."""
    return create(name=config["eval"]["protocol"], image_size=config["data"]["image_size"], **parameters(config))


def single(protocol: MultiView) -> Protocol | None:
    """The protocol itself if it has one view of an image and no mirrored one, else None."""
    return protocol if isinstance(protocol, (SingleCrop, Original)) and not protocol.flip else None


def digest(description: str) -> str:
    """Eight hexadecimal digits that stand for a protocol's description."""
    return hashlib.sha256(description.encode()).hexdigest()[:8]


def parse(words: str, *, image_size: int, defaults: Mapping[str, Any]) -> list[MultiView]:
    """The protocols of a command line: `single_crop,ten_crop(resize=288),dense(scales=(256,384,512))`.

    Args:
        words: names, with parameters in parentheses.
        image_size: as `create` takes it.
        defaults: by name, what a protocol takes that has no default of its own and is not given one.

    Raises:
        UserError: it is not written so, or a protocol or parameter is unknown or does not fit.
    """
    try:
        tree = ast.parse(f"[{words}]", mode="eval").body
        if not isinstance(tree, ast.List):
            raise ValueError(words)
        wanted = [_parse_word(node) for node in tree.elts]
    except (SyntaxError, ValueError, TypeError) as error:
        raise UserError(
            f"protocols are written as single_crop,ten_crop(resize=288),dense(scales=(256,384)), not '{words}'"
        ) from error
    if not wanted:
        raise UserError(f"name at least one protocol; known: {', '.join(PROTOCOLS)}")
    made = []
    for name, given in wanted:
        fields = {f.name: f for f in dataclasses.fields(choose(PROTOCOLS, name, "protocol")) if f.name != "image_size"}
        for key in given:
            if key not in fields:
                raise UserError(f"{name} has no parameter '{key}'{suggest(key, fields)}; it has {', '.join(fields)}")
        lacking = {key: defaults[key] for key in defaults if key in fields and fields[key].default is None}
        made.append(construct(create, name, {"name": name, **lacking, **given}, image_size=image_size))
    return made


def _parse_word(node: ast.expr) -> tuple[str, dict[str, Any]]:
    """`name` or `name(key=value, ...)`."""
    if isinstance(node, ast.Name):
        return node.id, {}
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.args:
        raise ValueError(ast.unparse(node))
    return node.func.id, {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords}
