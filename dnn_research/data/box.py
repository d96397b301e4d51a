"""A part of an image, and how it is asked for."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Box(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def bottom(self) -> int:
        """The first row below."""
        return self.top + self.height

    @property
    def right(self) -> int:
        """The first column on the right."""
        return self.left + self.width

    def of(self, image: np.ndarray) -> np.ndarray:
        """This part of [h, w, C], a view."""
        return image[self.top : self.bottom, self.left : self.right]


# From an image's height and width to the part of it that is needed.
Window = Callable[[int, int], Box]
