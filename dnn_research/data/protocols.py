"""How an image is cropped for evaluation. An accuracy means nothing without its protocol, so each one names itself."""

import dataclasses
import typing

import numpy as np

from dnn_research.data import images
from dnn_research.errors import UserError, choose


@typing.runtime_checkable
class Protocol(typing.Protocol):
    """An evaluation protocol: from a decoded image to what the network sees."""

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

    The longer side is rounded to whole pixels; where the margins differ by one, the smaller one is above or left.
    """

    resize: int | None
    image_size: int

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
        return f"single_crop(shorter side {self.resize}, centre {self.image_size})"

    def __call__(self, image: np.ndarray, *, fill: np.ndarray) -> np.ndarray:
        del fill  # the rescaled image is never smaller than the crop
        height, width = image.shape[:2]
        scale = self.resize / min(height, width)
        image = images.resize(image, round(height * scale), round(width * scale))
        top = (image.shape[0] - self.image_size) // 2
        left = (image.shape[1] - self.image_size) // 2
        return np.ascontiguousarray(image[top : top + self.image_size, left : left + self.image_size])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Original:
    """The image as it is; centred on the mean colour when it is smaller than `image_size`."""

    image_size: int

    @property
    def description(self) -> str:
        return f"original({self.image_size})"

    def __call__(self, image: np.ndarray, *, fill: np.ndarray) -> np.ndarray:
        if max(image.shape[:2]) > self.image_size:
            raise UserError(
                f"the image has {image.shape[0]} x {image.shape[1]} pixels, the network takes {self.image_size}: "
                "set data.image_size, or eval.protocol to 'single_crop'"
            )
        return images.pad_to(image, self.image_size, self.image_size, fill)


PROTOCOLS: dict[str, type] = {
    "single_crop": SingleCrop,
    "original": Original,
}


def create(*, name: str, resize: int | None, image_size: int) -> Protocol:
    """The evaluation protocol of that name.

    Args:
        name: a key of PROTOCOLS.
        resize: length of the shorter side in pixels for 'single_crop'; 'original' has no use for it.
        image_size: height and width in pixels of what the network sees.

    Raises:
        UserError: there is no such protocol, or its sizes do not fit.
    """
    protocol = choose(PROTOCOLS, name, "eval.protocol")
    sizes = {"resize": resize, "image_size": image_size}
    return protocol(**{field.name: sizes[field.name] for field in dataclasses.fields(protocol)})
