"""Data sets made from pictures inside installed packages: real images with nothing to download.

They are TFDS builders, so that what is read here is read as every other data set is.
"""

from dnn_research.data.builtin.digits import Digits, Mnist5k
from dnn_research.data.builtin.photo_patches import PhotoPatches

BUILDERS: dict[str, type] = {
    "mnist5k": Mnist5k,
    "digits": Digits,
    "photo_patches": PhotoPatches,
}
