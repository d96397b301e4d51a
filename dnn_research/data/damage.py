"""Damaged examples: what counts as one, and what stands in its place.

An example is damaged when its bytes were read and cannot be right: a record that fails its checksum, an image that does
not decode. A file that cannot be read at all is not damage but a failure of the machine, and always stops the run.
"""

import logging

import numpy as np

from dnn_research.data.box import Window
from dnn_research.data.sources import Decoded, Examples
from dnn_research.errors import UserError

POLICIES = ("stop", "skip")

# So many damaged examples in a row are no accident.
MAX_DRAWS = 32


class DamagedExample(UserError):
    """The bytes of one example are damaged; the message says where and how."""


class Reader:
    """Reads the examples of a split, and says of each damaged one where it is: by an exception, or once in the log.

    Args:
        examples: the split.
        description: of it, for messages.
        skip: whether damaged examples are left out instead of ending the run.
    """

    def __init__(self, examples: Examples, *, description: str, skip: bool):
        self._examples = examples
        self._decoded = examples if isinstance(examples, Decoded) else None
        self._description = description
        self._skip = skip
        self._reported: set[int] = set()
        # Those that were decoded whole and are sound. Only of these parts are decoded, where not all damage shows.
        self._sound = np.zeros(len(examples), bool)

    def __len__(self) -> int:
        return len(self._examples)

    @property
    def left_out(self) -> int:
        """How many damaged examples were met and skipped so far."""
        return len(self._reported)

    def read(self, index: int, window: Window | None = None) -> tuple[np.ndarray, int] | None:
        """The image and label of an example; None if it is damaged and is to be skipped.

        Args:
            index: of the example.
            window: if given, called once with the height and width of an image that is returned; of one that was whole
                before, no more may be there than is needed.
        """
        try:
            if window is not None and self._decoded is not None and self._sound[index]:
                return self._decoded.read_window(index, window)
            image, label = self._examples[index]
            self._sound[index] = True
            if window is not None:
                window(*image.shape[:2])
            return image, label
        except DamagedExample as error:
            if not self._skip:
                raise DamagedExample(f"{self.place(index)}: {error}; data.damaged=skip goes on without it") from error
            if index not in self._reported:
                self._reported.add(index)
                logging.getLogger(__name__).warning("Left out: %s: %s", self.place(index), error)
            return None
        except UserError as error:
            raise UserError(f"{self.place(index)}: {error}") from error

    def read_or_substitute(
        self, index: int, rng: np.random.Generator, window: Window | None = None
    ) -> tuple[np.ndarray, int, int]:
        """The image and label of an example, or of another one if it is damaged and is to be skipped; and which it is.

        Every example is equally likely to stand in, so that skipping favours none; which one it is follows from `rng`
        alone, which belongs to the place in the stream and is not touched where nothing is damaged.
        """
        drawn = index
        for _ in range(1 + MAX_DRAWS):
            example = self.read(drawn, window)
            if example is not None:
                return *example, drawn
            drawn = int(rng.integers(len(self)))
        raise UserError(
            f"{self.place(index)} and {MAX_DRAWS} others drawn in its place are damaged: look at the files; "
            "so many are no accident"
        )

    def place(self, index: int) -> str:
        """How an example is called in messages."""
        return f"example {index} of {self._description}"
