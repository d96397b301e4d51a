"""Two training examples in one, with two labels: mixup and cutmix.

Mixup: Zhang, Cisse, Dauphin, Lopez-Paz 2017 (arXiv:1710.09412): lam times an example and 1 - lam times another, lam
from Beta(alpha, alpha). Cutmix: Yun et al. 2019 (arXiv:1905.04899): a rectangle of an example comes from another one;
lam is the share of what stays.

The partner of an example is the one half a global batch further on, so pairs are mixed both ways round: a random one,
because the stream is shuffled. A process that holds the examples p, p + n, p + 2n, ... of a global batch holds both
partners whenever its share is even, and they stand half a share apart: whatever the number of processes, nothing is
loaded twice and the mixed batch is the same. What is drawn follows from the example's own place in the stream.

Differs from the papers: lam is drawn for every example instead of for every batch, and a mixed image is rounded to
whole values. Colour noise is drawn for the image that is shown, so it is added after mixing.
"""

import math
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np


def draw(
    rng: np.random.Generator, *, mixup_alpha: float, cutmix_alpha: float, probability: float, image_size: int
) -> dict[str, Any]:
    """How an example is mixed with its partner.

    Args:
        rng: the only source of randomness.
        mixup_alpha: of mixup's Beta distribution; 0 for no mixup.
        cutmix_alpha: the same for cutmix. With both, each is taken half the time.
        probability: that the example is mixed at all.
        image_size: height and width in pixels.

    Returns:
        `lam` float32, the share of the example itself, 1 when it is not mixed; `mix_box` int32 [4], first and last row
        and column (the last ones excluded) of what the partner gives, empty when all of it is mixed in.
    """
    box = np.zeros(4, np.int32)
    if rng.random() >= probability:
        return {"lam": np.float32(1), "mix_box": box}
    if mixup_alpha and not (cutmix_alpha and rng.random() < 0.5):
        return {"lam": np.float32(rng.beta(mixup_alpha, mixup_alpha)), "mix_box": box}
    half = int(image_size * math.sqrt(1 - rng.beta(cutmix_alpha, cutmix_alpha))) // 2
    row, column = rng.integers(0, image_size, size=2).tolist()
    # Cut off at the image's edges, which is why lam is counted afterwards, as in the authors' code.
    box[:] = np.clip([row - half, row + half, column - half, column + half], 0, image_size)
    return {"lam": np.float32(1 - (box[1] - box[0]) * (box[3] - box[2]) / image_size**2), "mix_box": box}


def mix(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Mixes each example of a batch with its partner, half a batch further on.

    Args:
        batch: `image` uint8 [B, H, W, C] and `label` int32 [B], B even, with what `draw` gave; the rest stays.

    Returns:
        The batch with mixed images, `label2` int32 [B], the partners' labels, and `lam` float32 [B], the share of
        `label`; without `mix_box`.
    """
    images, boxes, lams = batch["image"], batch["mix_box"], batch["lam"]
    partners = np.roll(np.arange(len(images)), -(len(images) // 2))
    mixed = np.empty_like(images)
    for i, (partner, (top, bottom, left, right), lam) in enumerate(zip(partners, boxes, lams.tolist(), strict=True)):
        if bottom > top and right > left:
            mixed[i] = images[i]
            mixed[i, top:bottom, left:right] = images[partner, top:bottom, left:right]
        else:
            own, other = (image.reshape(len(image), -1) for image in (images[i], images[partner]))
            mixed[i] = np.asarray(cv2.addWeighted(own, lam, other, 1 - lam, 0)).reshape(images[i].shape)
    rest = {name: array for name, array in batch.items() if name != "mix_box"}
    return {**rest, "image": mixed, "label2": batch["label"][partners]}
