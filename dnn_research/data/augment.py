"""What happens to a training image, once for every time that it is shown.

Random crops after padding are those of the CIFAR experiments of He et al. 2016 (arXiv:1512.03385, section 4.2); the
random shorter side is scale augmentation as in section 3.4 there; the colour noise is from Krizhevsky et al. 2012
("ImageNet Classification with Deep Convolutional Neural Networks", section 4.1).

Differs from the papers: colour noise uses the published eigenvectors of facebook/fb.resnet.torch instead of those of
the training set at hand, and its eigenvalues act as standard deviations, as in Krizhevsky's own code.
"""

import dataclasses

import cv2
import numpy as np

from dnn_research.data import images
from dnn_research.errors import UserError

# facebook/fb.resnet.torch, datasets/imagenet.lua: rows are R, G, B; for pixels in 0..1, brought to 0..255 below.
PCA_EIGENVALUES = 255 * np.array([0.2175, 0.0188, 0.0045])
PCA_EIGENVECTORS = np.array(
    [
        [-0.5675, 0.7192, 0.4009],
        [-0.5808, -0.0045, -0.8140],
        [-0.5836, -0.6948, 0.4203],
    ]
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augment:
    """Augmentation of one image; every field at its default changes nothing.

    Attributes:
        pad: rows and columns put on each side before the random crop. They have the mean colour of the data set, which
            is what zeros are after mean subtraction (and within half a step of 0..255 of them, for it is rounded).
        shorter_side: the smallest and the largest length in pixels, both included, to which the shorter side is
            rescaled at random before the random crop; empty for no rescaling.
        flip: mirrors left and right with probability one half.
        pca_noise_std: standard deviation of the three factors of AlexNet's colour noise (0.1 in the paper); 0 for none.
    """

    pad: int = 0
    shorter_side: tuple[int, ...] = ()
    flip: bool = False
    pca_noise_std: float = 0.0

    def __post_init__(self):
        if self.pad < 0:
            raise UserError(f"data.augment.pad is {self.pad}: give the number of pixels, 0 or more")
        if self.pca_noise_std < 0:
            raise UserError(f"data.augment.pca_noise_std is {self.pca_noise_std}: give 0 or more (AlexNet: 0.1)")
        if self.shorter_side:
            if len(self.shorter_side) != 2 or self.shorter_side[0] > self.shorter_side[1]:
                raise UserError(
                    f"data.augment.shorter_side is {self.shorter_side}: give the smallest and the largest length, "
                    "such as (256, 480)"
                )
            if self.pad:
                raise UserError(
                    f"data.augment has both pad {self.pad} and shorter_side {self.shorter_side}: choose one of them"
                )

    def check(self, *, image_size: int, channels: int) -> None:
        """Raises UserError if images of this size and number of channels cannot be augmented so."""
        if self.shorter_side and self.shorter_side[0] < image_size:
            raise UserError(
                f"data.augment.shorter_side starts at {self.shorter_side[0]}, less than data.image_size {image_size}: "
                "a crop must fit into the rescaled image"
            )
        if self.pca_noise_std and channels != 3:
            raise UserError(
                f"data.augment.pca_noise_std is {self.pca_noise_std}, but data.channels is {channels}: "
                "colour noise needs 3 channels; set it to 0"
            )

    def __call__(
        self, image: np.ndarray, rng: np.random.Generator, *, image_size: int, fill: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Augments one image.

        Args:
            image: uint8 [h, w, C]; one smaller than `image_size` is centred on the mean colour first.
            rng: the only source of randomness.
            image_size: height and width of the result in pixels.
            fill: uint8 [C], the mean colour.

        Returns:
            `image` uint8 [image_size, image_size, C] and, with colour noise, `color_shift` float32 [C]: what is to be
            added to every pixel, in units of 0..255.

        Raises:
            UserError: the image is larger than `image_size` and nothing says how to get it there.
        """
        if self.shorter_side:
            image = random_scaled_crop(image, rng, shorter_side=self.shorter_side, image_size=image_size)
        else:
            if max(image.shape[:2]) > image_size:
                raise UserError(
                    f"the image has {image.shape[0]} x {image.shape[1]} pixels, data.image_size is {image_size}: "
                    f"set data.augment.shorter_side (for example to ({image_size}, {image_size})) or data.image_size"
                )
            image = images.pad_to(image, image_size, image_size, fill)
            if self.pad:
                image = images.pad(image, (self.pad, self.pad), (self.pad, self.pad), fill)
                top, left = rng.integers(0, 2 * self.pad + 1, size=2)
                image = image[top : top + image_size, left : left + image_size]
        if self.flip and rng.random() < 0.5:
            image = np.asarray(cv2.flip(image, 1)).reshape(image.shape)
        augmented = {"image": np.ascontiguousarray(image)}
        if self.pca_noise_std:
            augmented["color_shift"] = pca_noise(rng, std=self.pca_noise_std)
        return augmented


def random_scaled_crop(
    image: np.ndarray, rng: np.random.Generator, *, shorter_side: tuple[int, ...], image_size: int
) -> np.ndarray:
    """Rescales the shorter side of uint8 [h, w, C] to a random length and crops a random square of `image_size`.

    It does so in the other order, because then only the crop is resized: takes the square that the crop covers in the
    original image, its side rounded to whole pixels, and resizes that.
    """
    height, width = image.shape[:2]
    length = int(rng.integers(shorter_side[0], shorter_side[1] + 1))
    side = max(1, round(image_size * min(height, width) / length))
    top = int(rng.integers(0, height - side + 1))
    left = int(rng.integers(0, width - side + 1))
    return images.resize(image[top : top + side, left : left + side], image_size, image_size)


def pca_noise(rng: np.random.Generator, *, std: float) -> np.ndarray:
    """AlexNet's colour noise [p1 p2 p3][a1 l1, a2 l2, a3 l3]^T with a ~ N(0, std): float32 [3], units of 0..255."""
    factors = rng.normal(0.0, std, size=3)
    return (PCA_EIGENVECTORS @ (factors * PCA_EIGENVALUES)).astype(np.float32)
