"""What happens to a training image, once for every time that it is shown.

The items are those of the papers, each with its source where it is done: crops and movements in `geometry`, colours in
`color`, `randaugment`, `erasing`, and `mixing` of two examples. Random crops after padding are those of the CIFAR
experiments of He et al. 2016 (arXiv:1512.03385, section 4.2), the random shorter side is scale augmentation as in
section 3.4 there and in Simonyan, Zisserman 2015 (arXiv:1409.1556, section 3.1).
"""

import dataclasses
import math

import numpy as np

from dnn_research.data import images
from dnn_research.data.augment import color, erasing, geometry, mixing, randaugment
from dnn_research.data.augment.color import ColorBasis
from dnn_research.data.box import Box
from dnn_research.errors import UserError, choose

PCA_BASES = ("imagenet", "train")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augment:
    """Augmentation of one image; every field at its default changes nothing.

    The order is that of the fields. An item that is switched off draws no random numbers.

    Attributes:
        central_square: takes the central square of the image first, as AlexNet's 256x256 images are cut.
        pad: rows and columns put on each side before the random crop. They have the mean colour of the data set, which
            is what zeros are after mean subtraction (and within half a step of 0..255 of them, for it is rounded).
        shorter_side: the smallest and the largest length in pixels, both included, to which the shorter side is
            rescaled at random before the random crop; empty for no rescaling.
        area: the smallest and the largest share of the image's area that a random crop covers, which is then resized
            (GoogLeNet: 0.08 to 1); empty for none.
        aspect: the smallest and the largest ratio of width to height of that crop (GoogLeNet: 3/4 to 4/3).
        interpolation: of these two crops: 'bilinear', 'nearest', 'area', 'bicubic', or 'random' for one of the four.
        flip: mirrors left and right with probability one half.
        rotation_degrees: the largest random rotation of the crop, in both directions; outside is the mean colour.
        vertical_shift, horizontal_shift: the largest random shift in both directions, a share of the height or width.
        zoom: the smallest and the largest random factor; empty for none.
        brightness, contrast, saturation: random factors of at most this much below and above 1, in random order.
        hue: the largest random turn of the hues, a share of their circle up to 0.5.
        randaugment_ops: so many operations of RandAugment (ImageNet, ResNet-50: 2); 0 for none.
        randaugment_magnitude: their strength, 0..10 (ImageNet, ResNet-50: 9).
        erasing_probability: that a random rectangle becomes noise.
        erasing_area: the smallest and the largest share of the image that it covers.
        pca_noise_std: standard deviation of the three factors of AlexNet's colour noise (0.1 in the paper); 0 for none.
        pca_basis: whose principal components: 'imagenet', as they are published, or 'train': the training split's own.
        mixup_alpha, cutmix_alpha: examples are mixed in pairs, see `mixing`; 0 for none.
        mix_probability: the share of the examples that are.
    """

    central_square: bool = False
    pad: int = 0
    shorter_side: tuple[int, ...] = ()
    area: tuple[float, ...] = ()
    aspect: tuple[float, ...] = (3 / 4, 4 / 3)
    interpolation: str = "bilinear"
    flip: bool = False
    rotation_degrees: float = 0.0
    vertical_shift: float = 0.0
    horizontal_shift: float = 0.0
    zoom: tuple[float, ...] = ()
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    randaugment_ops: int = 0
    randaugment_magnitude: float = 9.0
    erasing_probability: float = 0.0
    erasing_area: tuple[float, ...] = (0.02, 0.4)
    pca_noise_std: float = 0.0
    pca_basis: str = "imagenet"
    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0
    mix_probability: float = 1.0

    def __post_init__(self):
        if self.pad < 0:
            raise UserError(f"data.augment.pad is {self.pad}: give the number of pixels, 0 or more")
        if self.pca_noise_std < 0:
            raise UserError(f"data.augment.pca_noise_std is {self.pca_noise_std}: give 0 or more (AlexNet: 0.1)")
        _check_range("shorter_side", self.shorter_side, math.inf, "(256, 480)")
        _check_range("area", self.area, 1, "(0.08, 1.0)")
        _check_range("aspect", self.aspect, math.inf, "(0.75, 1.333)", optional=not self.area)
        _check_range("zoom", self.zoom, math.inf, "(0.9, 1.1)")
        _check_range("erasing_area", self.erasing_area, 1, "(0.02, 0.4)", optional=not self.erasing_probability)
        crops = [name for name in ("pad", "shorter_side", "area") if getattr(self, name)]
        if len(crops) > 1:
            given = " and ".join(f"{name} {getattr(self, name)}" for name in crops)
            raise UserError(f"data.augment has {given}: choose one of them")
        choose({**geometry.INTERPOLATIONS, geometry.RANDOM: None}, self.interpolation, "data.augment.interpolation")
        choose(dict.fromkeys(PCA_BASES), self.pca_basis, "data.augment.pca_basis")
        limits = {
            **dict.fromkeys(("brightness", "contrast", "saturation", "mixup_alpha", "cutmix_alpha"), math.inf),
            **dict.fromkeys(("vertical_shift", "horizontal_shift", "erasing_probability", "mix_probability"), 1),
            "rotation_degrees": 180,
            "hue": 0.5,
            "randaugment_ops": math.inf,
            "randaugment_magnitude": randaugment.LARGEST,
        }
        for name, most in limits.items():
            value = getattr(self, name)
            if not 0 <= value <= most:
                allowed = "0 or more" if most == math.inf else f"a number from 0 to {most}"
                raise UserError(f"data.augment.{name} is {value}: give {allowed}")

    @property
    def mixes(self) -> bool:
        """Whether examples are mixed in pairs."""
        return self.mixup_alpha > 0 or self.cutmix_alpha > 0

    @property
    def needs_own_basis(self) -> bool:
        """Whether the principal components are those of the training split."""
        return self.pca_noise_std > 0 and self.pca_basis == "train"

    def check(self, *, image_size: int, channels: int) -> None:
        """Raises UserError if images of this size and number of channels cannot be augmented so."""
        if self.shorter_side and self.shorter_side[0] < image_size:
            raise UserError(
                f"data.augment.shorter_side starts at {self.shorter_side[0]}, less than data.image_size {image_size}: "
                "a crop must fit into the rescaled image"
            )
        for name in ("pca_noise_std", "saturation", "hue"):
            if getattr(self, name) and channels != 3:
                raise UserError(
                    f"data.augment.{name} is {getattr(self, name)}, but data.channels is {channels}: "
                    "it needs 3 channels; set it to 0"
                )

    def __call__(
        self,
        image: np.ndarray,
        rng: np.random.Generator,
        *,
        image_size: int,
        fill: np.ndarray,
        color_basis: ColorBasis | None = None,
        box: Box | None = None,
        out: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """Augments one image.

        Args:
            image: uint8 [h, w, C]; one smaller than `image_size` is centred on the mean colour first.
            rng: the only source of randomness.
            image_size: height and width of the result in pixels.
            fill: uint8 [C], the mean colour.
            color_basis: where `needs_own_basis`, the training split's; None for ImageNet's.
            box: where the augmentation `cuts`, what `box` drew of the whole image, of which no more may be there; None:
                it is drawn here.
            out: uint8 [image_size, image_size, C], where the image may be made.

        Returns:
            `image` uint8 [image_size, image_size, C]; with colour noise `color_shift` float32 [C]: what is to be added
            to every pixel, in units of 0..255; where examples are mixed, what `mixing.draw` gives.

        Raises:
            UserError: the image is larger than `image_size` and nothing says how to get it there.
        """
        image = self._crop(image, rng, image_size, fill, box)
        interpolation = geometry.draw_interpolation(self.interpolation, rng) if self.cuts else None
        mirrored = self.flip and rng.random() < 0.5
        if interpolation is not None:
            image = geometry.resize(image, image_size, interpolation, out=None if mirrored else out)
        if mirrored:
            image = images.mirror(image, out=out)
        if self.rotation_degrees or self.vertical_shift or self.horizontal_shift or self.zoom:
            image = geometry.random_affine(
                image,
                rng,
                fill=fill,
                rotation_degrees=self.rotation_degrees,
                vertical_shift=self.vertical_shift,
                horizontal_shift=self.horizontal_shift,
                zoom=self.zoom,
            )
        if self.brightness or self.contrast or self.saturation or self.hue:
            image = color.jitter(
                image,
                rng,
                brightness=self.brightness,
                contrast=self.contrast,
                saturation=self.saturation,
                hue=self.hue,
            )
        if self.randaugment_ops:
            image = randaugment.apply(
                image, rng, ops=self.randaugment_ops, magnitude=self.randaugment_magnitude, fill=fill
            )
        if self.erasing_probability:
            image = erasing.erase(image, rng, probability=self.erasing_probability, area=self.erasing_area)
        augmented = {"image": np.ascontiguousarray(image)}
        if self.pca_noise_std:
            basis = color.IMAGENET_BASIS if color_basis is None else color_basis
            augmented["color_shift"] = color.pca_noise(rng, std=self.pca_noise_std, basis=basis)
        if self.mixes:
            augmented |= mixing.draw(
                rng,
                mixup_alpha=self.mixup_alpha,
                cutmix_alpha=self.cutmix_alpha,
                probability=self.mix_probability,
                image_size=image_size,
            )
        return augmented

    def without_chance(self, image: np.ndarray, *, image_size: int, fill: np.ndarray) -> np.ndarray:
        """What of an image is shown on average: the central crop, neither moved nor coloured.

        Args:
            image: uint8 [h, w, C].
            image_size: height and width of the result in pixels.
            fill: uint8 [C], the mean colour.

        Returns:
            uint8 [image_size, image_size, C]: of an image that is rescaled the centre at the smallest `shorter_side`,
            with `area` the central square; else the image as it is, centred on the mean colour.
        """
        if not self.cuts:
            if self.central_square:
                image = geometry.central_box(*image.shape[:2]).of(image)
            return images.pad_to(self._fitting(image, image_size), image_size, image_size, fill)
        image = geometry.central_box(*image.shape[:2]).of(image)
        length = self.shorter_side[0] if self.shorter_side else image_size
        side = max(1, round(image_size * len(image) / length))
        top = (len(image) - side) // 2
        return images.resize(image[top : top + side, top : top + side], image_size, image_size)

    @property
    def cuts(self) -> bool:
        """Whether a random part of the image is cut out, whatever its size, and resized."""
        return bool(self.shorter_side or self.area)

    def box(self, rng: np.random.Generator, height: int, width: int, *, image_size: int) -> Box:
        """Draws the part of an image that is cut out, where one is; the first that is drawn of an image."""
        if self.central_square:
            square = geometry.central_box(height, width)
            box = self._box(rng, square.height, square.width, image_size)
            return box._replace(top=square.top + box.top, left=square.left + box.left)
        return self._box(rng, height, width, image_size)

    def _box(self, rng: np.random.Generator, height: int, width: int, image_size: int) -> Box:
        if self.shorter_side:
            return geometry.scaled_box(height, width, rng, shorter_side=self.shorter_side, image_size=image_size)
        return geometry.area_box(height, width, rng, area=self.area, aspect=self.aspect)

    def _crop(
        self,
        image: np.ndarray,
        rng: np.random.Generator,
        image_size: int,
        fill: np.ndarray,
        box: Box | None,
    ) -> np.ndarray:
        """The part of the image that is shown, not yet resized where it `cuts`."""
        if self.cuts:
            box = box or self.box(rng, image.shape[0], image.shape[1], image_size=image_size)
            return box.of(image)
        if self.central_square:
            image = geometry.central_box(*image.shape[:2]).of(image)
        image = images.pad_to(self._fitting(image, image_size), image_size, image_size, fill)
        if self.pad:
            image = images.pad(image, (self.pad, self.pad), (self.pad, self.pad), fill)
            top, left = rng.integers(0, 2 * self.pad + 1, size=2)
            image = image[top : top + image_size, left : left + image_size]
        return image

    def _fitting(self, image: np.ndarray, image_size: int) -> np.ndarray:
        """The image, which must not be larger than `image_size`."""
        if max(image.shape[:2]) > image_size:
            raise UserError(
                f"the image has {image.shape[0]} x {image.shape[1]} pixels, data.image_size is {image_size}: "
                f"set data.augment.shorter_side (for example to ({image_size}, {image_size})) or data.image_size"
            )
        return image


def _check_range(name: str, values: tuple[float, ...], most: float, example: str, *, optional: bool = True) -> None:
    """Raises UserError unless there are two values in order, above 0 and up to `most`, or none where none may be."""
    if (values or not optional) and not (len(values) == 2 and 0 < values[0] <= values[1] <= most):
        raise UserError(f"data.augment.{name} is {values}: give the smallest and the largest, such as {example}")
