"""The files and crops that input pipelines are compared on; standard library alone, for the peer, too.

Crops are those of GoogLeNet's training (Szegedy et al. 2014, arXiv:1409.4842, section 6): 8 to 100 % of the area, an
aspect ratio between 3/4 and 4/3.
"""

from pathlib import Path

HEIGHT, WIDTH = 375, 500
CROPPED = 224
AREA, ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)
# Drawings of a crop until one fits into the image.
TRIES = 10


def names(folder: Path) -> list[str]:
    """The JPEG files of a folder, in order."""
    return sorted(str(path) for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg"))
