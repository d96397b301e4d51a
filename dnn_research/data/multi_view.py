"""Evaluation by several views of each image: the papers' sets of crops, and whole images by dense networks.

The network's softmax outputs are averaged over all views of an image, mirrored ones included. In a dense pass the
network runs over the whole rescaled image, and its class scores are averaged over all positions first, before the
softmax. So did Krizhevsky et al. 2012 (section 4.1), Szegedy et al. 2015 (section 7) and Simonyan and Zisserman 2015
(section 3.2); He et al. 2016 (section 4.1) "average the scores at multiple scales" and leave open of what kind, here as
Simonyan and Zisserman, whom they follow.

Differs from the papers: in a dense pass the longer side is cut to a multiple of some pixels, so that a data set of many
aspect ratios needs few compiled programs. Networks whose pools halve five times drop most of those pixels anyway.
"""

import dataclasses
import typing
from collections.abc import Iterable, Sequence

import numpy as np

from dnn_research.data import formats, images
from dnn_research.errors import UserError


@dataclasses.dataclass(frozen=True)
class Pass:
    """Views of one size of an image, and how the network sees them.

    Attributes:
        dense: whole images, by the network in its fully convolutional form; else crops of the network's own size.
        mirrored: each view is seen as it is and mirrored.
        share: what all of them together count in the mean over an image's views.
    """

    dense: bool
    mirrored: bool
    share: float


@typing.runtime_checkable
class MultiView(typing.Protocol):
    """An evaluation protocol by any number of views."""

    @property
    def description(self) -> str:
        """What is done, in a few words: it stands beside every reported accuracy."""
        ...

    @property
    def passes(self) -> tuple[Pass, ...]:
        """How the network sees the views; the shares add up to one."""
        ...

    def views(self, image: np.ndarray, *, fill: np.ndarray) -> tuple[np.ndarray, ...]:
        """The views of uint8 [h, w, C], without mirrored ones.

        Returns:
            For each pass uint8 [V, H, W, C]; crops have the same V, H and W for every image.
        """
        ...


class Crops:
    """Crops of the network's own size, each of them mirrored too."""

    @property
    def passes(self) -> tuple[Pass, ...]:
        return (Pass(dense=False, mirrored=True, share=1.0),)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TenCrop(Crops):
    """The four corners and the centre of the central square whose side is `resize` pixels, each mirrored too.

    Krizhevsky et al. 2012, section 4.1, whose images are such squares from the start (section 2).
    """

    resize: int | None = None
    image_size: int

    def __post_init__(self):
        check_lengths("ten_crop", "resize", [self.resize] if self.resize else None, self.image_size)

    @property
    def description(self) -> str:
        return (
            f"ten_crop(shorter side {self.resize}, central square, 4 corners and centre {self.image_size}, "
            "each also mirrored; mean of softmax)"
        )

    def views(self, image: np.ndarray, *, fill: np.ndarray) -> tuple[np.ndarray, ...]:
        del fill  # the rescaled image is never smaller than a crop
        assert self.resize is not None
        square = centre(rescale(image, self.resize), self.resize, self.resize)
        return (np.stack(corners_and_centre(square, self.image_size)),)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GoogLeNetCrops(Crops):
    """Szegedy et al. 2015, section 7: 36 crops for each scale, 144 in all.

    Of the image at each scale the left, central and right square (top, central and bottom of a portrait); of each
    square the four corners, the centre and the whole square at the size of a crop; each of these mirrored too.
    """

    scales: tuple[int, ...] = (256, 288, 320, 352)
    image_size: int

    def __post_init__(self):
        check_lengths("googlenet_crops", "scales", self.scales, self.image_size)

    @property
    def description(self) -> str:
        return (
            f"googlenet_crops(shorter side {listed(self.scales)}; 3 squares; 4 corners and centre {self.image_size}, "
            f"and the whole square; each also mirrored: {36 * len(self.scales)} crops; mean of softmax)"
        )

    def views(self, image: np.ndarray, *, fill: np.ndarray) -> tuple[np.ndarray, ...]:
        del fill  # the rescaled image is never smaller than a crop
        size, crops = self.image_size, []
        for side in self.scales:
            rescaled = rescale(image, side)
            for top, left in squares(rescaled.shape[0] - side, rescaled.shape[1] - side):
                square = rescaled[top : top + side, left : left + side]
                crops += [*corners_and_centre(square, size), images.resize(square, size, size)]
        return (np.stack(crops),)


@dataclasses.dataclass(frozen=True, kw_only=True)
class VGGCrops(Crops):
    """Simonyan and Zisserman 2015, section 3.2: a regular grid of 5 x 5 crops at each scale, each mirrored too.

    The grid spans the whole rescaled image; its places are rounded to whole pixels.
    """

    scales: tuple[int, ...] = (256, 384, 512)
    image_size: int

    def __post_init__(self):
        check_lengths("vgg_crops", "scales", self.scales, self.image_size)

    @property
    def description(self) -> str:
        return (
            f"vgg_crops(shorter side {listed(self.scales)}; 5 x 5 grid of {self.image_size}; each also mirrored: "
            f"{50 * len(self.scales)} crops; mean of softmax)"
        )

    def views(self, image: np.ndarray, *, fill: np.ndarray) -> tuple[np.ndarray, ...]:
        del fill  # the rescaled image is never smaller than a crop
        size, crops = self.image_size, []
        for scale in self.scales:
            rescaled = rescale(image, scale)
            tops, lefts = (np.rint(np.linspace(0, side - size, 5)).astype(int) for side in rescaled.shape[:2])
            crops += [rescaled[top : top + size, left : left + size] for top in tops for left in lefts]
        return (np.stack(crops),)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dense:
    """Whole images through the fully convolutional network, at one scale or several.

    Simonyan and Zisserman 2015, section 3.2; for networks that end in a mean over all positions, He et al. 2016,
    section 4.1: there the mean of the class scores over the positions is what the network computes anyway.

    Attributes:
        scales: lengths of the shorter side in pixels. VGG: one; or S - 32, S, S + 32; or 256, 384, 512. ResNet: 224,
            256, 384, 480, 640.
        image_size: of the crops that the network was trained on, which its first fully connected layer fits.
        flip: mirrored images too.
        multiple: the longer side is cut down around the centre to a multiple of so many pixels; 1 leaves it.
    """

    scales: tuple[int, ...] | None = None
    image_size: int
    flip: bool = True
    multiple: int = 32

    def __post_init__(self):
        check_lengths("dense", "scales", self.scales, self.image_size)
        if self.multiple < 1:
            raise UserError(f"eval.multiple is {self.multiple}: give a number of pixels, 1 to cut nothing")

    @property
    def description(self) -> str:
        cut = f", longer side cut to a multiple of {self.multiple}" if self.multiple > 1 else ""
        flip = ", also mirrored" if self.flip else ""
        mean = "; mean of softmax" if self.flip or len(self.scales or ()) > 1 else ""
        return (
            f"dense(shorter side {listed(self.scales or ())}{cut}{flip}; fully convolutional from {self.image_size}, "
            f"mean of scores over positions{mean})"
        )

    @property
    def passes(self) -> tuple[Pass, ...]:
        assert self.scales is not None
        return (Pass(dense=True, mirrored=self.flip, share=1 / len(self.scales)),) * len(self.scales)

    def views(self, image: np.ndarray, *, fill: np.ndarray) -> tuple[np.ndarray, ...]:
        del fill  # nothing is padded
        assert self.scales is not None
        found = []
        for scale in self.scales:
            rescaled = rescale(image, scale)
            height, width = (max(scale, side // self.multiple * self.multiple) for side in rescaled.shape[:2])
            found.append(centre(rescaled, height, width)[None])
        return tuple(found)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DenseAndCrops:
    """`Dense` and `VGGCrops` at the same scales: the mean of both results.

    Simonyan and Zisserman 2015, table 5; the defaults are its scales.
    """

    scales: tuple[int, ...] = (256, 384, 512)
    image_size: int
    flip: bool = True
    multiple: int = 32

    def __post_init__(self):
        for part in self._parts:
            part.__post_init__()

    @property
    def description(self) -> str:
        return f"dense_and_crops(mean of {' and '.join(part.description for part in self._parts)})"

    @property
    def passes(self) -> tuple[Pass, ...]:
        return tuple(dataclasses.replace(one, share=one.share / 2) for part in self._parts for one in part.passes)

    def views(self, image: np.ndarray, *, fill: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(stack for part in self._parts for stack in part.views(image, fill=fill))

    @property
    def _parts(self) -> tuple[Dense, VGGCrops]:
        return (
            Dense(scales=self.scales, image_size=self.image_size, flip=self.flip, multiple=self.multiple),
            VGGCrops(scales=self.scales, image_size=self.image_size),
        )


def rescale(image: np.ndarray, length: int) -> np.ndarray:
    """Resizes uint8 [h, w, C] so that its shorter side has `length` pixels; the longer one is rounded.

    Raises:
        UserError: it would have too many pixels, as of a line of one row.
    """
    scale = length / min(image.shape[:2])
    height, width = (round(side * scale) for side in image.shape[:2])
    if height * width > formats.MAX_PIXELS:
        raise UserError(
            f"an image of {image.shape[1]} x {image.shape[0]} pixels whose shorter side is made {length:,} would have "
            f"{width:,} x {height:,}, more than the {formats.MAX_PIXELS:,} that an image may have"
        )
    return images.resize(image, height, width)


def centre(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The central [height, width, C] of [h, w, C]; where margins differ by one, the smaller is above or left."""
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def corners_and_centre(square: np.ndarray, size: int) -> list[np.ndarray]:
    """The four corners and the centre of [h, w, C], each [size, size, C]."""
    ends = [(y, x) for y in (slice(None, size), slice(-size, None)) for x in (slice(None, size), slice(-size, None))]
    return [*(square[y, x] for y, x in ends), centre(square, size, size)]


def squares(below: int, right: int) -> Iterable[tuple[int, int]]:
    """Top and left of the three squares of an image that is `below` and `right` pixels longer; one of them is 0."""
    return [(0, 0), (below // 2, right // 2), (below, right)]


def check_lengths(protocol: str, key: str, lengths: Sequence[int] | None, image_size: int) -> None:
    """Raises UserError unless there are lengths of the shorter side, into all of which a crop fits."""
    if not lengths:
        raise UserError(f"eval.protocol '{protocol}' needs eval.{key}, the length of the shorter side in pixels")
    if min(lengths) < image_size:
        raise UserError(
            f"eval.{key} is {listed(lengths)}, less than the image size {image_size}: "
            "what the network was trained on must fit into the rescaled image"
        )


def listed(lengths: Sequence[int]) -> str:
    """'256' or '256, 384, 512'."""
    return ", ".join(str(length) for length in lengths)
